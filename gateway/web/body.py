"""Reads the body of a request: bounded in size and in time, alone and together with all others.

Called by a handler that knows its caller. Before that no byte of a body is read and
no `100 Continue` is sent: who has no key, or sends too much, is told so instead.
"""

import asyncio
from typing import Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.hdrs import CONTENT_ENCODING
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from gateway.config.schema import Limits, Timeouts
from gateway.core.errors import BadHttp, BodyTimeout, MemoryPressure
from gateway.web.head import body_too_large, check_body_head
from gateway.web.inflate import CODINGS, STEP_BYTES, Inflater

_RETRY_AFTER_S: Final = 1.0


class BodyBudget:
    """Bytes of all bodies that are held, and how many there may be.

    It counts what has arrived, not what was announced: sixteen clients who announce
    4 MiB and send nothing would otherwise lock out everybody else.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._bytes = 0

    @property
    def bytes_in_flight(self) -> int:
        return self._bytes

    def share(self) -> "BodyShare":
        """What one body holds of it; a context manager that gives everything back."""
        return BodyShare(self)

    def _take(self, size: int) -> None:
        if self._bytes + size > self.bytes_max:
            raise MemoryPressure(
                "Too many large requests are being handled. Please try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._bytes += size

    def _give_back(self, size: int) -> None:
        assert 0 <= size <= self._bytes
        self._bytes -= size


class BodyShare:
    """One body's part of a BodyBudget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> "BodyShare":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget._give_back(self._bytes)
        self._bytes = 0

    def grow(self, size: int) -> None:
        """Raises MemoryPressure when all bodies together would be over their bound."""
        self._budget._take(size)
        self._bytes += size


async def read_body(
    web_request: web.Request, limits: Limits, timeouts: Timeouts, share: BodyShare
) -> bytes | bytearray:
    """The whole body, inflated if it was compressed. One that has already arrived costs no timer.

    Args:
        share: Grows by the body; held by the caller for as long as what was in
            the body is, so that large requests which wait for a slot count too.

    Raises:
        TooLarge: Announced so, or found so, inflated; nothing is read after that.
        UnsupportedContentEncoding: It is in a coding that nobody here undoes.
        BadContentEncoding: It is not in the coding that it says.
        BodyTimeout: It was not there in `body_timeout_seconds`, counted from this call.
        MemoryPressure: All bodies together are over `bodies_in_flight_bytes_max`.
        BadHttp: Its framing is broken.
    """
    refusal = check_body_head(web_request.headers, limits.body_bytes_max)
    if refusal is not None:
        raise refusal
    content = web_request.content
    bytes_max = limits.body_bytes_max
    coding = web_request.headers.get(CONTENT_ENCODING, "").lower()
    try:
        if content.is_eof() and coding not in CODINGS:
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise body_too_large(bytes_max)
            share.grow(len(body))
            return body
        continue_if_expected(web_request)
        async with asyncio.timeout(timeouts.body_timeout_seconds):
            if coding in CODINGS:
                return await _inflated(content, Inflater(coding), bytes_max, share)
            # Not a list of pieces: each of many tiny ones would cost 40 bytes.
            received = bytearray()
            while piece := await content.readany():
                if len(received) + len(piece) > bytes_max:
                    raise body_too_large(bytes_max)
                share.grow(len(piece))
                received += piece
            return received
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time.") from None
    except (RequestPayloadError, HttpProcessingError):
        # The pure-Python parser leaves the latter in the stream, the C parser the former.
        raise BadHttp("The body is not framed as HTTP wants it.") from None


async def _inflated(
    content: StreamReader, inflater: Inflater, bytes_max: int, share: BodyShare
) -> bytearray:
    """What comes of a compressed body. No more of it than the bound is ever there."""
    inflated = bytearray()
    while data := await content.readany():
        if content.total_bytes > bytes_max:
            raise body_too_large(bytes_max)  # It may be one of which nothing ever comes.
        for piece in inflater.feed(data):
            if len(inflated) + len(piece) > bytes_max:
                raise body_too_large(bytes_max)
            share.grow(len(piece))
            inflated += piece
            if len(piece) == STEP_BYTES:
                await asyncio.sleep(0)  # Others want to go on, too.
    inflater.end()
    return inflated


def continue_if_expected(web_request: web.Request) -> None:
    """Send `100 Continue` to a client that waits for it before it sends its body.

    The connection has checked the Expect header and taken it out of `headers`, since
    aiohttp would answer it before the caller is known; `raw_headers` still has it.
    RFC 9110 section 10.1.1: nothing need be sent when some of the content has arrived,
    and nothing must be sent to HTTP/1.0.
    """
    if web_request.content.total_bytes or web_request.version < HttpVersion11:
        return
    transport = web_request.transport
    if transport is not None and any(
        name.lower() == b"expect" for name, _ in web_request.raw_headers
    ):
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
