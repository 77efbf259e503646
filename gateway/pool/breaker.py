"""Keeps requests away from an engine that does not answer.

Requests are never the guinea pigs: while the breaker is not closed, only the
health check asks the engine, and its first success lets the requests in again.
After M. Nygard, Release It! (2007), "Circuit Breaker".
"""

import enum
from typing import Final

import attrs


class State(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Signal(enum.Enum):
    FAILED_TOO_OFTEN = "failed_too_often"
    COOLED_DOWN = "cooled_down"
    PROBE_SUCCEEDED = "probe_succeeded"
    PROBE_FAILED = "probe_failed"


TRANSITIONS: Final = {
    (State.CLOSED, Signal.FAILED_TOO_OFTEN): State.OPEN,
    (State.CLOSED, Signal.PROBE_FAILED): State.OPEN,
    (State.CLOSED, Signal.PROBE_SUCCEEDED): State.CLOSED,
    (State.OPEN, Signal.COOLED_DOWN): State.HALF_OPEN,
    # A check that was under way when it opened has asked too early to count.
    (State.OPEN, Signal.PROBE_SUCCEEDED): State.OPEN,
    (State.OPEN, Signal.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Signal.PROBE_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Signal.PROBE_FAILED): State.OPEN,
}


@attrs.define(eq=False)
class Breaker:
    """Counts failures in a row; `failures_max` of them open it for `cooldown_s`.

    A health check that fails opens it at once: it found nobody there.
    """

    failures_max: int = 5
    cooldown_s: float = 1.0
    state: State = State.CLOSED
    _failures: int = 0
    _opened_at: float = 0.0

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def doubted(self) -> bool:
        """Whether a request has found it gone since it was last seen alive."""
        return self._failures > 0

    def failed(self, now: float) -> None:
        """A request found the engine gone."""
        self._failures += 1
        if self._failures >= self.failures_max and self.closed:
            self._move(Signal.FAILED_TOO_OFTEN, now)

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures = 0

    def may_probe(self, now: float) -> bool:
        """Whether the health check may ask now; an open breaker cools down first."""
        if self.state is State.OPEN:
            if now - self._opened_at < self.cooldown_s:
                return False
            self._move(Signal.COOLED_DOWN, now)
        return True

    def probed(self, alive: bool, now: float) -> None:
        """The health check's finding."""
        self._move(Signal.PROBE_SUCCEEDED if alive else Signal.PROBE_FAILED, now)

    def _move(self, signal: Signal, now: float) -> None:
        self.state = TRANSITIONS[self.state, signal]
        if self.state is State.OPEN:
            self._opened_at = now
        elif self.state is State.CLOSED:
            self._failures = 0
