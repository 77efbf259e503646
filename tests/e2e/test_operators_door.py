"""Who gets to the operators' URLs: this machine and keys with `admin`, whatever is tried."""

import ast
import json
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

import gateway.web
from gateway.config.schema import Auth, CallerSettings, Server
from tests.e2e.house import KEY, WITH_KEY, House, opened

LOCKED: Final[dict[str, Any]] = {"auth": Auth(api_key=KEY)}
STATUS: Final = "/gateway/status"
FRIEND: Final = "https://chat.example.com"

WEB: Final = Path(gateway.web.__file__).parent

PUBLIC: Final = frozenset({"/", "/health", "/api/version"})
"""What is answered to anybody who reaches the port."""


def operators_urls(house: House) -> list[tuple[str, str]]:
    """Method and path of each."""
    return [
        (route.method, route.resource.canonical)
        for route in house.daemon.app.router.routes()
        if route.resource is not None
        and route.resource.canonical.startswith("/gateway/")
        and route.method != "HEAD"
    ]


def head(*lines: str, host: str = "localhost", version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {STATUS} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode()


TRIED: Final[dict[str, bytes]] = {
    "X-Forwarded-For": head("X-Forwarded-For: 192.0.2.1"),
    "X-Forwarded-For this machine": head("X-Forwarded-For: 127.0.0.1"),
    "X-Forwarded-For empty": head("X-Forwarded-For:"),
    "X-Forwarded-Host": head("X-Forwarded-Host: localhost"),
    "X-Real-IP": head("X-Real-IP: 127.0.0.1"),
    "Forwarded": head("Forwarded: for=127.0.0.1"),
    "Via": head("Via: 1.1 proxy"),
    "CF-Connecting-IP": head("CF-Connecting-IP: 127.0.0.1"),
    "nginx as it comes": head("Connection: close", version="1.0"),
    "an allowed page": head(f"Origin: {FRIEND}"),
    "a page of another port": head("Origin: http://localhost:3000"),
    "a page without an origin": head("Origin: null"),
    "embedded in a page": head("Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: iframe"),
    "the name of another machine": head(host="llm.example.com"),
}
SERVER: Final = Server(allowed_hosts=("llm.example.com",), allowed_origins=(FRIEND,))


async def test_this_machine_gets_in() -> None:
    async with opened(**LOCKED, server=SERVER) as house:
        reply = await (await house.send(head())).some()
        assert reply.status == 200
        assert "queue" in json.loads(reply.body)


@pytest.mark.parametrize("request_bytes", TRIED.values(), ids=TRIED)
async def test_nobody_else_gets_in_without_a_key(request_bytes: bytes) -> None:
    async with opened(**LOCKED, server=SERVER) as house:
        assert (await (await house.send(request_bytes)).some()).status == 401
    # Where there are no keys, everybody may use the models, and nobody else is an operator.
    async with opened(server=SERVER) as house:
        assert (await (await house.send(request_bytes)).some()).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
)
async def test_a_rebound_name_gets_nowhere(host: str) -> None:
    async with opened() as house:
        reply = await (await house.send(head(host=host))).some()
    assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")


async def test_every_one_of_them_is_shut() -> None:
    async with opened(**LOCKED) as house:
        urls = operators_urls(house)
        assert ("GET", STATUS) in urls
        assert ("POST", "/gateway/reload") in urls
        for method, path in urls:
            proxied = await house.ask(method, path, headers={"Via": "1.1 proxy"})
            assert proxied.status == 401, path
            user = await house.ask(method, path, headers={"Via": "1.1 proxy", **WITH_KEY})
            assert user.status == 403, path


async def test_a_page_of_another_site_changes_nothing() -> None:
    async with opened(server=SERVER) as house:
        for method, path in operators_urls(house):
            if method == "GET":
                continue
            for origin in ("https://evil.example", "null", "http://localhost:3000", FRIEND):
                reply = await house.ask(method, path, headers={"Origin": origin}, data=b"{}")
                assert reply.status == 403, (path, origin)


async def test_an_operators_key_gets_in_from_anywhere_and_another_nowhere() -> None:
    auth = Auth(keys={"boss": KEY, "app": "sk-app-0123456789abcdefghijkl"})
    callers = {"boss": CallerSettings(admin=True)}
    through = {"X-Forwarded-For": "192.0.2.1"}
    async with opened(auth=auth, callers=callers) as house:
        assert (await house.get(STATUS, {**through, **WITH_KEY})).status == 200
        other = {**through, "x-api-key": "sk-app-0123456789abcdefghijkl"}
        assert (await house.get(STATUS, other)).status == 403
        assert (await house.get(STATUS, {**through, "x-api-key": "sk-wrong"})).status == 401


async def test_this_machine_may_be_shut_out_too() -> None:
    async with opened(**LOCKED, server=Server(local_admin=False)) as house:
        assert (await house.get(STATUS)).status == 401
        assert (await house.get(STATUS, WITH_KEY)).status == 403


# --- What there is to get at ---------------------------------------------------------------


async def test_what_anybody_may_have_is_a_short_list() -> None:
    async with opened(**LOCKED) as house:
        answered = set()
        for route in house.daemon.app.router.routes():
            if route.resource is not None and route.method == "GET":
                path = route.resource.canonical
                answer = await house.ask("GET", path, headers={"Via": "1.1 proxy"})
                if answer.status != 401:
                    answered.add(path)
    assert answered <= PUBLIC
    assert "/health" in answered


async def test_no_url_serves_files_of_a_folder() -> None:
    async with opened() as house:
        resources = house.daemon.app.router.resources()
        assert not [each for each in resources if isinstance(each, web.StaticResource)]


@pytest.mark.parametrize("path", sorted(WEB.rglob("*.py")), ids=lambda path: str(path.name))
def test_what_aiohttp_reads_without_bounds_is_not_used(path: Path) -> None:
    # Forms and files of a body (CVE-2024-30251 and five more), cookies (CVE-2025-69230), and
    # `url`, of which the path is another than the one that was routed.
    unbounded = {"post", "multipart", "cookies", "url", "rel_url"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id in {"request", "web_request"} and node.attr in unbounded), (
                f"line {node.lineno}"
            )
