"""Whether a request is from this machine, and whether from its operator.

Three others reach the daemon from a loopback address, and are not meant: the clients of a
proxy on this machine, pages of other sites in a browser on it, and names that were rebound
to it. Not every proxy says that it is one, and who came through it may claim any Host. So
an operator is known by the account too that holds the other end of the connection: a proxy
has one of its own.
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from gateway.web import peer

# What proxies add of themselves or of whom they speak for: RFC 9110 section 7.6.3,
# RFC 7239, and the customs of those that are in use.
_OF_PROXIES: Final = frozenset(
    {
        "via",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-envoy-external-address",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-ray",
        "fly-client-ip",
        "fastly-client-ip",
    }
)
_OF_PROXIES_PREFIX: Final = "x-forwarded-"
_OWN_PAGES: Final = frozenset({"same-origin", "none"})


def is_local(web_request: web.BaseRequest) -> bool:
    """Whether it was sent on this machine, for itself, by no page of another site."""
    headers = web_request.headers
    host = headers.get(hdrs.HOST, "")
    return (
        _is_loopback(web_request.remote or "")
        # nginx speaks HTTP/1.0 to what is behind it, and says nothing of its clients,
        # unless it is told otherwise (ngx_http_proxy_module, `proxy_http_version`).
        and web_request.version >= HttpVersion11
        and _is_loopback(_name(host))
        and not any(_tells_of_a_proxy(name.lower()) for name in headers)
        and _is_own_page(host, headers)
    )


def is_operator(web_request: web.BaseRequest) -> bool:
    """Whether it is local, and was sent by root or by the account that the daemon has."""
    transport = web_request.transport
    if transport is None or not is_local(web_request):
        return False
    theirs = transport.get_extra_info("peername")
    ours = transport.get_extra_info("sockname")
    return peer.account(theirs[:2], ours[:2]) in {0, os.getuid()}


def _is_own_page(host: str, headers: Mapping[str, str]) -> bool:
    """False for pages of other origins, those that may use the models too."""
    origin = headers.get(hdrs.ORIGIN)
    if origin is not None and origin.partition("://")[2] != host:
        return False
    # A link may lead here; what a page embeds or fetches may not (W3C, "Fetch Metadata").
    return (
        headers.get("Sec-Fetch-Site", "none") in _OWN_PAGES
        or headers.get("Sec-Fetch-Dest") == "document"
    )


def _tells_of_a_proxy(name: str) -> bool:
    return name in _OF_PROXIES or name.startswith(_OF_PROXIES_PREFIX)


def _name(host: str) -> str:
    """The host of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A socket for both families has IPv4 clients as ::ffff:127.0.0.1.
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
