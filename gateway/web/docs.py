"""GET /openapi.json and /docs: what there is, told to machines and to people."""

import asyncio
import functools
import hashlib
import html
import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from aiohttp import ETag, hdrs, web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.web import docs_page, openapi
from gateway.web.docs_clients import BASE
from gateway.web.route import JSON, Route
from gateway.web.visit import VISIT

HTML: Final = "text/html; charset=utf-8"

_IS_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}").fullmatch
_SCHEMES: Final = ("http", "https")


@attrs.frozen
class _Made:
    openapi: bytes
    page: bytes


class Docs:
    """Both are made when one of them is first asked for, in a thread: it takes 80 ms."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._make: Callable[[], _Made] | None = None

    def describe(self, table: Sequence[Route], *, keyed: bool) -> None:
        """Tell of these routes; must come before the first request.

        Args:
            keyed: Whether this gateway has keys.
        """

        def make() -> _Made:
            description = openapi.document(table, keyed=keyed)
            page = docs_page.page(description, keyed=keyed).encode()
            return _Made(jsonio.dumps(description), page)

        self._make = functools.cache(make)

    async def openapi(self, web_request: web.Request) -> web.Response:
        made = await self._made()
        return self._reply(web_request, made.openapi, JSON)

    async def page(self, web_request: web.Request) -> web.Response:
        made = await self._made()
        base = html.escape(base_url(web_request)).encode()
        reply = self._reply(web_request, made.page.replace(BASE.encode(), base), HTML)
        reply.headers["Content-Security-Policy"] = docs_page.SECURITY_POLICY
        reply.headers["Referrer-Policy"] = "no-referrer"
        return reply

    async def _made(self) -> _Made:
        assert self._make is not None, "not described yet"
        return await asyncio.to_thread(self._make)

    def _reply(self, web_request: web.Request, body: bytes, content_type: str) -> web.Response:
        """The body, or nothing if the client has it already (RFC 9110 section 13.1.2)."""
        headers = web_request[VISIT].headers(self._clock.now())
        tag = ETag(hashlib.blake2b(body, digest_size=12).hexdigest())
        # It is another one after the next start, and it may have wanted a key.
        headers[hdrs.CACHE_CONTROL] = "private, no-cache"
        known = web_request.if_none_match or ()
        if any(entry.value in (tag.value, "*") for entry in known):
            reply = web.Response(status=304, headers=headers)
        else:
            headers[hdrs.CONTENT_TYPE] = content_type
            reply = web.Response(body=body, headers=headers)
        reply.etag = tag
        return reply


def base_url(web_request: web.Request) -> str:
    """Where the reader has reached us, through a proxy perhaps: only ever shown to itself."""
    headers = web_request.headers
    scheme = headers.get(hdrs.X_FORWARDED_PROTO, "")
    host = headers.get(hdrs.X_FORWARDED_HOST, "")
    if scheme not in _SCHEMES:
        scheme = web_request.scheme
    return f"{scheme}://{host if _IS_HOST(host) else web_request.host}"
