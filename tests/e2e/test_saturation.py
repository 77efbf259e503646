"""Everything is taken: the bound is the bound, and whoever watches over us is still answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config.schema import Generation, Queue
from tests.backends.fake_engine import Pause
from tests.e2e.house import ANY_WAIT, Answer, House, http_chat, opened, say, until
from tests.e2e.ollama import HELLO, ScriptedOllama
from tests.web.raw import HANG_S, Client


@asynccontextmanager
async def full(engine: ScriptedOllama) -> AsyncIterator[tuple[House, Pause, list[Client]]]:
    """One runs until it may go on, three wait, a stream among them; there is no more room."""
    hold = Pause()
    engine.play(hold, HELLO)
    queue = Queue(max_queue_size=3)
    async with opened(engine, queue=queue, scheduling=ANY_WAIT) as house, asyncio.timeout(HANG_S):
        clients = [await house.send(http_chat(say("running")))]
        await engine.wait_asked(1)
        for number in range(3):
            clients.append(
                await house.send(http_chat(say(f"waiting {number}", stream=number == 1)))
            )
            await until(lambda: house.daemon.queue.qsize() == len(clients) - 1)
        yield house, hold, clients


async def status_line(client: Client) -> bytes:
    return await client.reader.readuntil(b"\r\n")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_one_too_many_is_refused_and_nobody_else_is_harmed(
    engine: ScriptedOllama, stream: bool
) -> None:
    async with full(engine) as (house, hold, clients):
        refused = await house.chat(say("hi", stream=stream))
        assert (refused.status, refused.error["code"]) == (503, "queue_full")
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        metrics = await house.metrics()
        assert metrics["request_queue_depth"] == 3
        assert metrics["active_requests"] == 4
        assert metrics['gateway_rejected_total{reason="queue_full"}'] == 1
        assert metrics['inference_errors_total{type="queue_full"}'] == 1
        hold.go.set()
        for client in clients:
            assert await status_line(client) == b"HTTP/1.1 200 OK\r\n"
        await house.told.wait(5)
        house.assert_at_rest()
        assert engine.chats == 4


async def test_they_are_served_in_the_order_in_which_they_came(engine: ScriptedOllama) -> None:
    async with full(engine) as (house, hold, _):
        hold.go.set()
        await house.told.wait(4)
    asked = [json.loads(request.body)["messages"][0]["content"] for request in engine.requests]
    assert asked == ["running", "waiting 0", "waiting 1", "waiting 2"]


async def test_health_answers_while_all_is_taken(engine: ScriptedOllama) -> None:
    """Slots, queue, and two hundred idle connections."""
    async with full(engine) as (house, _, _clients):
        for _ in range(200):
            await house.connect()
        assert (await house.get("/health")).status == 200
        assert (await house.get("/metrics")).status == 200


def reason(reply: Answer) -> str:
    assert reply.status == 503
    assert reply.document["ready"] is False
    assert reply.document["detail"]
    return str(reply.document["reason"])


async def test_it_is_ready_when_a_request_has_a_chance(engine: ScriptedOllama) -> None:
    async with full(engine) as (house, hold, _):
        assert reason(await house.get("/ready")) == "queue_full"
        hold.go.set()
        await house.told.wait(4)
        reply = await house.get("/ready")
    assert (reply.status, reply.document) == (200, {"ready": True})


async def test_it_is_not_ready_without_a_backend() -> None:
    async with ScriptedOllama() as engine:
        pass
    async with opened(engine, up=False) as house:
        assert reason(await house.get("/ready")) == "backend"
        assert (await house.get("/health")).status == 200


@pytest.mark.slow
async def test_it_is_not_ready_before_the_model_is_warm(engine: ScriptedOllama) -> None:
    loading = Pause()
    engine.play(loading, HELLO)
    async with opened(engine, generation=Generation(warm_up=True)) as house:
        async with asyncio.timeout(HANG_S):
            await loading.reached.wait()
        assert reason(await house.get("/ready")) == "warming_up"
        loading.go.set()
        await until(lambda: house.daemon.warm_up.done)
        assert (await house.get("/ready")).status == 200
        assert (await house.metrics())["model_loaded"] == 1


async def test_it_is_not_ready_while_it_drains(engine: ScriptedOllama) -> None:
    async with full(engine) as (house, hold, _):
        house.daemon.service.begin_drain()
        assert reason(await house.get("/ready")) == "draining"
        refused = await house.chat(say("hi"))
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await house.get("/health")).status == 200
        hold.go.set()
        await house.daemon.service.wait_idle()
        exchanges = await house.told.wait(6)
    answered = [exchange.status for exchange in exchanges if exchange.record is not None]
    assert sorted(answered) == [200, 200, 200, 200, 503]
