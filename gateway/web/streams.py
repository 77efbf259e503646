"""Responses that are written as their answer comes: server-sent events, or lines of JSON."""

from typing import Final, Self

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict

from gateway.dialects.base import StreamType

PING_INTERVAL_S: Final = 15.0
"""A comment this often keeps idle proxies from cutting a stream; some clients give
up after 300 lines without data, so not more often (go-openai)."""


class EventStreamResponse(EventSourceResponse):
    """A stream whose head leaves together with the first events, and whose last ones with its end.

    By itself aiohttp sends the head of a stream at once. Here the first events
    are already there, and each send less is a tenth of what a short stream costs.
    """

    _send_headers_immediately = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(
            headers=headers,
            allow_all_methods=True,
            sep="\n",  # as our own records end
            ping_interval=PING_INTERVAL_S,
            send_timeout=None,  # The connection itself cuts off who does not read.
        )
        self.ended = False

    async def write_eof(self, data: bytes = b"") -> None:
        self.ended = True
        await super().write_eof(data)


class LineStreamResponse(web.StreamResponse):
    """A JSON document on each line. It has no comments, so nothing keeps it alive in between."""

    _send_headers_immediately = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        headers[hdrs.CONTENT_TYPE] = "application/x-ndjson"
        super().__init__(headers=headers)
        self.ended = False

    async def write_eof(self, data: bytes = b"") -> None:
        self.ended = True
        await super().write_eof(data)

    def stop_streaming(self) -> None:
        """Nothing: there are no pings."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing: whoever writes the last line also ends the stream."""


Stream = EventStreamResponse | LineStreamResponse


def stream_of(stream_type: StreamType, headers: CIMultiDict[str]) -> Stream:
    """A response that has not begun yet."""
    if stream_type == "application/x-ndjson":
        return LineStreamResponse(headers)
    return EventStreamResponse(headers)
