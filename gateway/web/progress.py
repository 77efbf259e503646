"""Tells the client of a stream where it stands until its answer begins.

As comments of the event stream: SDKs skip them, people see them, and an idle
connection is not cut by a proxy.
"""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.core.clock import Clock, Timer
from gateway.core.ticket import Progress

_STATES = {"loading": "loading the model", "prefill": "reading the prompt"}


def comment(progress: Progress) -> bytes:
    """`: queued 3, about 12 s`, as a record of the event stream."""
    if progress.state == "queued":
        said = f"queued {progress.position + 1}, about {max(1.0, progress.wait_s):.0f} s"
    else:
        said = _STATES.get(progress.state, "running")
    return b": %b\n\n" % said.encode("ascii")


class ProgressComments:
    """Writes one every `every_s` seconds from `start` to `stop`; the first one that late too.

    Args:
        ask: Where the request is; None when that is not known.
        write: Begins the response if it has not begun, and writes to it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        every_s: float,
        ask: Callable[[], Progress | None],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._every_s = every_s
        self._ask = ask
        self._write = write
        self._timer: Timer | None = None
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._every_s > 0.0:
            self._timer = self._clock.call_at(self._clock.now() + self._every_s, self._due)

    async def stop(self) -> None:
        """No more of them; one that is being written is written to its end."""
        self.cancel()
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    def cancel(self) -> None:
        """No more of them; for when there is nobody left to write to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._writing = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        progress = self._ask()
        try:
            if progress is not None:
                await self._write(comment(progress))
        except ConnectionError:
            return  # The client is gone; its own task hears of it too.
        if self._timer is not None:
            self.start()
