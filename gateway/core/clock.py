"""Time as a parameter: code that waits is handed a clock, so that tests own the time.

Deciding code does not even get a clock; it gets `now`, a float of seconds on a
monotonic scale whose zero means nothing. The wall clock is for log lines and
`created` fields alone.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that will happen."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where waiting code gets its time from. Two real ones: LoopClock, and ManualClock in tests."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch; for people and wire formats only."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer: ...

    def timeout_at(self, when: float | None) -> asyncio.Timeout:
        """An async context manager as asyncio.timeout_at(); can be rescheduled.

        Goes around awaits of one task, never around a generator's `yield`.
        """
        ...


class LoopClock:
    """The running event loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_at(when, callback)

    def timeout_at(self, when: float | None) -> asyncio.Timeout:
        return asyncio.timeout_at(when)
