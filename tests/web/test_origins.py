import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import OriginNotAllowed
from gateway.web import origins
from gateway.web.origins import OriginPolicy

HERE = "127.0.0.1:8000"
FRIEND = "https://chat.example.com"
STRANGER = "https://evil.example"


def head(origin: str | None) -> CIMultiDictProxy[str]:
    headers = CIMultiDict({"Host": HERE})
    if origin is not None:
        headers["Origin"] = origin
    return CIMultiDictProxy(headers)


POLICY = OriginPolicy([FRIEND])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_whoever_is_no_browser_page_is_not_asked(method: str) -> None:
    assert POLICY.check(method, head(None)) is None


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_allowed_page_is_named_in_the_answer(method: str) -> None:
    assert POLICY.check(method, head(FRIEND)) == FRIEND


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize("origin", [STRANGER, "null", "", FRIEND + ".evil.example", FRIEND.upper()])
def test_a_foreign_page_may_change_nothing(method: str, origin: str) -> None:
    with pytest.raises(OriginNotAllowed):
        POLICY.check(method, head(origin))


def test_a_foreign_page_may_ask_and_cannot_read_the_answer() -> None:
    assert POLICY.check("GET", head(STRANGER)) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_of_our_own_needs_no_entry(scheme: str) -> None:
    assert POLICY.check("POST", head(f"{scheme}://{HERE}")) is None


def test_a_preflight_allows_what_was_asked_for_and_no_credentials() -> None:
    headers: CIMultiDict[str] = CIMultiDict()
    origins.preflight(FRIEND, "authorization, content-type", headers)
    assert headers["Access-Control-Allow-Origin"] == FRIEND
    assert headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert "Access-Control-Allow-Credentials" not in headers
    assert headers["Vary"] == "Origin"
