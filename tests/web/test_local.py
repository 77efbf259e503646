import os
from collections.abc import Mapping
from types import MappingProxyType
from unittest.mock import MagicMock

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.web import peer
from gateway.web.local import is_local, is_operator

HERE = "127.0.0.1:8000"


def asked(
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    remote: str = "127.0.0.1",
    version: HttpVersion = HttpVersion11,
    host: str = HERE,
) -> web.Request:
    sent = CIMultiDict({"Host": host, **headers})
    return make_mocked_request("GET", "/gateway/status", sent, version=version).clone(remote=remote)


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", [HERE, "localhost", "LOCALHOST:1", "[::1]:8000", "127.8.9.1"])
def test_whoever_asks_this_machine_on_this_machine_is_local(remote: str, host: str) -> None:
    assert is_local(asked(remote=remote, host=host))


@pytest.mark.parametrize(
    "remote", ["192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0", "0.0.0.0", "", "127.0.0.1.evil"]
)
def test_nobody_else_is(remote: str) -> None:
    assert not is_local(asked(remote=remote))


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-FORWARDED-PROTO",
        "X-Forwarded-Anything",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
    ],
)
@pytest.mark.parametrize("says", ["192.0.2.1", "127.0.0.1", ""])
def test_the_client_of_a_proxy_is_not_whatever_it_says_of_itself(header: str, says: str) -> None:
    assert not is_local(asked({header: says}))


def test_nor_of_one_that_says_nothing_of_its_clients_as_nginx_comes() -> None:
    assert not is_local(asked(version=HttpVersion10))


@pytest.mark.parametrize("host", ["llm.example.com", "192.0.2.1", "localhost.evil.example", ""])
def test_nor_is_who_asks_for_another_machine(host: str) -> None:
    assert not is_local(asked(host=host))


@pytest.mark.parametrize(
    "origin", ["https://chat.example.com", "http://127.0.0.1:3000", "http://localhost:8000", "null"]
)
def test_a_page_of_another_origin_is_not_even_one_that_may_use_the_models(origin: str) -> None:
    assert not is_local(asked({"Origin": origin}))


def test_our_own_page_is() -> None:
    assert is_local(asked({"Origin": f"http://{HERE}", "Sec-Fetch-Site": "same-origin"}))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_page_embeds_is_not_and_what_it_links_to_is(site: str) -> None:
    assert not is_local(asked({"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "image"}))
    assert not is_local(asked({"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "iframe"}))
    assert is_local(asked({"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "document"}))


def connected(theirs: int | None, monkeypatch: pytest.MonkeyPatch) -> web.Request:
    """From this machine, by a process of that account."""
    monkeypatch.setattr(peer, "account", lambda theirs_at, ours_at: theirs)
    transport = MagicMock()
    transport.get_extra_info = {
        "peername": ("127.0.0.1", 40000),
        "sockname": ("127.0.0.1", 8000),
    }.get
    return make_mocked_request("GET", "/", {"Host": HERE}, transport=transport)


@pytest.mark.parametrize("account", [0, os.getuid()])
def test_root_and_the_daemons_own_account_are_operators(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_operator(connected(account, monkeypatch))


@pytest.mark.parametrize("account", [33, 1000, 65534, None])
def test_no_other_account_is_such_as_that_of_a_silent_proxy(
    account: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = connected(account, monkeypatch)
    assert is_local(request)
    assert not is_operator(request)


def test_an_operator_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    request = connected(0, monkeypatch)
    assert not is_operator(request.clone(headers={"Host": HERE, "Via": "1.1 proxy"}))
