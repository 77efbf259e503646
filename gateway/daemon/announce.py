"""What the service manager hears of the daemon's life, from the start to the drain.

READY is said when the default model is warm, so that whoever is ordered after this
service finds it so; or as soon as it is plain that nothing can be warmed, because no
engine answers: the daemon serves all the same, and tells its callers. Until then the
manager's limit on the start is moved along, however long a large model takes, by the
same loop that serves requests: if that stands still, so does the limit.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from gateway.config.effective import untagged
from gateway.core.clock import Clock
from gateway.daemon.notify import Notify
from gateway.daemon.statistics import Statistics, readiness

ENGINE_PATIENCE_S: Final = 3.0
"""For an engine that is started along with us."""

EXTENSION_S: Final = 30.0
LOOK_S: Final = 1.0
STATUS_EVERY_S: Final = 2.0

_MODELS_NAMED_MAX: Final = 3

_STATES: Final = {
    "": "serving",
    "queue_full": "serving, the queue is full",
    "warming_up": "warming up",
    "backend": "no backend answers",
    "draining": "draining",
}


class Announcer:
    """Says READY once, and then what is going on whenever that has changed.

    Args:
        warm: Set when the warm-up is over, however it ended.
        loaded: The models in memory.
    """

    def __init__(
        self,
        *,
        notify: Notify,
        clock: Clock,
        warm: asyncio.Event,
        statistics: Callable[[], Statistics],
        loaded: Callable[[], Sequence[str]],
    ) -> None:
        self._notify = notify
        self._clock = clock
        self._warm = warm
        self._statistics = statistics
        self._loaded = loaded
        self._said = ""

    async def run(self) -> None:
        """Begins when the daemon listens."""
        if not self._notify.listened_to:
            return
        await self._until_ready()
        self._said = self._line()
        self._notify.ready(self._said)
        while True:
            await self._clock.sleep(STATUS_EVERY_S)
            line = self._line()
            if line != self._said:
                self._said = line
                self._notify.status(line)

    async def _until_ready(self) -> None:
        patient_until = self._clock.now() + ENGINE_PATIENCE_S
        while not self._warm.is_set() and (
            self._clock.now() < patient_until
            or any(upstream.up for upstream in self._statistics().upstreams)
        ):
            self._notify.starting(EXTENSION_S)
            with suppress(TimeoutError):
                async with self._clock.timeout_at(self._clock.now() + LOOK_S):
                    await self._warm.wait()

    def _line(self) -> str:
        return status_line(self._statistics(), self._loaded())


def status_line(now: Statistics, loaded: Sequence[str]) -> str:
    """`serving: 3 running, 5 waiting, 2 slots, llama3.2 loaded`."""
    slots = sum(upstream.slots for upstream in now.upstreams if upstream.up)
    parts = [
        f"{max(0, now.active - now.waiting)} running",
        f"{now.waiting} waiting",
        f"{slots} slot{'' if slots == 1 else 's'}",
    ]
    if loaded:
        names = [untagged(name) for name in loaded[:_MODELS_NAMED_MAX]]
        if len(loaded) > len(names):
            names.append(f"{len(loaded) - len(names)} more")
        parts.append(f"{', '.join(names)} loaded")
    return f"{_STATES[readiness(now).reason]}: {', '.join(parts)}"
