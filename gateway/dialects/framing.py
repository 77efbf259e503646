"""Records of a byte stream: server-sent events out, lines and events in, all bounded.

Writing: one record is `data: <JSON>` and a blank line. JSON escapes CR and LF,
so no token can end a record early; `one_line` also escapes the separators that
only some readers take for line ends.

Reading: the splitters take pieces cut anywhere and hand out what is complete.
They live as long as one answer and hold at most one unfinished line or record.

Source: WHATWG HTML, §9.2 Server-sent events.
"""

from typing import Final

DATA: Final = b"data: "
END: Final = b"\n\n"
DONE: Final = b"data: [DONE]\n\n"
DONE_PAYLOAD: Final = b"[DONE]"


def record(payload: bytes) -> bytes:
    """One event; `payload` is JSON on one line."""
    return DATA + one_line(payload) + END


def one_line(payload: bytes) -> bytes:
    """The same JSON without U+0085, U+2028 and U+2029 in the clear.

    The event stream itself ends lines at CR and LF alone, but a client that
    splits text by Unicode's rules (Python's `str.splitlines`) would cut a token
    in two there. They stand in JSON only inside strings, where an escape means
    the same; UTF-8 lets the bytes of one character never be found in another.
    """
    if payload.isascii():
        return payload
    return (
        payload.replace(b"\xc2\x85", rb"\u0085")
        .replace(b"\xe2\x80\xa8", rb"\u2028")
        .replace(b"\xe2\x80\xa9", rb"\u2029")
    )


class LineSplitter:
    """Cuts a stream into lines.

    Args:
        line_bytes_max: A longer line is an error, and so is a longer unfinished
            one: at most this much is held.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._bytes_max = line_bytes_max
        # Pieces of the unfinished line: joined once, when it ends, so that a
        # line that comes byte by byte costs no more than its length.
        self._pieces: list[bytes] = []
        self._held = 0
        self._seen_cr = False

    @property
    def unfinished(self) -> bool:
        """Whether a line has begun that has not ended yet."""
        return self._held > 0

    @property
    def rest(self) -> bytes:
        """The line that has not ended yet."""
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their LF or CRLF.

        Raises:
            ValueError: A line is longer than the bound. The splitter is of no
                use after that.
        """
        lines = data.split(b"\n")
        tail = lines.pop()
        if not self._seen_cr and b"\r" in data:
            self._seen_cr = True
        if self._held + len(data) > self._bytes_max:
            self._check(lines, tail)
        if lines:
            if self._pieces:
                self._pieces.append(lines[0])
                lines[0] = b"".join(self._pieces)
                self._pieces.clear()
                self._held = 0
            if self._seen_cr:
                lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if tail:
            self._pieces.append(tail)
            self._held += len(tail)
        return lines

    def _check(self, lines: list[bytes], tail: bytes) -> None:
        before = self._held
        for line in (*lines, tail):
            if before + len(line) > self._bytes_max:
                raise ValueError(f"a line is longer than {self._bytes_max} bytes")
            before = 0


class SseSplitter:
    """Cuts a stream of server-sent events into the data of each.

    Comments, `event:`, `id:` and `retry:` are skipped; several `data:` lines of
    one event are joined by LF.

    Args:
        event_bytes_max: Bound on a line and on the data of one event.
    """

    def __init__(self, event_bytes_max: int) -> None:
        self._bytes_max = event_bytes_max
        self._lines = LineSplitter(event_bytes_max)
        self._data: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """The data of an event that no blank line has closed, its last line cut or not.

        Some servers close the connection right after their last `data:` line.
        """
        line = self._lines.rest
        last = [_value(line.removesuffix(b"\r"))] if line.startswith(b"data:") else []
        return b"\n".join([*self._data, *last])

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes.

        Raises:
            ValueError: An event is longer than the bound.
        """
        pending = self._data
        if not pending and not self._lines.unfinished and data.startswith(DATA):
            # What nearly every read brings: whole events of one line each. Then
            # all the work is one split, and the count of LF proves it right.
            payloads = data[len(DATA) : -len(END)].split(END + DATA)
            if (
                data.endswith(END)
                and data.count(b"\n") == 2 * len(payloads)
                and len(data) <= self._bytes_max
                and b"\r" not in data
            ):
                return payloads
        payloads = []
        for line in self._lines.feed(data):
            if line.startswith(b"data:"):
                pending.append(_value(line))
                if len(pending) > 1 and sum(map(len, pending)) + len(pending) > self._bytes_max:
                    raise ValueError(f"an event is longer than {self._bytes_max} bytes")
            elif not line and pending:
                payloads.append(pending[0] if len(pending) == 1 else b"\n".join(pending))
                pending.clear()
        return payloads


def _value(line: bytes) -> bytes:
    """What follows `data:`, without the one blank that may stand there."""
    return line[6:] if line[5:6] == b" " else line[5:]
