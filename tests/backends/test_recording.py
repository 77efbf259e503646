"""Real tasks on a clock that the test moves: who leaves, who comes, and in which order."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.backends.answer import AnswerStream
from gateway.backends.choices import Choices
from gateway.backends.echo import MODEL, EchoBackend, EchoScript
from gateway.backends.http import Exchange, HttpClient, endpoint
from gateway.backends.ollama_wire import ChatReader
from gateway.backends.recording import Recorder, Recording, Replay, State, size
from gateway.core.clock import LoopClock
from gateway.core.errors import GatewayError, UpstreamFailed, UpstreamUnreachable
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from tests.backends.fake_engine import END, FakeEngine, Pause, chunk, head
from tests.backends.tap import PATIENCE_S, Reader, Tap, again, first
from tests.engines import request, settle
from tests.fakes import ManualClock

A, B, C = TextDelta("a"), TextDelta("b"), TextDelta("c")
STOP = Finished(FinishReason.STOP)
BROKE = UpstreamFailed("broke")


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture
def recording() -> Recording:
    return Recording()


def assert_taken(recording: Recording) -> None:
    assert not recording.free


def assert_closed(tap: Tap) -> None:
    assert tap.opened == tap.left


# --- The client stays ---------------------------------------------------------


async def test_what_the_engine_says_is_handed_on_and_kept(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A, B)
    await settle()
    assert client.got == recording.events == [A, B]
    assert recording.running
    tap.say(STOP)
    await client.task
    assert client.got == recording.events == [A, B, STOP]
    assert recording.state is State.DONE
    assert_closed(tap)


async def test_a_recorder_knows_the_ends_of_its_answers(tap: Tap, recording: Recording) -> None:
    async with Recorder(tap, recording) as stream:
        assert stream.ends == ()
        tap.say(A, STOP)
        await stream.read()
        assert list(stream.ends) == [STOP]


async def test_an_error_is_handed_on_and_kept(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    tap.fail(BROKE)
    with pytest.raises(UpstreamFailed):
        await client.task
    assert recording.state is State.BROKEN
    assert recording.error is BROKE
    assert_closed(tap)


async def test_an_engine_that_refuses_is_handed_on_and_kept(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    tap.refusal = UpstreamUnreachable("no")
    client = await first(tap, recording, clock)
    with pytest.raises(UpstreamUnreachable):
        await client.task
    assert recording.error is tap.refusal
    assert tap.left == 0


async def test_what_is_not_read_is_not_opened(tap: Tap, recording: Recording) -> None:
    async with Recorder(tap, recording):
        pass
    assert tap.asked == 0
    assert not recording.running


async def test_an_answer_that_nobody_finished_is_no_answer(tap: Tap, recording: Recording) -> None:
    tap.say(A)
    async with Recorder(tap, recording) as stream:
        await stream.read()
    assert recording.state is State.BROKEN
    assert_closed(tap)


async def test_what_broke_the_reading_task_is_told_to_who_replays(
    tap: Tap, recording: Recording
) -> None:
    with pytest.raises(UpstreamFailed):
        async with Recorder(tap, recording):
            raise BROKE
    assert recording.error is BROKE


@pytest.mark.parametrize("answers", [1, 2, 3])
async def test_it_is_done_when_every_answer_is(answers: int) -> None:
    recording = Recording(answers=answers)
    for left in reversed(range(answers)):
        assert recording.running
        recording.add([A, STOP])
        assert recording.running == bool(left)


# --- The client leaves --------------------------------------------------------


async def test_a_retry_while_it_runs_gets_what_came_and_what_comes(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    tap.say(B)
    await settle()
    await client.leave()
    assert recording.free
    retry = await again(recording)
    assert_taken(recording)
    assert (retry.got, retry.batches) == ([A, B], 1)
    tap.say(C)
    await settle()
    assert retry.got == [A, B, C]
    tap.say(STOP)
    await retry.task
    assert retry.got == [A, B, C, STOP]
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert_closed(tap)


async def test_a_retry_after_the_end_gets_all_at_once(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    await client.leave()
    tap.say(A, B)
    tap.say(STOP)
    await settle()
    assert client.task.done()
    assert_closed(tap)
    retry = await again(recording)
    await retry.task
    assert (retry.got, retry.batches) == ([A, B, STOP], 1)


async def test_an_answer_whose_client_never_comes_back_is_given_up_in_time(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    await client.leave()
    await clock.advance(PATIENCE_S - 0.1)
    tap.say(A)
    await settle()
    assert tap.left == 0
    await clock.advance(0.2)
    assert client.task.cancelled()
    assert recording.state is State.BROKEN
    assert not recording.free
    assert_closed(tap)
    assert clock.pending == 0


async def test_a_client_that_leaves_before_the_engine_says_anything_is_waited_for_too(
    recording: Recording, clock: ManualClock
) -> None:
    tap = Tap(ready=False)
    client = await first(tap, recording, clock)
    await client.leave()
    retry = await again(recording)
    await clock.advance(100.0)
    tap.ready.set()
    tap.say(A, STOP)
    await retry.task
    assert retry.got == [A, STOP]
    assert tap.asked == 1
    assert_closed(tap)


async def test_an_opening_that_nobody_waits_for_is_broken_off(
    recording: Recording, clock: ManualClock
) -> None:
    tap = Tap(ready=False)
    client = await first(tap, recording, clock)
    await client.leave()
    await clock.advance(PATIENCE_S)
    assert client.task.cancelled()
    tap.ready.set()
    await settle()
    assert tap.opened == 0


async def test_an_engine_that_refuses_after_the_client_left_is_told_to_the_retry(
    recording: Recording, clock: ManualClock
) -> None:
    tap = Tap(ready=False)
    tap.refusal = UpstreamUnreachable("no")
    client = await first(tap, recording, clock)
    await client.leave()
    retry = await again(recording)
    tap.ready.set()
    with pytest.raises(UpstreamUnreachable):
        await retry.task
    with pytest.raises(UpstreamUnreachable):
        await client.task


async def test_while_somebody_listens_patience_has_no_end(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    await client.leave()
    await clock.advance(PATIENCE_S - 0.1)
    retry = await again(recording)
    await clock.advance(100 * PATIENCE_S)
    tap.say(A, STOP)
    await retry.task
    assert retry.got == [A, STOP]


async def test_when_the_retry_leaves_too_patience_begins_anew(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    await client.leave()
    retry = await again(recording)
    await clock.advance(10.0)
    await retry.leave()
    assert recording.free
    await clock.advance(PATIENCE_S - 0.1)
    third = await again(recording)
    assert third.got == [A]
    await third.leave()
    await clock.advance(PATIENCE_S + 0.1)
    assert client.task.cancelled()
    assert_closed(tap)


async def test_an_answer_that_breaks_midway_is_replayed_up_to_there(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    await client.leave()
    reader = Reader()

    async def slow() -> None:
        async with Replay(recording) as stream:
            tap.say(B)
            tap.fail(BROKE)
            await settle()
            await reader.read(stream)

    with pytest.raises(UpstreamFailed):
        await slow()
    assert reader.got == [A, B]
    with pytest.raises(UpstreamFailed):
        await client.task
    assert not recording.free
    assert_closed(tap)


async def test_two_replays_of_one_recording_each_get_all(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    await client.leave()
    one, two = await again(recording), await again(recording)
    tap.say(B)
    await settle()
    await one.leave()
    await clock.advance(10 * PATIENCE_S)
    tap.say(C, STOP)
    await two.task
    assert one.got == [A, B]
    assert two.got == [A, B, C, STOP]


async def test_a_replay_knows_the_ends_that_it_has_handed_out() -> None:
    recording = Recording(answers=2)
    recording.add([A, STOP])
    async with Replay(recording) as stream:
        assert stream.ends == []
        await stream.read()
        assert stream.ends == [STOP]
        recording.add([B, STOP])
        assert stream.ends == [STOP]
        assert await stream.read() == [B, STOP]
        assert stream.ends == [STOP, STOP]
        assert await stream.read() == ()


# --- Races --------------------------------------------------------------------


def comes_then_leaves(client: Reader, tap: Tap) -> None:
    tap.say(A, B)
    client.task.cancel()


def leaves_then_comes(client: Reader, tap: Tap) -> None:
    client.task.cancel()
    tap.say(A, B)


@pytest.mark.parametrize("race", [comes_then_leaves, leaves_then_comes])
async def test_what_comes_as_the_client_leaves_is_not_lost(
    tap: Tap, recording: Recording, clock: ManualClock, race: Callable[[Reader, Tap], None]
) -> None:
    client = await first(tap, recording, clock)
    race(client, tap)
    await settle()
    assert recording.events == [A, B]
    await clock.advance(PATIENCE_S)
    assert_closed(tap)


async def opens_then_leaves(client: Reader, tap: Tap) -> None:
    tap.ready.set()
    client.task.cancel()


async def leaves_then_opens(client: Reader, tap: Tap) -> None:
    client.task.cancel()
    tap.ready.set()


async def opens_settles_leaves(client: Reader, tap: Tap) -> None:
    tap.ready.set()
    await asyncio.sleep(0)
    client.task.cancel()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("race", [opens_then_leaves, leaves_then_opens, opens_settles_leaves])
async def test_what_opens_as_the_client_leaves_is_left_again(
    recording: Recording,
    clock: ManualClock,
    race: Callable[[Reader, Tap], Awaitable[None]],
    turns: int,
) -> None:
    tap = Tap(ready=False)
    client = await first(tap, recording, clock, patience_s=0.0)
    await race(client, tap)
    for _ in range(turns):
        await asyncio.sleep(0)
    client.task.cancel()
    await settle()
    assert client.task.cancelled()
    assert_closed(tap)


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_finds_it_free_gets_it_whole_even_as_patience_ends(
    tap: Tap, recording: Recording, turns: int
) -> None:
    client = await first(tap, recording, LoopClock(), patience_s=0.0)
    tap.say(A)
    await settle()
    client.task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    if not recording.free:
        assert turns == 0 or recording.state is State.BROKEN
        return
    async with Replay(recording) as stream:
        await settle()
        reads = tap.reads
        await settle()
        assert tap.reads == reads, "patience goes on, although somebody listens"
        tap.say(B, STOP)
        await settle()
        assert [*await stream.read(), *await stream.read()] == [A, B, STOP]
    assert_closed(tap)


# --- Ended from elsewhere -----------------------------------------------------


async def test_a_second_cancellation_ends_it_at_once(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    tap.say(A)
    await client.leave()
    retry = await again(recording)
    await client.leave()
    assert client.task.cancelled()
    with pytest.raises(GatewayError):
        await retry.task
    assert retry.got == [A]
    assert_closed(tap)


async def test_a_cancelled_linger_may_be_taken_up_again(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    reader = Reader()

    async def run() -> None:
        async with Recorder(tap, recording) as stream:
            for _ in range(2):
                try:
                    await stream.linger(clock=clock, patience_s=PATIENCE_S)
                except asyncio.CancelledError:
                    continue

    reader.task = asyncio.create_task(run())
    tap.say(A)
    await settle()
    await reader.leave()
    assert recording.free
    tap.say(STOP)
    await reader.task
    assert recording.events == [A, STOP]


async def test_a_bound_on_time_around_it_holds(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    async def run() -> None:
        async with clock.timeout_at(PATIENCE_S / 2), Recorder(tap, recording) as stream:
            await stream.linger(clock=clock, patience_s=PATIENCE_S)

    task = asyncio.create_task(run())
    await clock.advance(PATIENCE_S / 2)
    with pytest.raises(TimeoutError):
        await task
    assert recording.state is State.BROKEN
    assert_closed(tap)


async def test_without_patience_it_ends_in_the_same_turn(tap: Tap, recording: Recording) -> None:
    client = await first(tap, recording, LoopClock(), patience_s=0.0)
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert_closed(tap)


# --- Delivered, and to whom ---------------------------------------------------


async def test_what_its_client_took_in_whole_is_delivered(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    assert_taken(recording)
    tap.say(A, STOP)
    await client.task
    assert recording.free
    assert recording.delivered


async def test_what_was_all_said_but_not_passed_on_is_not_delivered(
    tap: Tap, recording: Recording
) -> None:
    async def read_and_break() -> None:
        async with Recorder(tap, recording) as stream:
            await stream.read()
            raise ConnectionError

    tap.say(A, STOP)
    with pytest.raises(ConnectionError):
        await read_and_break()
    assert recording.free
    assert not recording.delivered


async def test_a_retry_that_took_in_all_has_it_delivered(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    await client.leave()
    retry = await again(recording)
    tap.say(A)
    await retry.leave()
    assert not recording.delivered
    tap.say(STOP)
    await settle()
    assert not recording.delivered
    await (await again(recording)).task
    assert recording.delivered


# --- Bounds -------------------------------------------------------------------


async def test_an_answer_that_grows_too_large_is_handed_on_but_not_kept(
    tap: Tap, clock: ManualClock
) -> None:
    recording = Recording(bytes_max=3 * size(A))
    client = await first(tap, recording, clock)
    tap.say(A, B, C)
    await settle()
    assert recording.bytes == 3 * size(A)
    tap.say(A)
    await settle()
    assert recording.state is State.SPILLED
    assert (recording.bytes, recording.events) == (0, [])
    tap.say(STOP)
    await client.task
    assert client.got == [A, B, C, A, STOP]
    assert not recording.free


async def test_nobody_lingers_for_what_cannot_be_kept(
    tap: Tap, recording: Recording, clock: ManualClock
) -> None:
    client = await first(tap, recording, clock)
    recording.spill()
    await client.leave()
    assert client.task.cancelled()
    assert_closed(tap)


async def test_a_replay_of_what_grows_too_large_breaks_after_what_it_has(
    tap: Tap, clock: ManualClock
) -> None:
    recording = Recording(bytes_max=2 * size(A))
    client = await first(tap, recording, clock)
    tap.say(A)
    await client.leave()
    retry = await again(recording)
    tap.say(B, C)
    with pytest.raises(GatewayError):
        await retry.task
    assert retry.got == [A, B, C]
    assert client.task.cancelled()
    assert_closed(tap)


async def test_a_replay_that_has_it_whole_goes_on_when_it_is_spilled(recording: Recording) -> None:
    recording.add([A])
    async with Replay(recording) as stream:
        recording.add([STOP])
        recording.spill()
        assert await stream.read() == [A, STOP]
        assert await stream.read() == ()


def test_each_growth_is_counted_and_taken_back() -> None:
    growths: list[int] = []
    for end in (Recording.spill, lambda recording: recording.fail(BROKE)):
        recording = Recording(grew=growths.append)
        recording.add([A])
        recording.add([B, C])
        end(recording)
        end(recording)
        recording.add([A])
        assert growths == [size(A), size(B) + size(C), -3 * size(A)]
        growths.clear()


def test_a_whole_answer_no_longer_breaks(recording: Recording) -> None:
    recording.add([A, STOP])
    recording.fail(BROKE)
    assert recording.state is State.DONE
    assert recording.events == [A, STOP]


SURE = TokenLogprob("x", 0.0)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (TextDelta("a"), TextDelta("a" * 1000)),
        (TextDelta("a" * 1000), TextDelta("漢" * 1000)),
        (ReasoningDelta("a"), ReasoningDelta("a" * 1000)),
        (ToolCallDelta(0, None, None, "{"), ToolCallDelta(0, None, None, "{" * 1000)),
        (TextDelta("x"), TextDelta("x", (SURE,))),
        (TextDelta("x", (SURE,)), TextDelta("x", (TokenLogprob("x", 0.0, top=(SURE,) * 20),))),
        (STOP, TextDelta("x" * 1000)),
    ],
)
def test_a_larger_event_counts_for_more(small: Event, large: Event) -> None:
    assert 0 < size(small) < size(large)


# --- Real streams can be read again after a cancelled read ---------------------


TOKEN = b'{"message":{"content":"x"},"done":false}\n'
DONE = b'{"message":{"content":""},"done":true,"done_reason":"stop","eval_count":1}\n'


async def _refuse(exchange: Exchange) -> GatewayError:
    return UpstreamFailed(f"status {exchange.status}")


async def test_an_engines_answer_goes_on_when_its_reader_was_cancelled(
    http: HttpClient, engine: FakeEngine, recording: Recording, clock: ManualClock
) -> None:
    before_head, midway = Pause(), Pause()
    engine.play(
        before_head, head() + chunk(TOKEN), midway, chunk(TOKEN[:9]), chunk(TOKEN[9:] + DONE) + END
    )
    reader = Reader()

    async def run() -> None:
        answer = AnswerStream(
            http.open("POST", endpoint(engine.url, "/api/chat"), body=b"{}"),
            ChatReader(line_bytes_max=1000, new_id=lambda: "call"),
            refuse=_refuse,
            max_tokens=None,
        )
        async with Recorder(answer, recording) as stream:
            for pause in (before_head, midway):
                reading = asyncio.create_task(reader.read(stream))
                await pause.reached.wait()
                await settle()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                pause.go.set()
            await stream.linger(clock=clock, patience_s=PATIENCE_S)

    async with asyncio.timeout(30.0):
        await run()
        await (retry := await again(recording)).task
    assert len(engine.requests) == 1
    assert [event for event in retry.got if isinstance(event, TextDelta)] == [TextDelta("x")] * 2
    assert isinstance(retry.got[-1], Finished)


@pytest.mark.parametrize("leaves_at_s", [0.5, 1.5, 2.5, 3.5])
async def test_choices_go_on_when_their_reader_was_cancelled(
    clock: ManualClock, leaves_at_s: float
) -> None:
    engine = EchoBackend(clock=clock, script=EchoScript(first_s=1.0, pace_s=1.0))
    recording = Recording(answers=2)
    reader = Reader()

    async def run() -> None:
        async with Recorder(Choices(engine, request(MODEL, n=2)), recording) as stream:
            try:
                await reader.read(stream)
            except asyncio.CancelledError:
                await stream.linger(clock=clock, patience_s=100.0)
                raise

    reader.task = asyncio.create_task(run())
    await clock.advance(leaves_at_s)
    await reader.leave()
    retry = await again(recording)
    await clock.advance(20.0)
    await retry.task
    assert [type(event) for event in retry.got] == [TextDelta, Finished] * 2
    assert engine.running == 0
