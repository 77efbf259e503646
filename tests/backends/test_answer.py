import pytest

from gateway.backends.answer import SLACK_EVENTS, AnswerStream
from gateway.backends.http import Exchange, HttpClient, endpoint
from gateway.backends.ollama_wire import ChatReader
from gateway.core.errors import BackendRefusedRequest, GatewayError, UpstreamFailed
from gateway.core.messages import Event, Finished, FinishReason, TextDelta
from tests.backends.fake_engine import END, HANG, FakeEngine, chunk, head, whole

TOKEN = b'{"message":{"content":"x"},"done":false}\n'
DONE = b'{"message":{"content":""},"done":true,"done_reason":"stop","eval_count":1}\n'


async def refuse(exchange: Exchange) -> GatewayError:
    return UpstreamFailed(f"status {exchange.status}")


def answer(http: HttpClient, engine: FakeEngine, *, max_tokens: int | None = None) -> AnswerStream:
    return AnswerStream(
        http.open("POST", endpoint(engine.url, "/api/chat"), body=b"{}"),
        ChatReader(line_bytes_max=1000, new_id=lambda: "call"),
        refuse=refuse,
        max_tokens=max_tokens,
    )


async def events_of(stream: AnswerStream) -> list[Event]:
    events: list[Event] = []
    async with stream:
        while batch := await stream.read():
            events += batch
        assert await stream.read() == ()
    return events


async def test_one_read_brings_all_that_has_come(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(head() + chunk(TOKEN * 3) + chunk(DONE) + END)
    async with answer(http, engine) as stream:
        events = await stream.read()
        assert events[:3] == [TextDelta("x")] * 3
        assert isinstance(events[3], Finished)
        assert await stream.read() == ()


async def test_an_engine_is_not_waited_for_once_it_said_done(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(head() + chunk(DONE), HANG)
    assert len(await events_of(answer(http, engine))) == 1


async def test_a_status_other_than_200_is_raised_on_entering(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(whole(b"{}", 418))
    with pytest.raises(UpstreamFailed, match="418"):
        async with answer(http, engine):
            raise AssertionError("entered")


async def test_a_refusal_closes_what_it_did_not_read(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(head(500) + chunk(b"x"), HANG)
    with pytest.raises(UpstreamFailed):
        async with answer(http, engine):
            raise AssertionError("entered")
    await engine.gone.wait()


async def test_what_is_required_is_asked_before_anything_is_sent(
    http: HttpClient, engine: FakeEngine
) -> None:
    async def require() -> None:
        raise BackendRefusedRequest("no")

    stream = AnswerStream(
        http.open("POST", endpoint(engine.url, "/")),
        ChatReader(line_bytes_max=1000, new_id=lambda: "call"),
        refuse=refuse,
        require=require,
        max_tokens=None,
    )
    with pytest.raises(BackendRefusedRequest):
        await stream.__aenter__()
    assert engine.requests == []


async def test_an_answer_that_runs_on_is_cut_and_its_engine_stopped(
    http: HttpClient, engine: FakeEngine
) -> None:
    most = 10 + SLACK_EVENTS
    engine.play(head() + chunk(TOKEN * (most - 1)) + chunk(TOKEN * 50), HANG)
    events = await events_of(answer(http, engine, max_tokens=10))
    assert events[:-1] == [TextDelta("x")] * most
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.LENGTH
    assert finished.usage.completion == most
    await engine.gone.wait()


async def test_an_answer_of_just_the_bound_is_whole(http: HttpClient, engine: FakeEngine) -> None:
    most = 10 + SLACK_EVENTS
    engine.play(head() + chunk(TOKEN * most + DONE) + END)
    events = await events_of(answer(http, engine, max_tokens=10))
    assert len(events) == most + 1
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
