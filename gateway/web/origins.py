"""Which browser pages may send requests (the Fetch standard, "CORS protocol"). Pure."""

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import OriginNotAllowed

_SAFE: Final = frozenset({"GET", "HEAD"})
_PREFLIGHT_SECONDS: Final = 600


class OriginPolicy:
    """An exact list; a page of the gateway's own host needs no entry.

    An origin that is not allowed gets no header at all, and may change nothing:
    the browser would send a simple request even though the page can't read the answer.
    """

    def __init__(self, allowed_origins: Collection[str]) -> None:
        self._allowed = frozenset(allowed_origins)

    def check(self, method: str, headers: CIMultiDictProxy[str]) -> str | None:
        """The origin to name in the answer's headers, None if none is to be named.

        Raises:
            OriginNotAllowed: A page of a foreign origin wants more than to read.
        """
        origin = headers.get(hdrs.ORIGIN)
        if origin is None:
            return None
        if origin in self._allowed:
            return origin
        own = headers.get(hdrs.HOST, "")
        if method not in _SAFE and origin.partition("://")[2] != own:
            raise OriginNotAllowed(
                "Pages of this origin may not send requests; see server.allowed_origins."
            )
        return None


def allow(origin: str, headers: CIMultiDict[str]) -> None:
    """Let a page of this origin read the answer."""
    headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "*"
    headers[hdrs.VARY] = hdrs.ORIGIN


def preflight(origin: str, wanted_headers: str, headers: CIMultiDict[str]) -> None:
    """Let a page of this origin send what it asked to send."""
    allow(origin, headers)
    headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, DELETE"
    headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_SECONDS)
    if wanted_headers:
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted_headers
