"""Where log lines go: a bounded buffer, and a thread that empties it.

A write that is done for each line costs more than all the rest of a request,
and one to a pipe that nobody reads stops the daemon. So whoever logs only
appends, and never waits; when the buffer is full the line is dropped and
counted. The thread turns what it finds into bytes and writes many lines at
once, in bundles small enough that it never keeps the interpreter's lock for long.
"""

import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

LINES_MAX: Final = 4096
LINGER_S: Final = 0.1
"""How long lines are collected before they are written."""

_BUNDLE_LINES: Final = 64


class FdWriter:
    """Writes to a file descriptor of its own, so that closing the original does no harm.

    Whoever closes a standard stream frees its number, and the next socket that
    is opened gets it: log lines in a client's answer.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def __call__(self, data: bytes) -> None:
        """Write all of it, for as long as that takes. Raises OSError."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # whoever shares it with us may have made it so
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll()

    def close(self) -> None:
        """Give the descriptor back; once, since its number may be another's after that."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LineSink(Generic[T]):
    """Takes items on any thread and writes them, in order, on its own.

    Every item that was put is written, or counted in `lines_dropped`.

    Args:
        write: Called with many lines at once. May block; may raise OSError.
        render: An item to a line with its end. Called on the sink's thread.
        render_dropped: A line that says how many were dropped; it precedes the
            first line that gets through again.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        render: Callable[[T], bytes],
        render_dropped: Callable[[int], bytes],
    ) -> None:
        self._write = write
        self._render = render
        self._render_dropped = render_dropped
        self._items: deque[T | threading.Event] = deque()
        self._dropped = 0
        self._dropped_told = 0
        self._closing = False
        self._begin()
        _sinks.add(self)

    @property
    def lines_dropped(self) -> int:
        return self._dropped

    @property
    def full(self) -> bool:
        return len(self._items) >= LINES_MAX

    def put(self, item: T) -> None:
        """Take one; never waits."""
        if len(self._items) >= LINES_MAX:
            self.drop()
            return
        self._items.append(item)
        if not self._pending.is_set():
            self._pending.set()

    def drop(self, lines: int = 1) -> None:
        """Count what nobody will read."""
        with self._counting:
            self._dropped += lines

    def hurry(self) -> None:
        """Have everything written at once instead of soon."""
        self._urgent.set()
        self._pending.set()

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until all that was put before is out; False when that takes too long."""
        if not self._thread.is_alive():
            # Closed, and `logging` flushes every handler once more at exit.
            return not self._items
        done = threading.Event()
        self._items.append(done)
        self.hurry()
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 1.0) -> bool:
        """Flush, and end the thread; False when it hangs in a write and had to be left."""
        self._closing = True
        self.hurry()
        self._thread.join(timeout_s)
        _sinks.discard(self)
        return not self._thread.is_alive()

    def begin_anew(self) -> None:
        """In a forked child: it has no thread yet, and the lines are the parent's."""
        self._items.clear()
        self._begin()

    def _begin(self) -> None:
        self._counting = threading.Lock()
        self._pending = threading.Event()
        self._urgent = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            self._pending.wait()
            self._urgent.wait(LINGER_S)
            # Cleared before the buffer is emptied: what comes now sets them again.
            self._pending.clear()
            self._urgent.clear()
            self._empty()
        self._empty()

    def _empty(self) -> None:
        bundle: list[bytes] = []
        while self._items:
            item = self._items.popleft()
            if isinstance(item, threading.Event):
                self._write_out(bundle)
                item.set()
                continue
            try:
                bundle.append(self._render(item))
            except Exception:
                # One that can't be told must not silence those after it.
                self.drop()
            if len(bundle) >= _BUNDLE_LINES:
                self._write_out(bundle)
        self._write_out(bundle)

    def _write_out(self, bundle: list[bytes]) -> None:
        if not bundle:
            return
        dropped, head = self._dropped, b""
        if dropped > self._dropped_told:
            head = self._render_dropped(dropped - self._dropped_told)
        try:
            self._write(b"".join((head, *bundle)))
        except OSError:
            self.drop(len(bundle))
        else:
            self._dropped_told = dropped
        bundle.clear()


_sinks: Final[weakref.WeakSet[LineSink[Any]]] = weakref.WeakSet()


def _begin_anew_all() -> None:
    for sink in list(_sinks):
        sink.begin_anew()


os.register_at_fork(after_in_child=_begin_anew_all)
