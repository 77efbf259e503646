"""A client that goes away frees all that was held for it, wherever its request was (B19)."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from gateway.config.schema import Queue, Timeouts
from tests.backends.fake_engine import HANG, Pause, chunk, head
from tests.e2e.house import ANY_WAIT, House, http_chat, http_post, opened, say, until
from tests.e2e.ollama import HELLO, ScriptedOllama, line
from tests.web.raw import HANG_S, Client

PARTLY: Final = head() + chunk(line("hel"))


def reset(client: Client) -> None:
    client.writer.transport.abort()


def close(client: Client) -> None:
    client.writer.close()


def half_close(client: Client) -> None:
    client.writer.write_eof()


LEAVING: Final = (reset, close, half_close)

Leave = Callable[[Client], None]


async def assert_told(house: House, phase: str, *, place: int = 0) -> None:
    """One record, one line, one count; and whoever comes next is served."""
    exchanges = await house.told.wait(place + 1)
    exchange = exchanges[place]
    assert exchange.status == 499
    record = exchange.record
    assert record is not None
    assert (record.outcome, record.status, record.phase) == ("cancelled", 499, phase)
    log_line = house.request_lines()[place]
    assert (log_line["status"], log_line["reason"]) == (499, "client_gone")
    metrics = await house.metrics()
    assert metrics[f'gateway_client_gone_total{{phase="{phase}"}}'] == 1
    assert metrics['inference_errors_total{type="client_gone"}'] == 1
    assert metrics["gateway_requests_cancelled_total"] == 1
    assert not any("upstream_errors" in name and value for name, value in metrics.items())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("leave", LEAVING)
async def test_while_it_waits_for_the_first_token(
    engine: ScriptedOllama, leave: Leave, stream: bool
) -> None:
    engine.play(HANG)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(say("hi", stream=stream)))
        await engine.wait_asked(1)
        leave(client)
        await engine.gone.wait()
        await assert_told(house, "waiting")
        house.assert_at_rest()
        assert (await house.chat(say("hi"))).status == 200


@pytest.mark.parametrize("leave", LEAVING)
async def test_while_it_streams(engine: ScriptedOllama, leave: Leave) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(say("hi", stream=True)))
        await client.reader.readuntil(b'"hel"')
        leave(client)
        await engine.gone.wait()
        await assert_told(house, "streaming")
        house.assert_at_rest()
        assert (await house.chat(say("hi"))).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("leave", LEAVING)
async def test_while_it_is_queued(engine: ScriptedOllama, leave: Leave, stream: bool) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    queue = Queue(max_queue_size=1)
    async with opened(engine, queue=queue, scheduling=ANY_WAIT) as house, asyncio.timeout(HANG_S):
        running = await house.send(http_chat(say("first")))
        await engine.wait_asked(1)
        client = await house.send(http_chat(say("second", stream=stream)))
        await until(lambda: house.daemon.queue.qsize() == 1)
        assert (await house.chat(say("no room"))).status == 503
        leave(client)
        await assert_told(house, "queued", place=1)
        assert house.daemon.queue.qsize() == 0

        third = await house.send(http_chat(say("third")))
        await until(lambda: house.daemon.queue.qsize() == 1)
        hold.go.set()
        assert (await running.some()).status == 200
        assert (await third.some()).status == 200
        assert engine.chats == 2
        house.assert_at_rest()


async def test_while_its_body_is_read() -> None:
    head = http_post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 100")
    async with opened() as house, asyncio.timeout(HANG_S):
        client = await house.send(head)
        assert (await client.some()).status == 100
        reset(client)
        (exchange,) = await house.told.wait(1)
        assert (exchange.status, exchange.record) == (499, None)
        (log_line,) = house.request_lines()
        assert log_line["reason"] == "client_gone"
        metrics = await house.metrics()
        assert metrics['gateway_client_gone_total{phase="reading"}'] == 1
        house.assert_at_rest()


async def test_while_it_wants_several_answers(engine: ScriptedOllama) -> None:
    engine.play(HELLO)
    engine.play(PARTLY, HANG)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(say("hi", n=3, stream=True)))
        await engine.wait_asked(2)
        reset(client)
        await engine.gone.wait()
        await assert_told(house, "streaming")
        house.assert_at_rest()
        assert engine.chats == 2


async def test_a_client_that_never_reads_is_cut_off(engine: ScriptedOllama) -> None:
    """W4: it is taken for gone when it has taken nothing for the write timeout."""
    engine.play(head(), *[chunk(line("x" * 60_000))] * 200, HANG)
    timeouts = Timeouts(write_timeout_seconds=0.2)
    async with opened(engine, timeouts=timeouts) as house, asyncio.timeout(HANG_S):
        await house.send(http_chat(say("hi", stream=True)))
        await engine.gone.wait()
        await assert_told(house, "streaming")
        house.assert_at_rest()
        metrics = await house.metrics()
        assert metrics["gateway_write_stalls_total"] == 1
        assert metrics['gateway_connections_closed_total{reason="write_stall"}'] == 1


async def test_all_at_once(engine: ScriptedOllama) -> None:
    """Fifty that wait, one that runs: nothing of them is left."""
    engine.play(HANG)
    async with opened(engine, scheduling=ANY_WAIT) as house, asyncio.timeout(HANG_S):
        clients = [
            await house.send(http_chat(say("hi", stream=bool(number % 2)))) for number in range(51)
        ]
        await until(lambda: house.daemon.queue.qsize() == 50)
        for client in clients:
            reset(client)
        await house.told.wait(51)
        await engine.gone.wait()
        house.assert_at_rest()
        assert engine.chats == 1
        metrics = await house.metrics()
        assert metrics["gateway_requests_accepted_total"] == 51
        assert metrics["gateway_requests_cancelled_total"] == 51
        assert (await house.chat(say("hi"))).status == 200
