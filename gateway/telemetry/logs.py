"""The log: one line for each HTTP request, and what the modules say besides.

`setup` is called once, by the daemon. What modules say goes through Python's
`logging`; requests, which are many, go past it, so that one costs the request
path an append. No line holds a prompt, an answer, a key, or bytes as a client
sent them.

Lines go to standard error, since standard output is what a command answers. A
journal at its other end is told how grave each line is.
"""

import logging
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Final, TextIO

from gateway.config.schema import LogFormat, Logging, LogLevel
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.lines import (
    REQUEST_LOGGER,
    JsonLines,
    LineFormat,
    TextLines,
    is_ours,
    is_usual,
    request_level,
)
from gateway.telemetry.seldom import Seldom
from gateway.telemetry.sink import FdWriter, LineSink

ROOT: Final = ""
OURS: Final = "gateway"
"""The logger above all of our own; what others say comes through the root."""

_Request = tuple[float, Exchange]


class Logs:
    """The running log. Closing it gives back what `setup` took.

    Attributes:
        requests: Where answered HTTP requests are told.
    """

    def __init__(
        self,
        level: LogLevel,
        line_format: LineFormat,
        write: Callable[[bytes], None],
        *,
        to_journal: bool = False,
    ) -> None:
        self._format = line_format
        self._write = write
        self._to_journal = to_journal
        self._sink: LineSink[bytes | _Request] = LineSink(write, self._render, self._render_dropped)
        self._handler = LineHandler(self._sink, self._record_line)
        self.requests = RequestLog(self._sink)
        self._levels_before: dict[str, int] = {}
        self.apply(Logging(level=level))
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(True)

    def apply(self, settings: Logging) -> None:
        """From now on tell what these settings ask for; their format is that of `setup`.

        Of others' loggers (aiohttp, asyncio…) warnings and worse are told, unless
        `levels` names them.
        """
        self._restore_levels()
        level = _numeric(settings.level)
        levels = {ROOT: max(level, logging.WARNING), OURS: level}
        levels |= {name: _numeric(named) for name, named in settings.levels.items()}
        for name, wanted in levels.items():
            logger = logging.getLogger(name)
            self._levels_before[name] = logger.level
            logger.setLevel(wanted)
        self.requests.level = levels.get(REQUEST_LOGGER, levels[OURS])
        self.requests.sample = settings.sample

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
        logging.getLogger().removeHandler(self._handler)
        self._restore_levels()
        self._handler.close()
        if self._sink.close() and isinstance(self._write, FdWriter):
            self._write.close()

    def _restore_levels(self) -> None:
        for name, level in self._levels_before.items():
            logging.getLogger(name).setLevel(level)
        self._levels_before.clear()

    def _render(self, item: bytes | _Request) -> bytes:
        if isinstance(item, bytes):
            return item
        at, exchange = item
        return self._line(self._format.request(at, exchange), request_level(exchange))

    def _render_dropped(self, lines: int) -> bytes:
        record = logging.LogRecord(
            "gateway.log", logging.WARNING, "", 0, "log_lines_dropped", None, None
        )
        record.lines = lines
        return self._record_line(record)

    def _record_line(self, record: logging.LogRecord) -> bytes:
        return self._line(self._format.format(record), record.levelno)

    def _line(self, text: str, level: int) -> bytes:
        if self._to_journal:
            # sd-daemon(3): read from the start of each line, and taken off.
            mark = f"<{_journal_priority(level)}>"
            text = mark + text.replace("\n", f"\n{mark}")
        return text.encode("ascii", "backslashreplace") + b"\n"


def setup(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> Logs:
    """Send all that is logged to a stream, which may block, break or be closed.

    Args:
        format: auto is text on a terminal, else JSON.
        stream: Standard error if none is given; a daemon may have been started
            without one, and then everything is dropped and counted.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = to_journal = False
    write: Callable[[bytes], None] = _write_nowhere
    if stream is not None:
        try:
            on_terminal = stream.isatty()
            to_journal = is_journal(stream.fileno(), os.environ)
            write = FdWriter(stream.fileno())
        except (OSError, ValueError):  # closed, or no file at all
            if not stream.closed:
                write = _StreamWriter(stream)
    text = format == "text" or (format == "auto" and on_terminal)
    return Logs(level, TextLines() if text else JsonLines(), write, to_journal=to_journal)


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads there, and not something that inherited the variable."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    stat = os.fstat(fd)
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


class RequestLog:
    """Tells each HTTP request in exactly one line, if level and sample ask for it.

    Attributes:
        level: The least grave that is told, as `logging` counts.
        sample: The part of the usual ones that is told; of all others each is.
    """

    def __init__(
        self, sink: LineSink[bytes | _Request], *, wall: Callable[[], float] = time
    ) -> None:
        self._put = sink.put
        self._wall = wall
        self.level = logging.INFO
        self.sample = 1.0

    def exchanged(self, exchange: Exchange) -> None:
        """Costs the caller an append; the line is made later, on the log's own thread."""
        if request_level(exchange) < self.level:
            return
        if self.sample < 1.0 and is_usual(exchange) and _lot(exchange.request_id) >= self.sample:
            return
        self._put((self._wall(), exchange))


def _lot(request_id: str) -> float:
    """Between 0 and 1, evenly, and the same for an id everywhere.

    Whoever logs the same request by this rule, with the same sample, tells the same ones.
    """
    return zlib.crc32(request_id.encode()) / 2**32


class LineHandler(logging.Handler):
    """Python's `logging` into the sink. Lines are made here, while their arguments still hold.

    The same thing said over and over comes through five times a second; the
    next line of its kind then tells how many were `suppressed`.
    """

    def __init__(
        self,
        sink: LineSink[bytes | _Request],
        line_of: Callable[[logging.LogRecord], bytes],
    ) -> None:
        super().__init__()
        self._sink = sink
        self._line_of = line_of
        self._seldom = Seldom()

    def emit(self, record: logging.LogRecord) -> None:
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
            self._sink.put(self._line_of(record))
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


def _numeric(level: LogLevel) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _journal_priority(level: int) -> int:
    """As syslog counts: 3 error, 4 warning, 6 info, 7 debug."""
    if level >= logging.WARNING:
        return 3 if level >= logging.ERROR else 4
    return 6 if level >= logging.INFO else 7


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
