"""Cuts off a client that takes nothing of its answer any more."""

import asyncio
from collections.abc import Callable
from typing import Final

CHECKS: Final = 4
"""How often within the timeout it is seen whether the client still reads."""


class StallWatch:
    """Exists only while bytes wait to be taken, so that the good path has no timer.

    It begins when it is made, and ends by itself once everything is taken; a closed
    transport too is watched, since closing waits for the last bytes to be taken.

    Attributes:
        watching: False once it has ended.

    Args:
        bytes_written: All that was ever written to the transport. The buffer alone
            says too little: it also grows meanwhile.
        on_stall: Called before the transport is aborted.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        timeout_s: float,
        bytes_written: Callable[[], int],
        on_stall: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._bytes_written = bytes_written
        self._on_stall = on_stall
        self._loop = loop
        self._taken_bytes = self._count_taken()
        self._progress_at = loop.time()
        self.watching = True
        self._timer = self._set_timer()

    def end(self) -> None:
        self.watching = False
        self._timer.cancel()

    def check(self, now: float) -> None:
        """Abort, or go on watching, or end."""
        if not self._transport.get_write_buffer_size():
            self.watching = False
            return
        taken_bytes = self._count_taken()
        if taken_bytes != self._taken_bytes:
            self._taken_bytes = taken_bytes
            self._progress_at = now
        elif now - self._progress_at >= self._timeout_s:
            self.watching = False
            self._on_stall()
            self._transport.abort()
            return
        self._timer = self._set_timer()

    def _count_taken(self) -> int:
        return self._bytes_written() - self._transport.get_write_buffer_size()

    def _set_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(
            self._timeout_s / CHECKS, lambda: self.check(self._loop.time())
        )
