"""What the head of a request must be before anything looks at it.

The parser below refuses what it can't frame (two lengths, a length beside an
encoding, folded lines, bad characters). These are the rules that it lacks and that
a server in front of something valuable needs; they hold for every request, before
routing, so that unknown paths and methods are covered too. What concerns the body
alone is checked where an authorised handler reads it (`check_body_head`): a caller
without a key learns nothing of sizes and encodings, only that the key is missing.

RFC 9112 (HTTP/1.1 syntax), RFC 9110 section 10.1.1 (Expect).
"""

from typing import Final

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.hdrs import CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from multidict import CIMultiDictProxy

from gateway.core.errors import (
    BadHttp,
    ExpectationFailed,
    Forbidden,
    GatewayError,
    HeadTooLarge,
    HttpVersionNotSupported,
    TargetTooLong,
    TooLarge,
    UnsupportedContentEncoding,
)
from gateway.web import inflate
from gateway.web.hosts import HostPolicy

LINE_BYTES_MAX: Final = 8190
"""The request line, and each header."""

HEADERS_MAX: Final = 64
"""Header lines of one request; trailers count with them."""

HEAD_BYTES_MAX: Final = 32 * 1024
"""What a head may hold that is still incomplete: it is memory that nobody asked for yet."""

_LENGTH_DIGITS_MAX: Final = 19
_CODINGS: Final = frozenset({"", "identity", *inflate.CODINGS})


def check_head(
    method: str,
    target: str,
    version: HttpVersion,
    headers: CIMultiDictProxy[str],
    hosts: HostPolicy,
) -> GatewayError | None:
    """What is wrong with a parsed head, None if nothing is. Pure; called once per request.

    Args:
        method: Upper case.
        target: The request target as it was sent, not decoded.
    """
    if (
        version is HttpVersion11
        and headers.get(HOST) in hosts.known
        and target[:1] == "/"
        and target.isascii()
        and "#" not in target
        and TRANSFER_ENCODING not in headers
        and EXPECT not in headers
    ):
        # As nearly all are. (Two Host headers don't get past the parser.)
        return None
    return (
        _check_version(version)
        or _check_host(headers, hosts)
        or _check_target(method, target, hosts)
        or _check_offers(version, headers)
    )


def _check_version(version: HttpVersion) -> GatewayError | None:
    if version in (HttpVersion11, HttpVersion10):
        return None
    return HttpVersionNotSupported("This server speaks HTTP/1.1 and HTTP/1.0.")


def _check_host(headers: CIMultiDictProxy[str], hosts: HostPolicy) -> GatewayError | None:
    host_headers = headers.getall(HOST, ())
    if len(host_headers) != 1:
        return BadHttp("A request needs exactly one Host header.")
    if not hosts.allows(host_headers[0]):
        return Forbidden("This host name is not served here; see server.allowed_hosts.")
    return None


def _check_target(method: str, target: str, hosts: HostPolicy) -> GatewayError | None:
    if method == "CONNECT":
        return BadHttp("CONNECT is for proxies.")
    if not target.isascii() or "#" in target:
        return BadHttp("The request target holds a character that a URL can't have.")
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return None
    # RFC 9112 section 3.2.2: in absolute-form the authority counts, whatever Host says.
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return BadHttp("The request target must be a path.")
    if not hosts.allows(rest.partition("/")[0].partition("?")[0]):
        return Forbidden("This host name is not served here; see server.allowed_hosts.")
    return None


def _check_offers(version: HttpVersion, headers: CIMultiDictProxy[str]) -> GatewayError | None:
    if TRANSFER_ENCODING in headers and not _is_plain_chunked(version, headers):
        return BadHttp("The only Transfer-Encoding is chunked, once, in HTTP/1.1.")
    expectations = headers.getall(EXPECT, ())
    if expectations and [each.lower() for each in expectations] != ["100-continue"]:
        return ExpectationFailed("The only expectation that can be met is 100-continue.")
    return None


def _is_plain_chunked(version: HttpVersion, headers: CIMultiDictProxy[str]) -> bool:
    encodings = headers.getall(TRANSFER_ENCODING)
    return (
        version == HttpVersion11
        and len(encodings) == 1
        and encodings[0].isascii()  # lower() turns U+212A into a k
        and encodings[0].lower() == "chunked"
        and CONTENT_LENGTH not in headers
    )


def check_body_head(headers: CIMultiDictProxy[str], body_bytes_max: int) -> GatewayError | None:
    """What the head already says against its body, None if nothing. Pure; before any byte is read.

    Args:
        body_bytes_max: A declared length over this is refused.
    """
    codings = headers.getall(CONTENT_ENCODING, ())
    if codings and not (len(codings) == 1 and codings[0].lower() in _CODINGS):
        return UnsupportedContentEncoding(
            f"The body may be in one Content-Encoding, of {inflate.ACCEPTED}, or in none."
        )
    length = headers.get(CONTENT_LENGTH)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit() and len(length) <= _LENGTH_DIGITS_MAX):
        return BadHttp("Content-Length must be a number of bytes.")
    if int(length) > body_bytes_max:
        return body_too_large(body_bytes_max)
    return None


def body_too_large(body_bytes_max: int) -> TooLarge:
    return TooLarge(f"The body is larger than {body_bytes_max} bytes.")


def refusal_of(error: BaseException, *, line_ended: bool) -> GatewayError:
    """What a caller is told whose bytes the parser could not read.

    The parser's own messages quote up to 8 KiB of those bytes; nothing of them is passed on.

    Args:
        line_ended: Whether the request line had come to its end, so that what is
            too long must be a header.
    """
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, LineTooLong):
        if line_ended:
            return HeadTooLarge(f"A header is longer than {LINE_BYTES_MAX} bytes.")
        return TargetTooLong(f"The request line is longer than {LINE_BYTES_MAX} bytes.")
    if isinstance(error, HttpProcessingError) and error.message.startswith("Too many "):
        return HeadTooLarge(f"A request may have {HEADERS_MAX} headers.")
    return BadHttp("The request is not valid HTTP.")
