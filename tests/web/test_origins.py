import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import OriginNotAllowed
from gateway.web.origins import OriginPolicy

HERE = "127.0.0.1:8000"
FRIEND = "https://chat.example.com"
APP = "app://obsidian.md"
STRANGER = "https://evil.example"

POLICY = OriginPolicy([FRIEND, APP])
CLOSED = OriginPolicy([])

SDK_HEADERS = (
    "anthropic-dangerous-direct-browser-access,anthropic-version,authorization,content-type,"
    "x-api-key,x-stainless-arch,x-stainless-lang,x-stainless-retry-count,x-stainless-timeout"
)


def asked(
    origin: str, method: str = "POST", wanted: str = SDK_HEADERS, **more: str
) -> CIMultiDictProxy[str]:
    """The headers of a preflight, as browsers send one."""
    headers = CIMultiDict({"Host": HERE, "Origin": origin, "Access-Control-Request-Method": method})
    if wanted:
        headers["Access-Control-Request-Headers"] = wanted
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    return CIMultiDictProxy(headers)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_whoever_is_no_browser_page_is_not_asked(method: str) -> None:
    POLICY.check(method, None, HERE)
    assert CLOSED.told(None) == ()


@pytest.mark.parametrize("origin", [FRIEND, APP])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_an_allowed_page_may_ask_and_read_all_of_the_answer(method: str, origin: str) -> None:
    POLICY.check(method, origin, HERE)
    assert dict(POLICY.told(origin)) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "*",
        "Vary": "Origin",
    }


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize("origin", [STRANGER, "null", "", FRIEND + ".evil.example", FRIEND.upper()])
def test_a_foreign_page_may_change_nothing(method: str, origin: str) -> None:
    for policy in (POLICY, CLOSED):
        with pytest.raises(OriginNotAllowed):
            policy.check(method, origin, HERE)


def test_a_foreign_page_may_ask_and_cannot_read_the_answer() -> None:
    POLICY.check("GET", STRANGER, HERE)
    assert "Access-Control-Allow-Origin" not in dict(POLICY.told(STRANGER))


@pytest.mark.parametrize("origin", [None, STRANGER, "null"])
def test_no_answer_to_one_origin_is_kept_for_another(origin: str | None) -> None:
    assert POLICY.told(origin) == (("Vary", "Origin"),)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_of_our_own_needs_no_entry(scheme: str) -> None:
    CLOSED.check("POST", f"{scheme}://{HERE}", HERE)


def test_a_preflight_allows_what_was_asked_for_and_no_credentials() -> None:
    told = POLICY.preflight("OPTIONS", asked(FRIEND))
    assert told is not None
    assert dict(told) == {
        "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
        "Access-Control-Allow-Headers": SDK_HEADERS,
        "Access-Control-Max-Age": "600",
    }


def test_who_wants_no_headers_is_told_of_none() -> None:
    told = POLICY.preflight("OPTIONS", asked(FRIEND, method="DELETE", wanted=""))
    assert "Access-Control-Allow-Headers" not in dict(told or ())


def test_who_asks_whether_it_may_reach_a_machine_at_home_may() -> None:
    headers = asked(FRIEND, Access_Control_Request_Private_Network="true")
    assert ("Access-Control-Allow-Private-Network", "true") in (
        POLICY.preflight("OPTIONS", headers) or ()
    )


@pytest.mark.parametrize("origin", [STRANGER, "null", f"http://{HERE}"])
def test_nobody_else_is_told_what_it_may(origin: str) -> None:
    headers = asked(origin, Access_Control_Request_Private_Network="true")
    assert POLICY.preflight("OPTIONS", headers) is None
    assert CLOSED.preflight("OPTIONS", headers) is None


def test_not_every_options_is_a_preflight() -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Host": HERE, "Origin": FRIEND}))
    assert POLICY.preflight("OPTIONS", headers) is None
    assert POLICY.preflight("POST", asked(FRIEND)) is None
