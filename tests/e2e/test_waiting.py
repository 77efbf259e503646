"""What a client is told while its request waits: comments in its stream, and what it can ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest

from gateway.config.schema import Auth, Queue, Scheduling
from gateway.core.errors import ShuttingDown
from gateway.web import streams
from tests.backends.fake_engine import HANG, RESET, Pause, chunk, head
from tests.e2e.house import (
    CHAT,
    Answer,
    House,
    http_chat,
    opened,
    say,
    short,
    streamed,
    until,
)
from tests.e2e.ollama import HELLO, ScriptedOllama, error, line
from tests.e2e.test_openai_python import HI, client_of
from tests.web.raw import HANG_S, Client

OFTEN: Final = Scheduling(progress_seconds=0.02)
NEVER: Final = Scheduling(progress_seconds=0.0)

QUEUED: Final = b": queued 1, about 1 s\n\n"


@asynccontextmanager
async def one_runs(
    engine: ScriptedOllama, scheduling: Scheduling = OFTEN, **tables: Any
) -> AsyncIterator[tuple[House, Pause]]:
    """The only slot is taken until the pause is over."""
    hold = Pause()
    engine.play(hold, HELLO)
    async with opened(engine, scheduling=scheduling, **tables) as house, asyncio.timeout(HANG_S):
        running = await house.send(http_chat(short("running")))
        await engine.wait_asked(1)
        try:
            yield house, hold
        finally:
            hold.go.set()
            await running.some()


@attrs.define(eq=False)
class Waiting:
    """A stream, and what has come of it."""

    client: Client
    received: bytes = b""

    async def until(self, said: bytes) -> None:
        """Until this was said once more."""
        self.received += await self.client.reader.readuntil(said)

    async def answer(self) -> Answer:
        """All of it."""
        return streamed(self.received + await self.client.rest())


async def waiting(house: House, *headers: str) -> Waiting:
    """A stream that waits for a slot, and has been told so."""
    body = short("waiting", stream=True)
    waiting = Waiting(await house.send(http_chat(body, "Connection: close", *headers)))
    await waiting.until(QUEUED)
    return waiting


# --- Comments -----------------------------------------------------------------


async def test_a_stream_is_told_its_place_again_and_again_and_then_gets_all(
    engine: ScriptedOllama,
) -> None:
    async with one_runs(engine) as (house, hold):
        told = await waiting(house)
        for _ in range(3):
            await told.until(QUEUED)
        hold.go.set()
        answer = await told.answer()
        untold = await house.chat(short("hi", stream=True))
        _, second, _ = await house.told.wait(3)
    assert len(answer.comments) >= 4
    assert untold.comments == []
    assert answer.streamed_text == untold.streamed_text == "hello"
    for one, other in zip(answer.chunks, untold.chunks, strict=True):
        assert {**one, "id": "", "created": 0} == {**other, "id": "", "created": 0}
    assert second.record is not None
    assert (second.status, second.record.outcome) == (200, "completed")


async def test_who_is_before_it_counts(engine: ScriptedOllama) -> None:
    async with one_runs(engine) as (house, hold):
        first = await waiting(house)
        second = Waiting(await house.send(http_chat(short("hi", stream=True))))
        await second.until(b": queued 2, about 1 s\n\n")
        first.client.writer.transport.abort()
        await second.until(QUEUED)
        hold.go.set()
        await second.until(b"data: [DONE]\n\n")


@pytest.mark.parametrize("said", [b"", head()], ids=["silence", "a head"])
async def test_while_its_prompt_is_read_it_is_told_so(engine: ScriptedOllama, said: bytes) -> None:
    hold = Pause()
    engine.play(said, hold, HELLO.removeprefix(said))
    async with opened(engine, scheduling=OFTEN) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(short("hi", stream=True)))
        await client.reader.readuntil(b": reading the prompt\n\n")
        hold.go.set()
        await client.reader.readuntil(b"data: [DONE]\n\n")


async def test_while_its_model_is_loaded_it_is_told_so(engine: ScriptedOllama) -> None:
    engine.loading = loading = Pause()
    async with opened(engine, scheduling=OFTEN) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(short("hi", stream=True)))
        await client.reader.readuntil(b": loading the model\n\n")
        loading.go.set()
        await client.reader.readuntil(b"data: [DONE]\n\n")
    assert engine.loads == 1


async def test_once_the_answer_has_begun_there_are_no_more_of_them(engine: ScriptedOllama) -> None:
    midway = Pause()
    engine.play(head(), chunk(line("hel")), midway, HELLO.removeprefix(head()))
    async with opened(engine, scheduling=OFTEN) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(short("hi", stream=True)))
        await client.reader.readuntil(b'"hel"')
        await asyncio.sleep(5 * OFTEN.progress_seconds)
        midway.go.set()
        rest = await client.reader.readuntil(b"data: [DONE]\n\n")
    assert b"\n: " not in rest


async def test_a_whole_answer_and_a_stream_that_wants_none_are_told_nothing(
    engine: ScriptedOllama,
) -> None:
    async with one_runs(engine) as (house, hold):
        whole = asyncio.create_task(house.chat(short("hi")))
        await until(lambda: house.daemon.queue.qsize() == 1)
        await asyncio.sleep(5 * OFTEN.progress_seconds)
        hold.go.set()
        assert (await whole).text == "hello"
    async with one_runs(engine, NEVER) as (house, hold):
        asking = asyncio.create_task(house.chat(short("hi", stream=True)))
        await until(lambda: house.daemon.queue.qsize() == 1)
        await asyncio.sleep(5 * OFTEN.progress_seconds)
        hold.go.set()
        answer = await asking
    assert (answer.comments, answer.streamed_text) == ([], "hello")


async def test_openai_python_does_not_even_notice(engine: ScriptedOllama) -> None:
    async with one_runs(engine) as (house, hold), client_of(house) as client:
        asking = asyncio.create_task(
            client.chat.completions.create(model="m", messages=HI, max_tokens=2, stream=True)
        )
        stream = await asking  # The head comes with the first comment.
        assert house.daemon.queue.qsize() == 1
        hold.go.set()
        text = "".join([piece.choices[0].delta.content or "" async for piece in stream])
    assert text == "hello"


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ((error("no", 500),), "backend_error"),
        ((error("server busy", 503),), "backend_overloaded"),
        ((head(), RESET), "backend_error"),
        ((head(), chunk(line("hel")), RESET), "backend_error"),
    ],
)
async def test_after_a_comment_an_error_is_part_of_the_stream(
    engine: ScriptedOllama, steps: tuple[Any, ...], code: str
) -> None:
    async with one_runs(engine) as (house, hold):
        engine.play(*steps)
        told = await waiting(house)
        hold.go.set()
        answer = await told.answer()
        exchanges = await house.told.wait(2)
    assert answer.status == 200
    assert answer.broken["code"] == code
    (failed,) = [exchange for exchange in exchanges if exchange.code]
    assert failed.record is not None
    assert (failed.code, failed.record.outcome) == (code, "failed")


async def test_one_whose_time_is_over_in_the_queue_is_told_in_its_stream(
    engine: ScriptedOllama,
) -> None:
    scheduling = attrs.evolve(OFTEN, deadlines=False)
    async with one_runs(engine, scheduling) as (house, _):
        answer = await house.chat(short("hi", stream=True), {"x-request-timeout-ms": "200"})
        assert house.daemon.queue.qsize() == 0
    assert answer.comments
    assert answer.broken["code"] == "request_timeout"


async def test_when_the_gateway_stops_it_is_told_in_its_stream(engine: ScriptedOllama) -> None:
    async with one_runs(engine) as (house, hold):
        told = await waiting(house)
        house.daemon.service.abort(ShuttingDown("The gateway is shutting down."))
        answer = await told.answer()
        hold.go.set()
    assert answer.broken["code"] == "shutting_down"


async def test_a_client_that_leaves_while_it_is_told_leaves_the_queue(
    engine: ScriptedOllama,
) -> None:
    async with one_runs(engine) as (house, hold):
        told = await waiting(house, "x-stainless-retry-count: 0")
        told.client.writer.transport.abort()
        (exchange,) = await house.told.wait(1)
        assert house.daemon.queue.qsize() == 0
        assert exchange.record is not None
        assert (exchange.status, exchange.record.phase) == (499, "queued")
        hold.go.set()
        await house.told.wait(2)
        house.assert_at_rest()
        assert engine.chats == 1
        assert not any("exception" in line for line in house.lines())


@pytest.mark.parametrize("told", [False, True], ids=["before a comment", "after a comment"])
async def test_one_that_left_and_may_come_back_is_told_nothing_more(
    engine: ScriptedOllama, told: bool
) -> None:
    """Its request goes on at the engine for a while; its connection is gone."""
    engine.play(HANG)
    scheduling = attrs.evolve(OFTEN, rejoin_seconds=0.3)
    async with opened(engine, scheduling=scheduling) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(short("hi", stream=True), "x-stainless-retry-count: 0"))
        await engine.wait_asked(1)
        if told:
            await client.reader.readuntil(b": reading the prompt\n\n")
        client.writer.transport.abort()
        (exchange,) = await house.told.wait(1)
        await engine.gone.wait()
        house.assert_at_rest()
        assert exchange.status == 499
        assert not any("exception" in line for line in house.lines())


def pings() -> int:
    """Streams that are pinged."""
    return sum("._ping" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_when_a_stream_is_over_its_pings_are(
    engine: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_INTERVAL_S", 0.02)
    async with one_runs(engine) as (house, hold):
        engine.play(error("no", 500))
        told = await waiting(house)
        await told.until(b": ping\n\n")
        assert pings() == 1
        hold.go.set()
        assert (await told.answer()).broken["code"] == "backend_error"
        assert (await house.chat(short("hi", stream=True))).streamed_text == "hello"
        await house.told.wait(3)
        assert pings() == 0


# --- GET /v1/requests/{id} ----------------------------------------------------


ID: Final = "x-request-id: mine"


async def about(house: House, name: str = "mine") -> Any:
    answer = await house.get(f"/v1/requests/{name}")
    assert answer.status == 200
    return answer.document


async def test_a_request_can_be_asked_about_from_the_queue_to_its_end(
    engine: ScriptedOllama,
) -> None:
    midway = Pause()
    async with one_runs(engine) as (house, hold):
        engine.play(head(), chunk(line("hel")), midway, HELLO.removeprefix(head()))
        told = await waiting(house, ID)
        queued = await about(house)
        assert queued["object"] == "gateway.request"
        assert (queued["id"], queued["model"], queued["state"]) == ("mine", "m", "queued")
        assert (queued["queue_position"], queued["waits_for"]) == (0, "a slot")
        assert 0 < queued["estimated_wait_ms"] < 5000
        assert 0 < queued["estimated_service_ms"] < 5000
        assert 0 < queued["elapsed_ms"] == queued["queue_ms"]
        assert queued["load_ms"] == queued["prefill_ms"] == queued["decode_ms"] == 0

        hold.go.set()
        await told.until(b'"hel"')
        running = await about(house)
        assert (running["state"], running["waits_for"]) == ("decode", "")
        assert (running["queue_position"], running["estimated_wait_ms"]) == (0, 0)
        assert running["queue_ms"] >= queued["queue_ms"]
        assert running["decode_ms"] < running["elapsed_ms"]

        midway.go.set()
        await told.answer()
        await house.told.wait(2)
        ended = await about(house)
    assert (ended["state"], ended["outcome"], ended["status"]) == ("ended", "completed", 200)
    assert ended["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert not ended["truncated"]
    assert not ended["rejoined"]
    assert "queue_position" not in ended
    assert ended["elapsed_ms"] >= ended["queue_ms"] >= queued["queue_ms"]


async def test_one_that_failed_can_be_asked_why(engine: ScriptedOllama) -> None:
    engine.play(error("no", 500))
    async with opened(engine) as house:
        assert (await house.chat(short("hi"), {"x-request-id": "mine"})).status == 502
        ended = await about(house)
    assert (ended["outcome"], ended["status"], ended["reason"]) == (
        "failed",
        502,
        "backend_error",
    )


async def test_what_is_not_known_is_not_there(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        answer = await house.get("/v1/requests/none")
    assert (answer.status, answer.error["code"]) == (404, "request_not_found")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_request_of_another_key_is_not_there(engine: ScriptedOllama) -> None:
    mine, other = "sk-mine-0123456789abcdef", "sk-other-0123456789abcdef"
    hold = Pause()
    engine.play(hold, HELLO)
    auth = Auth(keys={"me": mine, "somebody": other})
    async with opened(engine, auth=auth) as house, asyncio.timeout(HANG_S):
        asking = asyncio.create_task(
            house.chat(short("hi"), {**bearer(mine), "x-request-id": "mine"})
        )
        await engine.wait_asked(1)
        path = "/v1/requests/mine"
        assert (await house.get(path, bearer(mine))).document["state"] == "prefill"
        stranger = await house.get(path, bearer(other))
        nobody = await house.get("/v1/requests/none", bearer(other))
        assert stranger.status == nobody.status == 404
        assert stranger.error == nobody.error
        assert (await house.get(path)).status == 401
        hold.go.set()
        assert (await asking).status == 200
        assert (await house.get(path, bearer(mine))).document["state"] == "ended"
        assert (await house.get(path, bearer(other))).status == 404


# --- ?dry_run=1 ---------------------------------------------------------------


async def test_a_dry_run_says_what_would_happen_and_does_nothing(engine: ScriptedOllama) -> None:
    async with one_runs(engine) as (house, _):
        forecast = await house.forecast(short("hi", stream=True))
        later = await house.forecast(say("hi"))
        house.told.exchanges.clear()
        assert house.daemon.queue.qsize() == 0
        assert house.daemon.service.active == 1
    assert forecast["object"] == "gateway.forecast"
    assert (forecast["accepted"], forecast["code"]) == (True, None)
    assert 0 < forecast["estimated_wait_ms"] < 5000
    assert 0 < forecast["estimated_service_ms"] < 5000 < later["estimated_service_ms"]
    assert (forecast["queue_position"], forecast["deadline_ms"]) == (0, 60_000)
    assert "retry_after_ms" not in forecast
    assert engine.chats == 1


async def test_a_dry_run_says_when_to_come_back(engine: ScriptedOllama) -> None:
    async with one_runs(engine, queue=Queue(max_queue_size=0)) as (house, _):
        forecast = await house.forecast(short("hi"))
        assert house.daemon.admission.places_held == 0
    assert (forecast["accepted"], forecast["code"]) == (False, "queue_full")
    assert forecast["retry_after_ms"] >= 50


async def test_a_dry_run_knows_how_long_its_client_waits(engine: ScriptedOllama) -> None:
    async with one_runs(engine) as (house, _):
        headers = {"x-request-timeout-ms": "100"}
        forecast = await house.forecast(short("hi"), headers)
    assert (forecast["accepted"], forecast["code"]) == (False, "deadline_unmeetable")
    assert forecast["deadline_ms"] == 98


async def test_a_dry_run_of_what_can_not_run_fails_as_the_run_would(
    engine: ScriptedOllama,
) -> None:
    async with opened(engine) as house:
        bodies = ({**say("hi"), "model": "none"}, say("hi", temperature=9))
        path = f"{CHAT}?dry_run=1"
        missing, unfit = [await house.post(json.dumps(body).encode(), path=path) for body in bodies]
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")
    assert (unfit.status, unfit.error["code"]) == (422, "invalid_request")
