"""GET /gateway/status and /gateway/events: what is true right now, once or about each second."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import Overloaded
from gateway.core.jsonio import Json
from gateway.web.streams import EventStreamResponse
from gateway.web.visit import VISIT, json_reply

EVERY_S: Final = 1.0

WATCHERS_MAX: Final = 16
"""Streams at once: each costs a connection, and 40 kB a second when much goes on."""


class Status:
    """Looks at most once each second for all who watch, and not at all while nobody does.

    Args:
        look: Makes the document.

    Attributes:
        watchers: How many watch now.
    """

    def __init__(self, *, look: Callable[[], Json], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self.watchers = 0
        self._record = b""
        self._next: asyncio.Event | None = None
        self._ended = False

    def end(self) -> None:
        """Tell everybody who watches once more, and send them away: the gateway stops."""
        self._ended = True
        if self._next is not None:
            self._tick()

    async def now(self, web_request: web.Request) -> web.Response:
        body = jsonio.dumps(self._look())
        reply = json_reply(web_request[VISIT], body, self._clock.now())
        reply.headers[hdrs.CACHE_CONTROL] = "no-store"
        return reply

    async def events(self, web_request: web.Request) -> web.StreamResponse:
        if web_request.method == hdrs.METH_HEAD:
            headers = web_request[VISIT].headers(self._clock.now())
            headers[hdrs.CONTENT_TYPE] = "text/event-stream"
            return web.Response(headers=headers)
        if self.watchers >= WATCHERS_MAX:
            raise Overloaded(
                f"{WATCHERS_MAX} others watch already; /gateway/status tells the same once.",
                retry_after_s=EVERY_S,
            )
        self.watchers += 1
        try:
            return await self._watch(web_request)
        finally:
            self.watchers -= 1

    async def _watch(self, web_request: web.Request) -> web.StreamResponse:
        stream = EventStreamResponse(web_request[VISIT].headers(self._clock.now()))
        await stream.prepare(web_request)
        async with stream:
            # Who has just come is told at once, and then together with the others.
            await stream.write(_record(self._look()))
            while not self._ended:
                await self.ticked()
                await stream.write(self._record)
        return stream

    async def ticked(self) -> None:
        """Until there is a new record."""
        if self._next is None:
            self._next = asyncio.Event()
            self._clock.call_at(self._clock.now() + EVERY_S, self._tick)
        await self._next.wait()

    def _tick(self) -> None:
        due, self._next = self._next, None
        if due is None:
            return
        try:
            self._record = _record(self._look())
        finally:
            due.set()


def _record(document: Json) -> bytes:
    return b"data: %b\n\n" % jsonio.dumps(document)
