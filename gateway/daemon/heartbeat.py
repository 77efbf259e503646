"""The event loop's own pulse: it feeds the watchdog, and sees when something held the loop.

A beat is a timer of the loop that serves requests. While anything holds the loop no beat
comes, and the service manager, which hears nothing any more, starts the daemon anew. How
late a beat comes is what every timer and every client had to wait.
"""

import logging
from collections.abc import Callable
from typing import Final

from gateway.core.clock import Clock
from gateway.daemon.notify import Notify

log = logging.getLogger("gateway.loop")

BEAT_S: Final = 0.25
STALL_S: Final = 1.0
"""From here on clients notice, and it is worth a line in the log."""

_FED_AHEAD: Final = 3
"""The watchdog is fed so many times in its period; sd_watchdog_enabled(3) asks for two."""


class Heartbeat:
    """One beat after the other.

    Args:
        lagged: Told the seconds by which each beat was late.
    """

    def __init__(self, *, clock: Clock, notify: Notify, lagged: Callable[[float], None]) -> None:
        self._clock = clock
        self._notify = notify
        self._lagged = lagged
        self._feed_s = None if notify.watchdog_s is None else notify.watchdog_s / _FED_AHEAD
        self._beat_s = BEAT_S if self._feed_s is None else min(BEAT_S, self._feed_s)
        self._fed_at = float("-inf")

    async def run(self) -> None:
        while True:
            self._feed()
            due_at = self._clock.now() + self._beat_s
            await self._clock.sleep(self._beat_s)
            self._late_by(max(0.0, self._clock.now() - due_at))

    def _feed(self) -> None:
        now = self._clock.now()
        # Half a beat early rather than half a beat late.
        if self._feed_s is not None and now - self._fed_at >= self._feed_s - self._beat_s / 2:
            self._fed_at = now
            self._notify.alive()

    def _late_by(self, lag_s: float) -> None:
        self._lagged(lag_s)
        if lag_s > STALL_S:
            log.warning(
                "nobody was served for %.1f s: something held the event loop",
                lag_s,
                extra={"event": "loop_stall", "seconds": round(lag_s, 3)},
            )
