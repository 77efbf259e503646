"""The log: one line for each HTTP request, and what the modules say besides.

`setup` is called once, by the daemon. What modules say goes through Python's
`logging`; requests, which are many, go past it, so that one costs the request
path an append. No line holds a prompt, an answer, a key, or bytes as a client
sent them.
"""

import logging
import sys
from collections.abc import Callable
from time import monotonic, time
from typing import TextIO

from gateway.config.schema import LogFormat, LogLevel
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.lines import JsonLines, LineFormat, TextLines, is_ours, request_level
from gateway.telemetry.seldom import Seldom
from gateway.telemetry.sink import FdWriter, LineSink

_Request = tuple[float, Exchange]


class Logs:
    """The running log. Closing it gives back what `setup` took.

    Attributes:
        requests: Where answered HTTP requests are told.
    """

    def __init__(self, level: int, line_format: LineFormat, write: Callable[[bytes], None]) -> None:
        self._format = line_format
        self._write = write
        self._sink: LineSink[bytes | _Request] = LineSink(write, self._render, self._render_dropped)
        self._handler = LineHandler(self._sink, line_format)
        self.requests = RequestLog(self._sink, level=level)
        root = logging.getLogger()
        self._level_before = root.level
        root.setLevel(level)
        root.addHandler(self._handler)
        logging.captureWarnings(True)

    @property
    def lines_dropped(self) -> int:
        """Lines that nobody took in time, since the start."""
        return self._sink.lines_dropped

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until all that was told before is out; False when that takes too long."""
        return self._sink.flush(timeout_s)

    def close(self) -> None:
        """Write what is left, for a second at the most, and take nothing more."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level_before)
        self._handler.close()
        if self._sink.close() and isinstance(self._write, FdWriter):
            self._write.close()

    def _render(self, item: bytes | _Request) -> bytes:
        return item if isinstance(item, bytes) else _line(self._format.request(*item))

    def _render_dropped(self, lines: int) -> bytes:
        record = logging.LogRecord(
            "gateway.log", logging.WARNING, "", 0, "log_lines_dropped", None, None
        )
        record.lines = lines
        return _line(self._format.format(record))


def setup(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> Logs:
    """Send all that is logged to a stream, which may block, break or be closed.

    Args:
        format: auto is text on a terminal, else JSON.
        stream: Standard error if none is given; a daemon may have been started
            without one, and then everything is dropped and counted.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = False
    write: Callable[[bytes], None] = _write_nowhere
    if stream is not None:
        try:
            on_terminal = stream.isatty()
            write = FdWriter(stream.fileno())
        except (OSError, ValueError):  # closed, or no file at all
            if not stream.closed:
                write = _StreamWriter(stream)
    text = format == "text" or (format == "auto" and on_terminal)
    numeric = logging.getLevelNamesMapping()[level.upper()]
    return Logs(numeric, TextLines() if text else JsonLines(), write)


class RequestLog:
    """Tells each HTTP request in exactly one line, if the level asks for it."""

    def __init__(
        self,
        sink: LineSink[bytes | _Request],
        *,
        level: int,
        wall: Callable[[], float] = time,
    ) -> None:
        self._put = sink.put
        self._level = level
        self._wall = wall

    def exchanged(self, exchange: Exchange) -> None:
        """Costs the caller an append; the line is made later, on the log's own thread."""
        if request_level(exchange) >= self._level:
            self._put((self._wall(), exchange))


class LineHandler(logging.Handler):
    """Python's `logging` into the sink. Lines are made here, while their arguments still hold.

    Of others' loggers (aiohttp, asyncio…) warnings and worse are told.
    The same thing said over and over comes through five times a second; the
    next line of its kind then tells how many were `suppressed`.
    """

    def __init__(self, sink: LineSink[bytes | _Request], line_format: LineFormat) -> None:
        super().__init__()
        self._sink = sink
        self._line_format = line_format
        self._seldom = Seldom()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not is_ours(record):
            return
        try:
            if self._sink.full:
                self._sink.drop()
                return
            if record.levelno > logging.DEBUG:
                suppressed = self._seldom.admit(_kind(record), monotonic())
                if suppressed is None:
                    return
                if suppressed:
                    record.suppressed = suppressed
            self._sink.put(_line(self._line_format.format(record)))
        except Exception:
            # A line that can't be made is lost, never the request that said it.
            self._sink.drop()
        if record.levelno >= logging.ERROR:
            self._sink.hurry()

    def flush(self) -> None:
        """Called at exit by `logging`."""
        self._sink.flush()


def _kind(record: logging.LogRecord) -> tuple[str, int, str]:
    """What counts as saying the same again: others put anything into their arguments."""
    said = record.getMessage() if is_ours(record) else str(record.msg)
    return record.name, record.levelno, said[:200]


def _line(text: str) -> bytes:
    return text.encode("ascii", "backslashreplace") + b"\n"


def _write_nowhere(data: bytes) -> None:
    raise OSError("there is no stream to write to")


class _StreamWriter:
    """Writes to a stream that has no file descriptor, such as one of a test."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, data: bytes) -> None:
        try:
            self._stream.write(data.decode("ascii"))
            self._stream.flush()
        except ValueError as error:  # closed
            raise OSError(str(error)) from error
