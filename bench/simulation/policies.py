"""What stands between clients and the box: nothing, or the predecessor. Ours is `ours.py`."""

import enum
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import attrs

from bench.simulation.asks import Ask
from bench.simulation.box import Box, Run
from bench.simulation.events import Event, Events


class End(enum.Enum):
    """What became of a try."""

    WHOLE = "answered"
    CUT = "cut at its deadline"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    LEFT = "client left"


@attrs.define(eq=False, slots=True, kw_only=True)
class Attempt:
    """One try of a request. The policy fills in what becomes of it, and calls `done` once.

    Attributes:
        retries: How often it was tried before; None of a client that doesn't say.
        deadline_s: How long the client waits for it (a stream: for its first token).
        done: Not called when the client has left.
        accepted: It was not refused.
        slot_at: When it was given a slot, so far as the policy knows.
        headers: Of a refusal.
    """

    ask: Ask
    retries: int | None
    sent_at: float
    deadline_s: float
    done: Callable[["Attempt"], None]
    accepted: bool = False
    slot_at: float | None = None
    first_at: float | None = None
    ended_at: float | None = None
    end: End | None = None
    evaluated: int = 0
    written: int = 0
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def wait_s(self) -> float:
        """Until its slot."""
        assert self.slot_at is not None
        return self.slot_at - self.sent_at

    @property
    def in_time(self) -> bool:
        """Answered whole, and before its deadline."""
        if self.end is not End.WHOLE:
            return False
        moment = self.first_at if self.ask.stream else self.ended_at
        return moment is not None and moment - self.sent_at <= self.deadline_s + EPSILON_S

    def finish(self, end: End, now: float, *, status: int = 200) -> None:
        assert self.end is None, "a try ends once"
        self.end = end
        self.ended_at = now
        self.status = status


EPSILON_S: Final = 1e-6
"""Rounding of a run's additions."""


class Policy(Protocol):
    """Takes requests, and runs them on the box as it thinks best."""

    def send(self, attempt: Attempt) -> None: ...

    def leave(self, attempt: Attempt) -> None:
        """The client has gone; of no effect on what has ended."""
        ...

    def check(self) -> None:
        """Raises AssertionError where a promise about the present is broken."""
        ...

    def check_ended(self) -> None:
        """As `check`, once nobody asks any more."""
        ...


class Direct:
    """Straight into the box, whose line is first come, first served and without a bound.

    Clients leave at their deadline; the box then stops what it does for them.
    """

    def __init__(self, *, events: Events, box: Box) -> None:
        self._events = events
        self._box = box
        self._runs: dict[Attempt, tuple[Run, Event]] = {}

    def send(self, attempt: Attempt) -> None:
        now = self._events.now
        attempt.accepted = True
        run = Run(attempt.ask.model, attempt.ask, lambda run: self._progress(attempt, run))
        deadline = self._events.at(now + attempt.deadline_s, lambda: self._expire(attempt))
        self._runs[attempt] = run, deadline
        self._forward(run)

    def leave(self, attempt: Attempt) -> None:
        self._stop(attempt, End.LEFT, status=499)

    def check(self) -> None:
        """Promises nothing."""

    def check_ended(self) -> None:
        assert not self._runs

    def _forward(self, run: Run) -> None:
        self._box.submit(run)

    def _progress(self, attempt: Attempt, run: Run) -> None:
        if run.ended_at is None:
            attempt.first_at = run.first_at
            return
        if attempt.end is None:
            self._note(attempt, run)
            attempt.finish(End.WHOLE, self._events.now)
            self._runs.pop(attempt)[1].cancel()
            attempt.done(attempt)

    def _expire(self, attempt: Attempt) -> None:
        if attempt.ask.stream and attempt.first_at is not None:
            return
        self._stop(attempt, End.TIMED_OUT, status=504)
        attempt.done(attempt)

    def _stop(self, attempt: Attempt, end: End, *, status: int) -> None:
        if attempt.end is not None:
            return
        run, deadline = self._runs.pop(attempt)
        deadline.cancel()
        self._box.leave(run)
        self._note(attempt, run)
        attempt.finish(end, self._events.now, status=status)

    def _note(self, attempt: Attempt, run: Run) -> None:
        attempt.slot_at = run.started_at
        attempt.first_at = run.first_at
        attempt.evaluated = run.evaluated
        attempt.written = run.written


class Predecessor(Direct):
    """As it documents itself: a counter of 50, else 503; a window of 100 ms, then the box's line.

    Streams go past the window. What is not there after 60 s is a 504.
    """

    HELD_MAX: Final = 50
    WINDOW_S: Final = 0.1
    RETRY_AFTER_S: Final = 1

    def send(self, attempt: Attempt) -> None:
        if len(self._runs) >= self.HELD_MAX:
            attempt.headers = {"retry-after": str(self.RETRY_AFTER_S)}
            attempt.finish(End.REFUSED, self._events.now, status=503)
            attempt.done(attempt)
            return
        super().send(attempt)

    def _forward(self, run: Run) -> None:
        if run.ask is not None and run.ask.stream:
            self._box.submit(run)
            return
        self._events.at(self._events.now + self.WINDOW_S, lambda: self._submit(run))

    def _submit(self, run: Run) -> None:
        if not run.left:
            self._box.submit(run)
