"""The engines that the daemon runs itself, from when they are needed until they are not."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.backends.llamacpp import LlamaCppBackend
from gateway.core.clock import Clock
from gateway.pool.upstream import Upstream

Work = Callable[[], Coroutine[Any, Any, None]]

IDLE_LOOK_S: Final = 1.0
"""How often it is seen whether one that is gone has ended what it runs."""


class Engines:
    """Owns the tasks that keep embedded engines alive, and those that let upstreams go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._group: asyncio.TaskGroup | None = None
        self._waiting: list[Work] = []

    async def run(self) -> None:
        """Until it is cancelled, which ends all engines. One that fails ends this too."""
        async with asyncio.TaskGroup() as self._group:
            for work in self._waiting:
                self._group.create_task(work())
            self._waiting.clear()
            await asyncio.get_running_loop().create_future()

    def begin(self, upstream: Upstream) -> None:
        """Run its engine, if it has one of our own."""
        if isinstance(upstream.backend, LlamaCppBackend):
            self._start(upstream.backend.run)

    def let_go(self, upstream: Upstream) -> None:
        """Nobody is sent there any more: close it when what runs there has ended."""
        self._start(functools.partial(self._close_when_idle, upstream))

    async def _close_when_idle(self, upstream: Upstream) -> None:
        while upstream.in_flight:
            await self._clock.sleep(IDLE_LOOK_S)
        await upstream.backend.close()

    def _start(self, work: Work) -> None:
        if self._group is None:
            self._waiting.append(work)
        else:
            self._group.create_task(work())
