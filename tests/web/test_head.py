import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import GatewayError, QueueFull
from gateway.web.head import check_body_head, check_head, refusal_of
from gateway.web.hosts import HostPolicy

HOSTS = HostPolicy(bind_host="127.0.0.1")

Pairs = list[tuple[str, str]]


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def check(
    *pairs: tuple[str, str],
    method: str = "POST",
    target: str = "/v1/models",
    version: HttpVersion = HttpVersion11,
    host: str = "localhost",
) -> GatewayError | None:
    return check_head(method, target, version, headers(("Host", host), *pairs), HOSTS)


def status(error: GatewayError | None) -> int | None:
    return None if error is None else error.status


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("Content-Length", "5")],
        [("Transfer-Encoding", "Chunked")],
        [("expect", "100-Continue")],
        [("Connection", "keep-alive")],
    ],
)
def test_an_ordinary_head_is_fine(pairs: Pairs) -> None:
    assert check(*pairs) is None


@pytest.mark.parametrize("version", [HttpVersion(0, 9), HttpVersion(1, 2), HttpVersion(2, 0)])
def test_other_versions_are_refused(version: HttpVersion) -> None:
    assert status(check(version=version)) == 505


def test_http_1_0_is_served() -> None:
    assert check(version=HttpVersion10) is None


def test_exactly_one_host_is_needed() -> None:
    assert status(check_head("GET", "/", HttpVersion11, headers(), HOSTS)) == 400
    assert status(check(("Host", "evil.example"), host="evil.example")) == 400


def test_a_foreign_host_is_forbidden() -> None:
    error = check(host="evil.example")
    assert error is not None
    assert (error.status, error.code, error.reason) == (403, "host_not_allowed", "host")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://localhost/v1/models", None),
        ("HTTPS://127.0.0.1:8000?x", None),
        ("http://evil.example/v1/models", 403),
        ("http://localhost@evil.example/", 403),
        ("http://localhost\\@evil.example/", 403),
        ("http://localhost#@evil.example/", 400),
        ("ftp://localhost/", 400),
        ("http:/v1/models", 400),
        ("localhost:8000", 400),
        ("*", 400),
        ("", 400),
        ("/v1/models#x", 400),
        ("/caf\udcc3\udca9", 400),
    ],
)
def test_a_target_is_a_path_or_names_an_allowed_host(target: str, expected: int | None) -> None:
    assert status(check(target=target)) == expected


def test_the_asterisk_is_for_options() -> None:
    assert check(method="OPTIONS", target="*") is None


def test_nothing_is_tunnelled() -> None:
    assert status(check(method="CONNECT", target="localhost:22")) == 400


@pytest.mark.parametrize(
    "pairs",
    [
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "")],
        [("Transfer-Encoding", "chun\u212aed")],
        [("Transfer-Encoding", "chunked"), ("transfer-encoding", "chunked")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
    ],
)
def test_chunked_is_the_only_transfer_encoding(pairs: Pairs) -> None:
    assert status(check(*pairs)) == 400


def test_http_1_0_has_no_transfer_encoding() -> None:
    assert status(check(("Transfer-Encoding", "chunked"), version=HttpVersion10)) == 400


@pytest.mark.parametrize("value", ["banana", "", "100-continue, banana"])
def test_other_expectations_fail(value: str) -> None:
    assert status(check(("Expect", value))) == 417


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([("Content-Length", "10")], None),
        ([("Content-Length", "11")], 413),
        ([("Content-Length", "9" * 19)], 413),
        ([("Content-Length", "1" + "0" * 23)], 400),
        ([("Content-Length", "٥")], 400),
        ([("Content-Length", "-1")], 400),
        ([("Content-Encoding", "identity")], None),
        ([("Content-Encoding", "Identity")], None),
        ([("Content-Encoding", "gzip")], None),
        ([("Content-Encoding", "X-Gzip")], None),
        ([("Content-Encoding", "deflate")], None),
        ([("Content-Encoding", "br")], 415),
        ([("Content-Encoding", "zstd")], 415),
        ([("Content-Encoding", "identity, gzip")], 415),
        ([("Content-Encoding", "gzip, gzip")], 415),
        ([("Content-Encoding", "identity"), ("Content-Encoding", "gzip")], 415),
    ],
)
def test_what_the_head_says_of_the_body(pairs: Pairs, expected: int | None) -> None:
    assert status(check_body_head(headers(*pairs), body_bytes_max=10)) == expected


CANARY = "c4n4ry"


@pytest.mark.parametrize(
    ("error", "line_ended", "expected"),
    [
        (LineTooLong(CANARY, 8190), False, 414),
        (LineTooLong(CANARY, 8190), True, 431),
        (BadHttpMessage("Too many headers received"), True, 431),
        (BadStatusLine(CANARY), False, 400),
        (BadHttpMessage(CANARY), True, 400),
        (ValueError(CANARY), True, 400),
    ],
)
def test_what_the_parser_says_becomes_ours_without_its_words(
    error: Exception, line_ended: bool, expected: int
) -> None:
    refusal = refusal_of(error, line_ended=line_ended)
    assert refusal.status == expected
    assert CANARY not in refusal.message


def test_an_error_of_ours_stays_as_it_is() -> None:
    error = QueueFull("Full.")
    assert refusal_of(error, line_ended=True) is error
