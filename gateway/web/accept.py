"""Keeps a lack of file descriptors from flooding the log.

Out of descriptors, asyncio takes the listening socket out of the loop for a second and
tries again: what runs goes on and who waits is served later. But Python 3.11 tells the
loop's exception handler of it for each connection of the backlog, thousands of times a
second with a traceback each. libuv (uvloop) accepts and closes whoever waits, and tells
nobody. Both recover by themselves; `connections_max` below RLIMIT_NOFILE prevents both.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, Final

from gateway.web.refusals import LineBudget

log = logging.getLogger("gateway.web")

LINE_EVERY_S: Final = 10.0

Context = dict[str, Any]
ExceptionHandler = Callable[[asyncio.AbstractEventLoop, Context], object]

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class AcceptGuard:
    """An exception handler for the loop; passes on what it is not about.

    Args:
        previous: The handler that was there, None for the loop's own.
    """

    def __init__(self, previous: ExceptionHandler | None) -> None:
        self.previous = previous
        self._budget = LineBudget(lines=1, per_s=LINE_EVERY_S)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        exception = context.get("exception")
        if (
            isinstance(exception, OSError)
            and exception.errno in _EXHAUSTED
            and "accept" in context.get("message", "")
        ):
            if self._budget.take(loop.time()):
                log.error(
                    "no file descriptors are left to accept connections; trying again each second",
                    extra={
                        "event": "accept_exhausted",
                        "errno": errno.errorcode[exception.errno],
                        "failed_before": self._budget.take_untold(),
                    },
                )
        elif self.previous is not None:
            self.previous(loop, context)
        else:
            loop.default_exception_handler(context)
