"""The page at the root and its files, over a socket; what it does in a browser: tests/browser."""

import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Server
from gateway.web.home import FILES, SECURITY_POLICY, TYPES
from tests.e2e.house import KEY, WITH_KEY, House, opened, say

BROWSER: Final = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Dest": "document",
}
KEYED: Final[dict[str, Any]] = {"auth": Auth(api_key=KEY)}
SECRETIVE: Final[dict[str, Any]] = {**KEYED, "server": Server(local_admin=False)}


class Reader(HTMLParser):
    """Notes the attributes of every element, and what is said outside of templates."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self._within = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._within += tag == "template"

    def handle_endtag(self, tag: str) -> None:
        self._within -= tag == "template"

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.said.append(data)


async def page(house: House, **headers: str) -> str:
    answer = await house.get("/", {**BROWSER, **headers})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.body.decode()


# --- Who gets what -----------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "*/*", "application/json"])
async def test_ollamas_clients_are_told_what_they_look_for(accept: str) -> None:
    async with opened(**SECRETIVE) as house:
        for method, body in (("GET", b"Ollama is running"), ("HEAD", b"")):
            answer = await house.ask(method, "/", headers={"Accept": accept})
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert "Accept" in answer.headers["Vary"], "the other answer has the same URL"


async def test_the_operator_sees_the_numbers_at_once() -> None:
    async with opened(**KEYED) as house:
        await house.chat(say("one <b>two</b> three"), WITH_KEY)
        said = Reader(await page(house)).said
        assert "echo" in said, "the model"
        assert "completed" in said, "the request that has ended"
        assert "ready" in said
        assert not any("two" in text for text in said), "no text of a prompt"


@pytest.mark.parametrize(
    ("tables", "headers"),
    [
        (SECRETIVE, {}),
        (KEYED, {"X-Forwarded-For": "203.0.113.7"}),
        (KEYED, {"Origin": "https://evil.example", "Sec-Fetch-Dest": "iframe"}),
    ],
)
async def test_nobody_else_sees_a_number_or_a_name(
    tables: dict[str, Any], headers: dict[str, str]
) -> None:
    async with opened(**tables) as house:
        await house.chat(say("hi"), WITH_KEY)
        text = await page(house, **headers)
        assert not re.search(r"\becho\b|completed<|version \d|anonymous", text)
        assert "curl" in text, "how to connect is no secret"


async def test_a_key_is_never_written_into_the_page() -> None:
    async with opened(**KEYED) as house:
        assert KEY not in await page(house, **WITH_KEY)
        assert "YOUR_KEY" in await page(house)


async def test_clients_are_told_where_it_was_reached_and_no_text_becomes_markup() -> None:
    async with opened() as house:
        assert f"OPENAI_BASE_URL={house.url}/v1" in await page(house)
        proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "llm.example.com"}
        assert "OPENAI_BASE_URL=https://llm.example.com/v1" in await page(house, **proxied)
        odd = {"X-Forwarded-Host": "<script>alert(1)</script>"}
        assert "<script>alert" not in await page(house, **odd)


# --- What may happen on it -----------------------------------------------------------------


async def test_the_page_may_run_its_own_files_alone_and_be_in_no_frame() -> None:
    async with opened() as house:
        headers = (await house.get("/", BROWSER)).headers
    policy = dict(part.strip().split(" ", 1) for part in SECURITY_POLICY.split(";"))
    assert headers["Content-Security-Policy"] == SECURITY_POLICY
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


async def test_nothing_in_it_needs_more_than_that() -> None:
    async with opened() as house:
        reader = Reader(await page(house))
    for tag, name, value in reader.attributes:
        assert name != "style", tag
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href") and not value.startswith("#"):
            assert value in {"docs", *(f"page/{file}" for file in FILES)}, (tag, value)
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))


# --- Its files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_sent_once_and_then_only_asked_about(name: str) -> None:
    async with opened(**SECRETIVE) as house:
        answer = await house.get(f"/page/{name}")
        assert (answer.status, bool(answer.body)) == (200, True)
        assert answer.headers["Content-Type"] == f"{TYPES[name.split('.')[1]]}; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
        known = {"If-None-Match": answer.headers["ETag"]}
        again = await house.get(f"/page/{name}", known)
        assert (again.status, again.body) == (304, b"")
        stale = await house.get(f"/page/{name}", {"If-None-Match": '"another"'})
        assert (stale.status, stale.body) == (200, answer.body)


@pytest.mark.parametrize(
    "name",
    ["index.html", "..%2fhome.py", "%2e%2e%2fhome.py", "app.js%00", "APP.JS", "app.js/", ""],
)
async def test_nothing_else_is_a_file(name: str) -> None:
    async with opened() as house:
        answer = await house.get(f"/page/{name}")
        assert answer.status in (400, 404)
        assert b"import" not in answer.body


def imported(name: str) -> list[str]:
    source = resources.files("gateway.web").joinpath("page", name).read_text("utf-8")
    return re.findall(r'from "\./([^"]+)"', source)


def test_every_file_is_used_and_every_import_is_served() -> None:
    used = {"style.css", "icon.svg", "app.js"}
    waiting = ["app.js"]
    while waiting:
        new = set(imported(waiting.pop())) - used
        used |= new
        waiting += new
    assert used == set(FILES)
