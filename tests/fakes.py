"""Fakes that work: here, time."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class ManualClock:
    """A clock that stands still until the test moves it.

    `advance` fires what is due on the way, in order, and lets everything that
    can run do so after each step.
    """

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall - now
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall + self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_at(self._now + seconds, lambda: _wake(woken))
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, when: float, callback: Callable[[], None]) -> "_Timer":
        timer = _Timer(callback)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def timeout_at(self, when: float) -> asyncio.Timeout:
        return _ManualTimeout(self, when)

    def current_task(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None
        return task

    async def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        until = self._now + seconds
        await _settle()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.fire()
            await _settle()
        self._now = until
        await _settle()

    @property
    def pending(self) -> int:
        """Timers that would still fire."""
        return sum(1 for _, _, timer in self._timers if not timer.cancelled)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self) -> None:
        if not self.cancelled:
            self._callback()


class _ManualTimeout(asyncio.Timeout):  # type: ignore[misc]
    """An asyncio timeout whose moment is the manual clock's."""

    def __init__(self, clock: ManualClock, when: float | None) -> None:
        super().__init__(None)
        self._clock = clock
        self._due = when
        self._timer: _Timer | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.reschedule(self._due)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().__aexit__(kind, error, trace)

    def reschedule(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._clock.call_at(when, self._fire)

    def _fire(self) -> None:
        if not self.expired():
            super().reschedule(asyncio.get_running_loop().time())


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
