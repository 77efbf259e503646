"""Reads all that has come of an answer's body, at the price of one read.

`StreamReader.readany()` of aiohttp 3.14 hands a body's HTTP chunks over one by
one, and enters the parser again after each, in case it had been stopped. An
engine sends each token as a chunk of its own, so that reading a burst costs
more than translating it. Here the buffer is emptied in one go, and the parser
entered only if it was stopped. A test holds this to what readany() does.
"""

import aiohttp


async def read_any(content: aiohttp.StreamReader) -> bytes:
    """As `content.readany()`: what has come, or waits for some; empty at the end."""
    if type(content) is not aiohttp.StreamReader:  # an answer without a body
        return await content.readany()
    exception = content.exception()
    if exception is not None:
        raise exception
    while not content._buffer and not content._eof:
        await content._wait("read_any")
    pieces = content._buffer
    if not pieces:
        return b""
    if content._buffer_offset:
        return content.read_nowait()
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
