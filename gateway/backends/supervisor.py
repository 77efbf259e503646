"""Keeps one child process serving: starts it, waits until it is ready, restarts it when it ends.

The child reads one line of settings from stdin, whose end tells it that nobody
needs it any more. It writes one line of JSON to stdout: `{"url": …}` when it
serves, with an `embeddings_url` where these are served elsewhere, or
`{"error": …}` before it ends. What it writes to stderr goes to the debug log.

A child that ends is started again after 0.5 s, then twice as long each time up
to 30 s; one that served for a minute has earned a fresh beginning.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, cast

import msgspec

from gateway.core import jsonio
from gateway.core.clock import Clock

BACKOFF_MIN_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0

READY_TIMEOUT_S: Final = 300.0
"""A large model from a slow disk takes minutes; one that takes longer won't come."""

KILL_AFTER_S: Final = 5.0
LAST_WORDS_S: Final = 1.0

_LINE_BYTES_MAX: Final = 1024
_LINES_MAX: Final = 200

_log = logging.getLogger("gateway.engine")


class Supervisor:
    """One child, and its replacements.

    Keeps: at most one child lives at a time; `url` is set exactly while it is
    ready and has not ended; after `run` or `close` has returned, none lives.

    Args:
        command: The program and its arguments; no shell is involved.
        settings: The line for the child's stdin. May hold secrets, as arguments may not.
        label: What it serves, for the log.
        on_ready: Told the URLs, of text and of embeddings, each time that the child
            begins to serve.
        on_change: Told each change of state, in words for a terminal.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        settings: bytes,
        label: str,
        clock: Clock,
        on_ready: Callable[[str, str], None],
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._settings = settings
        self._label = label
        self._clock = clock
        self._on_ready = on_ready
        self._on_change = on_change
        self._child: _Child | None = None
        self._started_at = 0.0
        self._next_start_at: float | None = None
        self._load_s = 1.0
        self._closing = asyncio.Event()
        self.url: str | None = None

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return None if self._child is None else self._child.pid

    def expected_ready_s(self) -> float:
        """Seconds until the child may serve again, as far as one can tell; at least one."""
        now = self._clock.now()
        start_at = self._started_at if self._next_start_at is None else self._next_start_at
        return max(1.0, start_at + self._load_s - now)

    async def run(self) -> None:
        """Keep a child serving until cancelled, or closed. Ends the child in every case."""
        backoff_s = BACKOFF_MIN_S
        try:
            while not self._closing.is_set():
                child = await self._start()
                if self._closing.is_set():
                    break
                served_s = 0.0 if child is None else await self._attend(child)
                if self._closing.is_set():
                    break
                if served_s >= HEALTHY_AFTER_S:
                    backoff_s = BACKOFF_MIN_S
                self._next_start_at = self._clock.now() + backoff_s
                self._tell(logging.INFO, f"restarting {self._label} in {backoff_s:g} s")
                await self._clock.sleep(backoff_s)
                self._next_start_at = None
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the child: asked at first, killed after 5 s, or at once when cancelled."""
        self._closing.set()
        child, self._child, self.url = self._child, None, None
        if child is not None:
            await self._end(child)

    async def _start(self) -> "_Child | None":
        assert self._child is None
        self._started_at = self._clock.now()
        loop = asyncio.get_running_loop()
        try:
            _, child = await loop.subprocess_exec(
                _Child,
                *self._command,
                # Ctrl-C on the terminal is for the parent, which lets answers end first.
                start_new_session=True,
            )
        except OSError as error:
            # No memory, no processes left: both may pass.
            self._tell(logging.ERROR, f"no process for {self._label}: {error.strerror}")
            return None
        self._child = child
        self._tell(logging.INFO, f"loading {self._label}")
        child.write(self._settings + b"\n")
        return child

    async def _attend(self, child: "_Child") -> float:
        """See one child through its life; the seconds that it served."""
        served_s = 0.0
        try:
            async with self._clock.timeout_at(self._started_at + READY_TIMEOUT_S):
                url, embeddings_url = await asyncio.shield(child.ready)
        except TimeoutError:
            code = await self._end(child)
            self._fault(f"{self._label} was not ready in {READY_TIMEOUT_S:g} s", code)
        except ChildFailed as error:
            code = await self._end(child)
            self._fault(f"{self._label} can't be served: {error}", code)
        else:
            ready_at = self._clock.now()
            self._load_s = ready_at - self._started_at
            if not self._closing.is_set():
                self.url = url
                self._on_ready(url, embeddings_url)
                self._tell(logging.INFO, f"{self._label} is ready after {self._load_s:.1f} s")
            code = await asyncio.shield(child.ended)
            self.url = None
            served_s = self._clock.now() - ready_at
            self._fault(f"the engine of {self._label} ended", code)
        if self._child is child:
            self._child = None
        return served_s

    async def _end(self, child: "_Child") -> int:
        """The exit code of a child that was made to end, if it had not."""
        child.send_signal(signal.SIGTERM)
        try:
            async with self._clock.timeout_at(self._clock.now() + KILL_AFTER_S):
                return await asyncio.shield(child.ended)
        except TimeoutError:
            child.send_signal(signal.SIGKILL)
            return await asyncio.shield(child.ended)
        except asyncio.CancelledError:
            child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.ended)
            raise

    def _fault(self, sentence: str, code: int) -> None:
        """Tell what nobody asked for."""
        if not self._closing.is_set():
            self._tell(logging.ERROR, f"{sentence} ({_in_words(code)})")

    def _tell(self, level: int, sentence: str) -> None:
        _log.log(level, sentence)
        if self._on_change is not None:
            self._on_change(sentence)


class ChildFailed(Exception):
    """The child will not serve; why, in words for the operator."""


class _Ready(msgspec.Struct):
    url: str | None = None
    embeddings_url: str | None = None
    error: str | None = None


class _Child(asyncio.SubprocessProtocol):
    """What one child says, and when it ends.

    Attributes:
        ready: Its URLs, of text and of embeddings; ChildFailed when it says why not,
            talks nonsense, or falls silent.
        ended: Its exit code; a negative one is a signal.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[tuple[str, str]] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        # A child that nobody asks about any more may still fail.
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._transport: asyncio.SubprocessTransport | None = None
        self._last_words: asyncio.TimerHandle | None = None
        self._said = b""
        self._complained = b""
        self._lines_left = _LINES_MAX

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's does not derive from the class whose methods it has.
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._hear(data)
        else:
            self._forward(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1 and not self.ready.done():
            self.ready.set_exception(ChildFailed("it ended without a word"))

    def process_exited(self) -> None:
        # Its last words are still in the pipes; somebody it started may hold them open.
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._last_words = loop.call_later(LAST_WORDS_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and so have its pipes."""
        assert self._transport is not None
        assert self._last_words is not None
        self._last_words.cancel()
        code = self._transport.get_returncode()
        assert code is not None
        self._transport.close()
        self.ended.set_result(code)

    @property
    def pid(self) -> int:
        assert self._transport is not None
        pid = self._transport.get_pid()
        assert pid is not None
        return pid

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0)).write(data)

    def send_signal(self, number: signal.Signals) -> None:
        # Not by the transport: it looks for the exit code first, and what it finds
        # the loop's own watcher then misses (cpython#87744, until 3.13).
        if self._last_words is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _hear(self, data: bytes) -> None:
        """The first line of stdout; there is no second."""
        if self.ready.done():
            return
        self._said += data
        line, newline, _ = self._said.partition(b"\n")
        if not newline and len(line) <= _LINE_BYTES_MAX:
            return
        try:
            if len(line) > _LINE_BYTES_MAX:
                raise ChildFailed("it said too much")
            self.ready.set_result(_urls(line))
        except ChildFailed as error:
            self.ready.set_exception(error)

    def _forward(self, data: bytes) -> None:
        *lines, rest = (self._complained + data).split(b"\n")
        self._complained = rest[:_LINE_BYTES_MAX]
        for line in lines:
            if self._lines_left == 0:
                return
            self._lines_left -= 1
            # ascii() keeps control characters out of terminals.
            text = ascii(line[:_LINE_BYTES_MAX].decode("utf-8", "replace"))[1:-1]
            _log.debug("engine: %s", text)
            if self._lines_left == 0:
                _log.debug("engine: said enough; the rest is not logged")


def _urls(line: bytes) -> tuple[str, str]:
    """Raises ChildFailed."""
    try:
        said = msgspec.convert(jsonio.loads(line), _Ready)
    except ValueError:
        _nonsense()
    if said.error is not None:
        raise ChildFailed(said.error)
    if said.url is None:
        _nonsense()
    return said.url, said.embeddings_url or said.url


def _nonsense() -> NoReturn:
    raise ChildFailed("it said what is no JSON with a url")


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
