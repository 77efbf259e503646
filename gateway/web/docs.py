"""GET /openapi.json and /docs: what there is, told to machines and to people."""

import hashlib
import html
import re
from collections.abc import Sequence
from typing import Final

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


class Docs:
    """Both are made once, by `describe`, which must come before the first request."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._openapi = b""
        self._page = b""

    def describe(self, table: Sequence[Route], *, keyed: bool) -> None:
        """Tell of these routes.

        Args:
            keyed: Whether this gateway has keys.
        """
        description = openapi.document(table, keyed=keyed)
        self._openapi = jsonio.dumps(description)
        self._page = docs_page.page(description, keyed=keyed).encode()

    async def openapi(self, web_request: web.Request) -> web.Response:
        return self._reply(web_request, self._openapi, JSON)

    async def page(self, web_request: web.Request) -> web.Response:
        base = html.escape(_base_url(web_request)).encode()
        reply = self._reply(web_request, self._page.replace(BASE.encode(), base), HTML)
        reply.headers["Content-Security-Policy"] = docs_page.SECURITY_POLICY
        reply.headers["Referrer-Policy"] = "no-referrer"
        return reply

    def _reply(self, web_request: web.Request, body: bytes, content_type: str) -> web.Response:
        """The body, or nothing if the client has it already (RFC 9110 section 13.1.2)."""
        assert body, "not described yet"
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


def _base_url(web_request: web.Request) -> str:
    """Where the reader has reached us, through a proxy perhaps: only ever shown to itself."""
    headers = web_request.headers
    scheme = headers.get(hdrs.X_FORWARDED_PROTO, "")
    host = headers.get(hdrs.X_FORWARDED_HOST, "")
    if scheme not in _SCHEMES:
        scheme = web_request.scheme
    return f"{scheme}://{host if _IS_HOST(host) else web_request.host}"
