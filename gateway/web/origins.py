"""Which browser pages may send requests (the Fetch standard, "CORS protocol"). Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from gateway.core.errors import OriginNotAllowed

CorsHeaders = Sequence[tuple[str, str]]
"""Names and values, to be added to an answer."""

_SAFE: Final = frozenset({"GET", "HEAD"})
_METHODS: Final = "GET, HEAD, POST, DELETE"
_PREFLIGHT_SECONDS: Final = 600

_ASKS_FOR_HERE: Final = "Access-Control-Request-Private-Network"
_HERE_TOO: Final = "Access-Control-Allow-Private-Network"


class OriginPolicy:
    """An exact list; a page of the gateway's own host needs no entry.

    An origin that is not allowed gets no header at all, and may change nothing:
    the browser would send a simple request even though the page can't read the answer.
    Nobody may send along cookies: callers show a key, which a page must have been given.
    """

    def __init__(self, allowed_origins: Collection[str]) -> None:
        # What depends on the origin must not be kept for another one.
        varies = ((hdrs.VARY, hdrs.ORIGIN),)
        self._others: CorsHeaders = varies if allowed_origins else ()
        self._allowed: Mapping[str | None, CorsHeaders] = {
            origin: (
                (hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, origin),
                # As nobody sends cookies, this covers every header; SDKs read
                # x-request-id and Retry-After.
                (hdrs.ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
                *varies,
            )
            for origin in allowed_origins
        }

    def told(self, origin: str | None) -> CorsHeaders:
        """What every answer says to this origin, errors too."""
        return self._allowed.get(origin, self._others)

    def check(self, method: str, origin: str | None, host: str) -> None:
        """Raises OriginNotAllowed: a page of a foreign origin wants more than to read."""
        if origin is None or method in _SAFE or origin in self._allowed:
            return
        if origin.partition("://")[2] != host:
            raise OriginNotAllowed(
                "Pages of this origin may not send requests; see server.allowed_origins."
            )

    def preflight(self, method: str, headers: CIMultiDictProxy[str]) -> CorsHeaders | None:
        """What a page of an allowed origin is told that asks whether it may send a request.

        None where nobody asks that.
        """
        if (
            method != hdrs.METH_OPTIONS
            or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in headers
            or headers.get(hdrs.ORIGIN) not in self._allowed
        ):
            return None
        told: list[tuple[str, str]] = [
            (hdrs.ACCESS_CONTROL_ALLOW_METHODS, _METHODS),
            (hdrs.ACCESS_CONTROL_MAX_AGE, str(_PREFLIGHT_SECONDS)),
        ]
        # By name, since `*` would not cover Authorization.
        if wanted := headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            told.append((hdrs.ACCESS_CONTROL_ALLOW_HEADERS, wanted))
        # Of a page on the internet, by a browser that guards the machines at home
        # (WICG, "Private Network Access", section 3.1.2).
        if headers.get(_ASKS_FOR_HERE) == "true":
            told.append((_HERE_TOO, "true"))
        return told
