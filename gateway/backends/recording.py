"""An answer that is kept as it is given, so that it can be given again to a client who lost it.

A generation runs in the task of the request that began it, and no token crosses
a queue. Where the client is known to retry, a `Recorder` stands between the
engine and that task, and notes in a `Recording` what it hands on. When the
client leaves, the same task lingers: it reads on, now for the recording alone.
The client's retry reads a `Replay`, which is what was recorded and then what
comes.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self

from gateway.backends.base import EventStream
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, UpstreamBadResponse, UpstreamDisconnected
from gateway.core.messages import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta

BYTES_MAX: Final = 2 * 1024 * 1024
"""Of one recording: a plain answer of 15,000 tokens, or 400 with twenty logprobs each."""

_EVENT_BYTES: Final = 112
"""An event with its place in the list and an empty text."""

_CHAR_BYTES: Final = 4
"""Of a text that is not ASCII, at the most."""

_LOGPROB_BYTES: Final = 250
"""A token with its log-probability, text, bytes and number."""


class State(enum.Enum):
    """Where a recording is; all but `RUNNING` last."""

    RUNNING = enum.auto()
    DONE = enum.auto()
    """Every answer is whole."""
    BROKEN = enum.auto()
    SPILLED = enum.auto()
    """It grew too large to be kept."""


def _nobody_counts(growth: int) -> None:
    """For a recording that shares its budget with none."""


class Recording:
    """The events of one running request, as far as they came.

    It is for one client at a time, because who asks twice wants two answers: for
    the client whose request it is, until that one has left, then for a replay.
    Several replays at once work; `free` is what keeps them from happening.

    Args:
        answers: How many make it whole, the request's `n`.
        bytes_max: What may be kept; one that grows beyond is spilled.
        grew: Called with the change of `bytes`, each time. May call `spill`.

    Attributes:
        bytes: What is kept now; 0 once it is broken or spilled.
        error: What a replay raises at the end of what it has; None unless broken or spilled.
        attended: The client whose request it is has not left.
        replays: How many read it again just now.
        delivered: Somebody has taken it in whole, as far as can be seen from here.
    """

    __slots__ = (
        "_answers_left",
        "_audience_changed",
        "_bytes_max",
        "_grew",
        "_waiting",
        "answers",
        "attended",
        "bytes",
        "delivered",
        "error",
        "events",
        "replays",
        "state",
    )

    def __init__(
        self,
        *,
        answers: int = 1,
        bytes_max: int = BYTES_MAX,
        grew: Callable[[int], None] = _nobody_counts,
    ) -> None:
        self.answers = answers
        self.events: list[Event] = []
        self.bytes = 0
        self.state = State.RUNNING
        self.error: GatewayError | None = None
        self.attended = True
        self.replays = 0
        self.delivered = False
        self._answers_left = answers
        self._bytes_max = bytes_max
        self._grew = grew
        self._waiting: list[asyncio.Future[None]] = []
        self._audience_changed: Callable[[], None] | None = None

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING

    @property
    def free(self) -> bool:
        """Whether there is something to replay, and nobody who reads it."""
        return (
            not self.attended
            and not self.replays
            and (self.state is State.RUNNING or self.state is State.DONE)
        )

    def add(self, events: Sequence[Event]) -> None:
        """Keep what has come. The last `Finished` ends it."""
        if self.state is not State.RUNNING:
            return
        self.events += events
        growth = 0
        for event in events:
            growth += size(event)
            if type(event) is Finished:
                self._answers_left -= 1
        if not self._answers_left:
            self.state = State.DONE
        if self._waiting:
            self._wake()
        self.bytes += growth
        self._grew(growth)
        if self.bytes > self._bytes_max:
            self.spill()

    def fail(self, error: GatewayError) -> None:
        """It broke; replays raise `error` after what they have. Nothing, if it has ended."""
        if self.state is State.RUNNING:
            self._drop(State.BROKEN, error)

    def spill(self) -> None:
        """Keep nothing any more. A replay that has not all of it breaks."""
        if self.state is State.RUNNING or self.state is State.DONE:
            self._drop(
                State.SPILLED,
                UpstreamBadResponse("The answer is too large to be given a second time."),
            )

    def arrival(self) -> asyncio.Future[None]:
        """Done when there is more, or the end."""
        arrival = asyncio.get_running_loop().create_future()
        self._waiting.append(arrival)
        return arrival

    def join(self) -> None:
        """A replay begins."""
        self.replays += 1
        self._tell()

    def part(self, *, delivered: bool) -> None:
        """A replay is over."""
        assert self.replays > 0
        self.replays -= 1
        self.delivered |= delivered
        self._tell()

    def listen(self, audience_changed: Callable[[], None] | None) -> None:
        """Have `audience_changed` called when a replay begins or is over; None: no longer."""
        self._audience_changed = audience_changed

    def _tell(self) -> None:
        if self._audience_changed is not None:
            self._audience_changed()

    def _drop(self, state: State, error: GatewayError) -> None:
        self.state = state
        self.error = error
        # A new list: replays read what they have from the old one.
        self.events = []
        growth, self.bytes = -self.bytes, 0
        self._wake()
        self._grew(growth)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for arrival in waiting:
            _set(arrival)


class Recorder:
    """An open request that is recorded, and that can go on without its client.

    The request is opened by the first `read`, in a task of its own: an engine may
    say nothing at all before its first token, and a request that is cancelled
    while it is being opened is lost. So a `read` that was cancelled may be called
    again, if the backend's own can. Leaving the block ends the recording if it
    still runs, in the same turn of the loop.

    Args:
        answer: What a backend opens; is entered and left by this.
    """

    __slots__ = ("_answer", "_opening", "_recording", "_stream")

    def __init__(
        self, answer: AbstractAsyncContextManager[EventStream], recording: Recording
    ) -> None:
        self._answer = answer
        self._recording = recording
        self._opening: asyncio.Task[EventStream] | None = None
        self._stream: EventStream | None = None

    @property
    def ends(self) -> Sequence[Finished]:
        return () if self._stream is None else self._stream.ends

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        recording = self._recording
        if recording.attended:
            recording.attended = False
            recording.delivered = kind is None and recording.state is State.DONE
        recording.fail(error if isinstance(error, GatewayError) else _given_up())
        if self._stream is not None or await self._was_opened():
            await self._answer.__aexit__(kind, error, trace)

    async def read(self) -> Sequence[Event]:
        """As `EventStream.read`; the first one raises as `InferenceBackend.open` too."""
        try:
            stream = await self._open() if self._stream is None else self._stream
            events = await stream.read()
        except GatewayError as error:
            self._recording.fail(error)
            raise
        if events:
            self._recording.add(events)
        return events

    async def linger(self, *, clock: Clock, patience_s: float) -> None:
        """Read on although the client has left, for as long as somebody may want it.

        Ends when the answer is whole or can't be kept, and when nobody has replayed
        it for `patience_s`. Cancelled, it may be called again.

        Raises:
            GatewayError: The answer broke.
        """
        recording = self._recording
        recording.attended = False
        while recording.running:
            try:
                await self._read_on(clock, patience_s)
            except TimeoutError:
                # Somebody may have come in the very turn in which the time was over.
                if not recording.replays:
                    recording.fail(_given_up())

    async def _read_on(self, clock: Clock, patience_s: float) -> None:
        """Read until the end. Raises TimeoutError when nobody has listened for so long."""
        recording = self._recording
        async with clock.timeout_at(clock.now() + patience_s) as patience:

            def count_on_audience() -> None:
                if not patience.expired():  # Then it can't be moved any more.
                    patience.reschedule(None if recording.replays else clock.now() + patience_s)

            recording.listen(count_on_audience)
            count_on_audience()
            try:
                while recording.running:
                    await self.read()
            finally:
                recording.listen(None)

    async def _open(self) -> EventStream:
        if self._opening is None:
            self._opening = asyncio.create_task(_enter(self._answer))
        await _end_of(self._opening)
        self._stream = self._opening.result()
        return self._stream

    async def _was_opened(self) -> bool:
        """End the opening; whether it was through already, and nobody had taken note."""
        opening = self._opening
        if opening is None:
            return False
        if opening.cancel():
            # The slot is given back only after the engine was left.
            await _end_of(opening)
        return not opening.cancelled() and opening.exception() is None


class Replay:
    """A recording from its beginning, for as long as the block lasts: an `EventStream`.

    The first read gives all that there is, each later one waits for more. Whoever
    found the recording free enters in the same turn of the loop, or it is no longer.
    """

    __slots__ = ("_events", "_place", "_recording", "ends")

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._events: Sequence[Event] = ()
        self._place = 0
        self.ends: list[Finished] = []

    async def __aenter__(self) -> Self:
        self._recording.join()
        self._events = self._recording.events
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._recording.part(delivered=kind is None and self._whole)

    @property
    def _whole(self) -> bool:
        return len(self.ends) == self._recording.answers

    async def read(self) -> Sequence[Event]:
        """As `EventStream.read`.

        Raises:
            GatewayError: What broke the answer, after all that had come of it.
        """
        recording = self._recording
        while not self._whole:
            events = self._events[self._place :]
            if events:
                self._place += len(events)
                self.ends += [event for event in events if isinstance(event, Finished)]
                return events
            if recording.error is not None:
                raise recording.error
            await recording.arrival()
        return ()


def size(event: Event) -> int:
    """Bytes of memory that an event takes, about. Costs less than asking the interpreter."""
    if isinstance(event, (TextDelta, ReasoningDelta)):
        text = event.text
    elif isinstance(event, ToolCallDelta):
        text = event.arguments
    else:
        text = ""
    bytes_ = _EVENT_BYTES + (len(text) if text.isascii() else _CHAR_BYTES * len(text))
    if isinstance(event, TextDelta) and event.logprobs is not None:
        bytes_ += _LOGPROB_BYTES * sum(1 + len(token.top) for token in event.logprobs)
    return bytes_


async def _enter(answer: AbstractAsyncContextManager[EventStream]) -> EventStream:
    return await answer.__aenter__()


async def _end_of(task: asyncio.Task[EventStream]) -> None:
    """Wait for a task that goes on if this is cancelled. asyncio.wait() at half the price."""
    if task.done():
        return
    ended = asyncio.get_running_loop().create_future()
    task.add_done_callback(lambda _: _set(ended))
    await ended


def _set(awaited: asyncio.Future[None]) -> None:
    if not awaited.done():  # Whoever waited may have left.
        awaited.set_result(None)


def _given_up() -> UpstreamDisconnected:
    return UpstreamDisconnected("The answer was given up before it was whole.")
