"""Reads all that has come of an answer's body, at the price of one read.

`StreamReader.readany()` of aiohttp 3.14 hands a body's HTTP chunks over one by
one, and enters the parser again after each, in case it had been stopped. An
engine sends each token as a chunk of its own, so that reading a burst costs
more than translating it. Here the buffer is emptied in one go, and the parser
entered only if it was stopped. A test holds this to what readany() does.
"""

from collections.abc import Coroutine
from typing import Any

import aiohttp


def arrival(content: aiohttp.StreamReader) -> Coroutine[Any, Any, None] | None:
    """What to await until something may have come; None when there is something, or the end.

    Not a coroutine itself: a token costs one frame less on its way.

    Raises:
        Exception: That of the body, if it broke.
    """
    if type(content) is not aiohttp.StreamReader:  # an answer without a body
        return None
    exception = content.exception()
    if exception is not None:
        raise exception
    return None if content._buffer or content._eof else content._wait("arrival")


def take(content: aiohttp.StreamReader) -> bytes:
    """All that has come; empty at the end. To be called once `arrival` has nothing to await."""
    if content.at_eof():
        return b""
    if content._buffer_offset:
        return content.read_nowait()
    pieces = content._buffer
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    content._cursor += content._size
    content._size = 0
    if content._http_chunk_splits:
        content._http_chunk_splits.clear()
    protocol = content._protocol
    if protocol._reading_paused:
        protocol.resume_reading()
    return data
