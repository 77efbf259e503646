"""The one place that picks a JSON library.

orjson reads what clients send: it refuses NaN, Infinity, lone surrogates and
numbers out of range with one exception that knows the position. msgspec reads
the lines of an engine into typed structs, which is what a token costs. Both
write without spaces.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

import msgspec
import orjson

from gateway.core.errors import MalformedRequest

T = TypeVar("T")

Json = Any
"""A parsed document: dict, list, str, int, float, bool or None. Only dialects and
backends hold one; it never travels further inwards."""

DEPTH_MAX: Final = 64
"""Nesting that no client needs and that would cost a recursive reader its stack."""


def parse_body(body: bytes | bytearray) -> Json:
    """Read a client's body.

    Raises:
        MalformedRequest: Not JSON, or nested deeper than DEPTH_MAX; the message
            has line and column, and nothing of the text.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The library's sentence is about syntax and quotes nothing of the body.
        what = error.msg.split(":", 1)[0]
        raise MalformedRequest(
            f"The body is not valid JSON: {what} (line {error.lineno}, column {error.colno},"
            f" character {error.pos})."
        ) from None
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and depth(document) > DEPTH_MAX:
        raise MalformedRequest(f"The body is nested deeper than {DEPTH_MAX} levels.")
    return document


def depth(document: Json) -> int:
    """Levels of nesting; a scalar has none. Does not recurse."""
    level, deepest = [document], 0
    while level := [value for value in level if isinstance(value, (dict, list))]:
        deepest += 1
        if deepest > DEPTH_MAX:
            return deepest
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return deepest


def loads(text: bytes | str) -> Json:
    """Read JSON of our own or of an engine; ValueError when it is none."""
    return orjson.loads(text)


dumps = orjson.dumps
"""Value to UTF-8 bytes, compact. TypeError for what JSON has no word for."""

quote = msgspec.json.Encoder().encode
"""One string to a JSON string with its quotes, as bytes; the fastest there is."""


Written = orjson.Fragment
"""JSON that is written already (bytes), as a value among others for `dumps`."""


def dumps_text(value: Json) -> str:
    """Value to text, compact."""
    return orjson.dumps(value).decode()


class LineDecoder(Generic[T]):
    """Reads one line of an engine's answer into a struct.

    The fast path is msgspec. What it refuses is read once more by the standard
    library, so that a lone surrogate in a token becomes U+FFFD instead of a
    failed answer.
    """

    def __init__(self, struct: type[T]) -> None:
        self._struct = struct
        decoder = msgspec.json.Decoder(struct)
        self._decode = decoder.decode
        self._decode_lines = decoder.decode_lines

    def __call__(self, line: bytes) -> T:
        """Raises ValueError when the line is not JSON of this shape."""
        try:
            return self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
        try:
            document = _mend(json.loads(line.decode("utf-8", "replace"), strict=False))
            return msgspec.convert(document, self._struct)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError("not a line of the expected shape") from error

    def many(self, lines: list[bytes]) -> Iterable[T]:
        """Reads several lines at once, empty ones aside.

        Where one can't be read, ValueError is raised when the iteration reaches it.
        """
        try:
            if len(lines) == 1:
                return [self._decode(lines[0])] if lines[0] else []
            return self._decode_lines(b"\n".join(lines))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return map(self, filter(None, lines))


def _mend(value: Json) -> Json:
    """The same document, each lone surrogate replaced by U+FFFD."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mend(child) for child in value]
        case dict():
            return {_mend(key): _mend(child) for key, child in value.items()}
        case _:
            return value
