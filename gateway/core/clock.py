"""Time as a parameter: code that waits is handed a clock, so that tests own the time.

Deciding code does not even get a clock; it gets `now`, a float of seconds on a
monotonic scale whose zero means nothing. The wall clock is for log lines and
`created` fields alone.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self


class Timer(Protocol):
    """A call that will happen."""

    def cancel(self) -> None: ...


class Timeout(Protocol):
    """What `async with` needs to cut short what its own task awaits inside.

    As asyncio.Timeout: leaving raises TimeoutError in place of the cancellation
    that the passing of the moment has caused.
    """

    def reschedule(self, when: float | None) -> None: ...

    def expired(self) -> bool: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


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

    def timeout_at(self, when: float) -> Timeout:
        """As asyncio.timeout_at(). Goes around awaits of one task, never around a `yield`."""
        ...

    def current_task(self) -> asyncio.Task[Any]:
        """The task that asks."""
        ...


class LoopClock:
    """The running event loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # The scale of both loops' own time, but without uvloop's rounding to a
        # millisecond and to the beginning of the turn.
        self.now = time.monotonic

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_at(when, callback)

    def timeout_at(self, when: float) -> "LoopTimeout":
        return LoopTimeout(self._loop, when)

    def current_task(self) -> asyncio.Task[Any]:
        task = asyncio.current_task(self._loop)
        assert task is not None
        return task


class LoopTimeout:
    """asyncio.Timeout for a loop that is known, and that is mostly moved further away.

    asyncio's own asks for the running loop, and so the kernel for the process id,
    three times, and makes a new timer whenever it is moved.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_task", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._loop = loop
        self._when: float | None = when
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A cancellation from elsewhere goes first.
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def reschedule(self, when: float | None) -> None:
        earlier = when is not None and (self._when is None or when < self._when)
        self._when = when
        if earlier or self._timer is None:
            self._arm()

    def expired(self) -> bool:
        return self._expired

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._when is None else self._loop.call_at(self._when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._when is None:
            return
        if self._when > self._loop.time():
            self._arm()
        else:
            self._expired = True
            self._task.cancel()
