"""Loads of models that belong to the gateway, and not to whoever asked for the model first.

An engine gives up a load when the client that caused it leaves, and begins anew
for the next one: with impatient clients a large model is never there. So the
gateway loads it by itself, in a task of its own; those who want the model wait
for that task's end, and may leave without ending it.

One load runs for one model of one upstream at a time, whoever asks, and the loads
of one upstream go one after the other, because they want the same memory.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, UpstreamDisconnected
from gateway.pool.upstream import LOAD_S_MIN, Upstream

log: Final = logging.getLogger("gateway.loads")


class Loads:
    """Owns the tasks that load models, until `close`.

    Args:
        loaded: Called with upstream, model (in the engine's spelling) and seconds after
            each load that was one. Must not raise.
    """

    def __init__(self, *, clock: Clock, loaded: Callable[[Upstream, str, float], None]) -> None:
        self._clock = clock
        self._loaded = loaded
        self._tasks: dict[tuple[Upstream, str], asyncio.Task[None]] = {}
        # Another one of the same name may take an upstream's place.
        self._turns: WeakKeyDictionary[Upstream, asyncio.Lock] = WeakKeyDictionary()
        self._loading: dict[Upstream, str] = {}
        self._closed = False

    async def ensure(self, upstream: Upstream, model: str) -> float:
        """Wait until the upstream has the model in memory; the seconds waited.

        Cancelling it does the load no harm.

        Raises:
            GatewayError: It could not be loaded, see `InferenceBackend.load`. Everybody
                who waited is told; who asks next causes another try.
            UpstreamDisconnected: The gateway is stopping.
        """
        if upstream.holds(model):
            return 0.0
        started_at = self._clock.now()
        task = self._task(upstream, upstream.named(model))
        # Unlike awaiting the task itself, this neither cancels it nor is cancelled by it.
        await asyncio.wait((task,))
        if task.cancelled():
            raise _stopping()
        if error := task.exception():
            # One error for all who waited: each raises it from where it stands.
            raise error.with_traceback(None)
        return self._clock.now() - started_at

    def loading(self, upstream: Upstream) -> str | None:
        """The model that is being loaded there now, in the engine's spelling."""
        return self._loading.get(upstream)

    async def close(self) -> None:
        """Break off what runs, and wait until it has ended. May be called twice."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, upstream: Upstream, name: str) -> asyncio.Task[None]:
        """The load that is under way, else a new one."""
        if self._closed:
            raise _stopping()
        key = (upstream, name)
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(self._load(upstream, name), name=f"load {name}")
            self._tasks[key] = task
            task.add_done_callback(functools.partial(self._end, key))
        return task

    async def _load(self, upstream: Upstream, name: str) -> None:
        async with self._turns.setdefault(upstream, asyncio.Lock()):
            self._loading[upstream] = name
            started_at = self._clock.now()
            try:
                await upstream.backend.load(name)
            finally:
                del self._loading[upstream]
            seconds = self._clock.now() - started_at
            upstream.ran(name, seconds)
        if seconds >= LOAD_S_MIN:
            log.info("%s loaded %s in %.1f s", upstream.name, name, seconds)
            self._loaded(upstream, name, seconds)

    def _end(self, key: tuple[Upstream, str], task: asyncio.Task[None]) -> None:
        """Forget it, so that who asks next tries again. Nobody may be left to hear of an error."""
        del self._tasks[key]
        if task.cancelled():
            return
        upstream, name = key
        match task.exception():
            case None:
                pass
            case GatewayError(message=text):
                log.warning("%s could not load %s: %s", upstream.name, name, text)
            case error:
                log.error("%s could not load %s", upstream.name, name, exc_info=error)


def _stopping() -> UpstreamDisconnected:
    return UpstreamDisconnected("The gateway is stopping.")
