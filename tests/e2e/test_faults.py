"""An Ollama that breaks in every way, seen through the whole gateway.

Whatever happens, nobody is shown a broken answer as a whole one or a word of the
engine's own, the next request is served, and there is one record, one line in
the log and one count of it.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import attrs
import pytest

from gateway.config.schema import Backend, Limits, Scheduling, Timeouts
from gateway.core.messages import Event, Finished
from gateway.dialects.openai_chat_encode import ChatEncoder
from tests.backends.fake_engine import CLOSE, END, HANG, RESET, Pause, Step, chunk, head, whole
from tests.e2e.house import http_chat, opened, say, streamed
from tests.e2e.ollama import HELLO, ScriptedOllama, answer, done, error, line
from tests.web.raw import HANG_S

SECRET: Final = "s3cret-of-the-engine"

SHORT: Final = Timeouts(
    first_byte_timeout_seconds=0.2, stall_timeout_seconds=0.2, connect_timeout_seconds=0.2
)
SMALL: Final = Limits(upstream_line_bytes_max=2000, upstream_answer_bytes_max=20_000)


@attrs.frozen
class Fault:
    """What the engine does, and what the caller is told.

    Attributes:
        steps: Played for one request.
        began: What is played before them, and has reached the caller of a stream
            when they begin.
        attempts: How often it is asked for one request.
    """

    steps: Sequence[Step]
    status: int
    code: str
    kind: str
    attempts: int = 1
    began: bytes = b""


BAD: Final = "bad_response"
PARTLY: Final = head() + chunk(line("hel"))


def before(*steps: Step, status: int = 502, code: str = "backend_error", **fields: Any) -> Fault:
    return Fault(steps, status, code, **fields)


def after(*steps: Step, began: bytes = PARTLY, **fields: Any) -> Fault:
    return before(*steps, began=began, **fields)


FAULTS: Final[dict[str, Fault]] = {
    "B2 reset before any byte": before(RESET, kind="disconnect", attempts=2),
    "B2 closed before any byte": before(CLOSE, kind="disconnect", attempts=2),
    "B2 reset after the head": before(head(), RESET, kind="disconnect"),
    "B3 reset midway": after(RESET, kind="disconnect"),
    "B3 closed midway": after(CLOSE, kind="disconnect"),
    "B4 clean end without done": after(END, kind="disconnect"),
    "B4 end of a body without a length": after(
        CLOSE, began=head(framing="close") + line("hel"), kind="disconnect"
    ),
    "B5 empty 200": before(head() + END, kind=BAD),
    "B5 HTML": before(whole(f"<html>{SECRET}</html>\n".encode()), kind=BAD),
    "B5 garbage": before(whole(b"\x00\xff\xfe" + SECRET.encode() + b"\n"), kind=BAD),
    "B5 not HTTP": before(b"SSH-2.0-OpenSSH\r\n\r\n" + SECRET.encode(), CLOSE, kind=BAD),
    "B5 junk line": after(chunk(SECRET.encode() + b"\n"), HANG, kind=BAD),
    "B5 cut JSON": after(chunk(line("lo")[:-9] + b"\n"), HANG, kind=BAD),
    "B5 broken chunks": after(b"zz\r\n", HANG, kind=BAD),
    "B6 an error first": before(
        answer(json.dumps({"error": SECRET}).encode() + b"\n"), kind="error"
    ),
    "B6 an error midway": after(
        chunk(json.dumps({"error": SECRET}).encode() + b"\n") + END, kind="error"
    ),
    "B7 500": before(error(SECRET, 500), kind="error"),
    "B7 500 in HTML": before(whole(f"<h1>{SECRET}</h1>".encode(), 500), kind="error"),
    "B7 418": before(error(SECRET, 418), kind="error"),
    "B7 401": before(error(SECRET, 401), kind="error"),
    "B7 redirect": before(whole(b"", 307, Location="http://127.0.0.1:1/"), kind="error"),
    "B9 503": before(error("server busy", 503), status=503, code="backend_overloaded", kind="busy"),
    "B9 429": before(error(SECRET, 429), status=503, code="backend_overloaded", kind="busy"),
    "B10 silent": before(HANG, status=504, code="request_timeout", kind="timeout"),
    "B10 silent after the head": before(
        head(), HANG, status=504, code="request_timeout", kind="timeout"
    ),
    "B11 silent midway": after(HANG, status=504, code="request_timeout", kind="stall"),
    "B13 endless line": before(head() + chunk(b'"' + b"x" * 3000), HANG, kind=BAD),
    "B13 endless line midway": after(chunk(b'"' + b"x" * 3000), HANG, kind=BAD),
    "B13 endless answer": after(*[chunk(line("x" * 1500))] * 14, HANG, kind=BAD),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_is_told_and_over(engine: ScriptedOllama, fault: Fault, stream: bool) -> None:
    go_on = Pause()
    for _ in range(fault.attempts):
        engine.play(fault.began, go_on, *fault.steps)
    async with opened(engine, timeouts=SHORT, limits=SMALL) as house, asyncio.timeout(HANG_S):
        if stream and fault.began:
            client = await house.send(http_chat(say("hi", stream=True)))
            began = await client.reader.readuntil(b'"content":"hel"')
            go_on.go.set()
            reply = streamed(began + await client.rest())
            assert reply.status == 200
            told = reply.broken
        else:
            go_on.go.set()
            reply = await house.chat(say("hi", stream=stream))
            assert reply.status == fault.status
            told = reply.error
        assert told["code"] == fault.code
        assert SECRET not in reply.body.decode()
        if fault.status == 503:
            assert int(reply.headers["Retry-After"]) >= 1
        assert engine.chats == fault.attempts
        assert (await house.chat(say("again"))).text == "hello"

        first, second = await house.told.wait(2)
        assert first.record is not None
        assert (first.record.outcome, first.record.status) == ("failed", fault.status)
        assert first.code == fault.code
        assert second.record is not None
        assert second.record.outcome == "completed"
        assert [line["status"] for line in house.request_lines()] == [reply.status, 200]
        metrics = await house.metrics()
        key = f'gateway_upstream_errors_total{{kind="{fault.kind}"}}'
        assert metrics[key] == fault.attempts
        assert metrics["gateway_requests_failed_total"] == 1
        assert metrics["gateway_requests_accepted_total"] == 2
        assert SECRET not in house.written.getvalue()
        house.assert_at_rest()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_engine_that_is_not_there_is_502_at_once(stream: bool) -> None:
    """B1; the breaker, or the health check, then keeps requests away."""
    async with ScriptedOllama() as engine:
        pass
    async with opened(engine, up=False, timeouts=SHORT) as house:
        replies = [await house.chat(say("hi", stream=stream)) for _ in range(7)]
        assert (await house.get("/health")).status == 200
        house.assert_at_rest()
    for reply in replies:
        assert reply.status == 502
        assert reply.error["code"] == "backend_error"
        assert int(reply.headers["Retry-After"]) >= 1


@pytest.mark.slow
async def test_an_engine_that_goes_away_is_502_and_one_that_is_back_serves() -> None:
    """B1, B20: the health check lets requests in again."""
    async with ScriptedOllama() as engine, opened(engine, timeouts=SHORT) as house:
        assert (await house.chat(say("hi"))).status == 200
        engine.leave()
        statuses = [(await house.chat(say("hi"))).status for _ in range(6)]
        assert set(statuses) == {502}
        assert not house.daemon.pool.upstreams[0].up
        assert (await house.get("/ready")).document["reason"] == "backend"
        back = asyncio.Event()
        house.daemon.pool.listeners.append(back.set)
        await engine.come_back()
        async with asyncio.timeout(HANG_S):
            await back.wait()
        assert (await house.chat(say("hi"))).text == "hello"


async def test_a_host_that_has_no_address_is_502() -> None:
    """B1: DNS."""
    backend = Backend(kind="ollama", url="http://no-such-host.invalid:11434")
    async with opened(None, up=False, backend=backend, timeouts=SHORT) as house:
        reply = await house.chat(say("hi"))
    assert reply.status == 502
    assert "invalid" not in reply.body.decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_model_the_engine_has_lost_is_404(engine: ScriptedOllama, stream: bool) -> None:
    """B8."""
    engine.play(error(f"model '{SECRET}' not found", 404))
    async with opened(engine) as house:
        reply = await house.chat(say("hi", stream=stream))
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert SECRET not in reply.body.decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_stale_connection_costs_nothing(engine: ScriptedOllama, stream: bool) -> None:
    """B22: closed by the engine just as it is used again."""
    engine.play(HELLO)
    engine.play(CLOSE)
    async with opened(engine) as house:
        await house.chat(say("hi"))
        reply = await house.chat(say("hi", stream=stream))
        assert reply.status == 200
        _, second = await house.told.wait(2)
    assert (reply.streamed_text if stream else reply.text) == "hello"
    assert second.record is not None
    assert second.record.attempts == 2


async def test_a_connection_that_stalled_is_not_used_again(engine: ScriptedOllama) -> None:
    """B21."""
    engine.play(PARTLY, HANG)
    async with opened(engine, timeouts=SHORT) as house:
        assert (await house.chat(say("hi"))).status == 504
        async with asyncio.timeout(HANG_S):
            await engine.gone.wait()
        assert (await house.chat(say("hi"))).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_flood_is_cut_off(engine: ScriptedOllama, stream: bool) -> None:
    """B14: far more than it was asked for."""
    engine.play(head(), *[chunk(line("w ")) * 100] * 10, HANG)
    async with opened(engine) as house:
        reply = await house.chat(say("hi", max_tokens=5, stream=stream))
        assert reply.status == 200
        async with asyncio.timeout(HANG_S):
            await engine.gone.wait()
        house.assert_at_rest()
    if stream:
        assert reply.chunks[-1]["choices"][0]["finish_reason"] == "length"
    else:
        assert reply.document["choices"][0]["finish_reason"] == "length"


NASTY: Final = "a\n\ndata: [DONE]\n\nb\r\x00\x1b\u2028\u0085 é 漢 🙂"


async def test_a_token_can_not_forge_the_stream(engine: ScriptedOllama) -> None:
    """B15."""
    engine.play(answer(line(NASTY), done()))
    engine.play(answer(line(NASTY), done()))
    async with opened(engine) as house:
        whole_reply = await house.chat(say("hi"))
        streamed = await house.chat(say("hi", stream=True))
    assert whole_reply.text == NASTY
    assert streamed.streamed_text == NASTY
    assert len(streamed.records) == 4
    assert len(streamed.body.decode().splitlines()) == 8


async def test_half_a_surrogate_becomes_valid_text(engine: ScriptedOllama) -> None:
    """B16."""
    half = line("x").replace(b'"x"', b'"a\\ud800b"')
    engine.play(answer(half, done()))
    engine.play(answer(half, done()))
    async with opened(engine) as house:
        assert (await house.chat(say("hi"))).text == "a\ufffdb"
        assert (await house.chat(say("hi", stream=True))).streamed_text == "a\ufffdb"


async def test_an_answer_cut_anywhere_is_the_same(engine: ScriptedOllama) -> None:
    """B17: every byte an HTTP chunk of its own."""
    text = line("é 漢 🙂") + done()
    engine.play(answer(*(text[at : at + 1] for at in range(len(text)))))
    async with opened(engine) as house:
        assert (await house.chat(say("hi", stream=True))).streamed_text == "é 漢 🙂"


ODD_ENDS: Final[dict[str, bytes]] = {
    "two done lines": done() + done(),
    "no counts": done(prompt_eval_count=None, eval_count=None, done_reason=None),
    "a string": done(eval_count="many", total_duration="long"),
    "null": done().replace(b'"eval_count": 2', b'"eval_count": null'),
    "negative": done(eval_count=-1, prompt_eval_count=-5, eval_duration=-1),
    "huge": done(eval_count=1e308, total_duration=1e308),
    "unknown fields": done(created_at="yesterday", invented={"a": [1]}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("end", ODD_ENDS.values(), ids=ODD_ENDS.keys())
async def test_an_odd_end_is_an_end(engine: ScriptedOllama, end: bytes, stream: bool) -> None:
    """B18, B24."""
    engine.play(answer(line("hello"), end))
    options = {"stream_options": {"include_usage": True}} if stream else {}
    async with opened(engine) as house:
        reply = await house.chat(say("hi", stream=stream, **options))
        assert reply.status == 200
        assert (await house.chat(say("again"))).status == 200
    usage = reply.chunks[-1]["usage"] if stream else reply.document["usage"]
    assert (reply.streamed_text if stream else reply.text) == "hello"
    assert all(isinstance(usage[name], int) and usage[name] >= 0 for name in NAMES)
    assert reply.body.count(b"[DONE]") == stream


NAMES: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


async def test_a_request_may_take_so_long_and_no_longer(engine: ScriptedOllama) -> None:
    """A whole answer has until the deadline, whatever still comes."""
    engine.play(PARTLY, HANG)
    timeouts = Timeouts(request_timeout_seconds=0.2)
    scheduling = Scheduling(truncate_at_deadline=False)
    async with opened(engine, timeouts=timeouts, scheduling=scheduling) as house:
        reply = await house.chat(say("hi"))
        assert (reply.status, reply.error["code"]) == (504, "request_timeout")
        metrics = await house.metrics()
        assert metrics['gateway_upstream_errors_total{kind="timeout"}'] == 1
        house.assert_at_rest()


async def test_a_stream_may_take_so_long_and_no_longer(engine: ScriptedOllama) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine, timeouts=Timeouts(stream_timeout_seconds=0.2)) as house:
        reply = await house.chat(say("hi", stream=True))
        assert reply.broken["code"] == "request_timeout"
        house.assert_at_rest()


async def test_a_mistake_of_ours_midway_is_no_end_of_an_answer(
    engine: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = ChatEncoder.feed

    def broken(self: ChatEncoder, events: Sequence[Event]) -> bytes:
        assert not any(isinstance(event, Finished) for event in events)
        return feed(self, events)

    monkeypatch.setattr(ChatEncoder, "feed", broken)
    pause = Pause()
    engine.play(PARTLY, pause, chunk(done()) + END)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(say("hi", stream=True)))
        await client.reader.readuntil(b'"hel"')
        pause.go.set()
        rest = await client.rest()
        house.assert_at_rest()
        tracebacks = [line for line in house.lines() if "exception" in line]
    assert b'"code":"internal_error"' in rest
    assert b"[DONE]" not in rest
    assert len(tracebacks) == 1
