"""What the service manager is told: readiness, status and heartbeats. sd_notify(3).

A datagram of `NAME=value` lines goes to the socket that `$NOTIFY_SOCKET` names. Without
one, as on a terminal or in a container, nothing is said and nothing changes.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from typing import Final

from gateway.telemetry.clean import clean

log = logging.getLogger("gateway.systemd")

STATUS_CHARS_MAX: Final = 160

_WAIT_S: Final = 1.0
"""For a service manager that is busy, where what it is told may not be lost."""


class Notify:
    """The service manager, as it is spoken to. Nothing here raises.

    Args:
        address: A path, or an abstract one that begins with `@`; empty: nobody listens.
        watchdog_s: Within so many seconds it wants to hear `alive()`; None: never.
    """

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._is_ready = False

    @property
    def listened_to(self) -> bool:
        return bool(self._address)

    def starting(self, limit_s: float) -> None:
        """Still not ready, for good reasons: the time limit is so far from now."""
        self._send(_extension(limit_s))

    def ready(self, status: str) -> None:
        self._is_ready = True
        self._send("READY=1", _status(status), wait_s=_WAIT_S)

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(_status(text))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the block lasts, a reload is going on. Before it is ready nobody needs to know:
        the end of a reload is told as being ready."""
        if not self._is_ready:
            yield
            return
        moment = f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
        self._send("RELOADING=1", moment, wait_s=_WAIT_S)
        try:
            yield
        finally:
            self._send("READY=1", wait_s=_WAIT_S)

    def stopping(self, status: str, limit_s: float) -> None:
        """The end has begun, and takes so long at the most."""
        self._send("STOPPING=1", _status(status), _extension(limit_s), wait_s=_WAIT_S)

    def _send(self, *lines: str, wait_s: float = 0.0) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.settimeout(wait_s)
                end.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("the service manager can't be told %s: %s", lines[0], error)


def from_environ(environ: MutableMapping[str, str], pid: int) -> Notify:
    """The service manager that these variables name; takes them out, children have no use for them.

    Nonsense in them is nobody: a daemon that can't be watched is better than none.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    usec = environ.pop("WATCHDOG_USEC", "")
    watched = environ.pop("WATCHDOG_PID", "") or str(pid)
    if not address.startswith(("/", "@")):
        return Notify()
    meant = watched == str(pid) and usec.isascii() and usec.isdecimal() and int(usec) > 0
    return Notify(address, watchdog_s=int(usec) / 1e6 if meant else None)


def _status(text: str) -> str:
    return f"STATUS={clean(text, STATUS_CHARS_MAX)}"


def _extension(limit_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(limit_s * 1e6)}"


def of_this_process() -> Notify:
    return from_environ(os.environ, os.getpid())
