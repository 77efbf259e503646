"""The page for people: whole, safe, legible, and by itself."""

import base64
import hashlib
import itertools
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Final

import attrs
import pytest
from aiohttp import web

from gateway.core.errors import ModelNotFound
from gateway.web.answers.words import COUNT, TEXT, fields, or_nothing
from gateway.web.docs_clients import BASE, settings
from gateway.web.docs_page import SECURITY_POLICY, STYLE, page
from gateway.web.openapi import Document, document
from gateway.web.route import JSON, Answer, Route

EVIL: Final = "<script>alert('x')</script> & \"so on\""

CONTRAST_MIN: Final = 4.5
"""Of text and what is behind it: WCAG 2.2, 1.4.3."""


async def handler(web_request: web.Request) -> web.Response:
    return web.Response()


ROUTE: Final = Route(
    "POST",
    "/things/{name}",
    handler,
    "A thing",
    tag="Gateway",
    takes={JSON: fields({"size": {**COUNT, "description": "how large"}}, {"note": TEXT})},
    answers=[Answer(content={JSON: TEXT}, description="The thing")],
    errors=[ModelNotFound],
)


def made(route: Route = ROUTE, *, keyed: bool = True) -> str:
    return page(document([route], keyed=keyed), keyed=keyed)


class Reader(HTMLParser):
    """Notes every element of a page, and whether each was closed."""

    _VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def test_every_part_of_a_route_is_told() -> None:
    said = "\n".join(Reader(made()).said)
    for part in (
        *("POST /things/{name}", "A thing", "name", "path", "size", "how large", "integer"),
        *("yes", "note", "string", "The thing", "model_not_found", "application/json"),
    ):
        assert part in said, part


@pytest.mark.parametrize(
    "route",
    [
        attrs.evolve(ROUTE, summary=EVIL),
        attrs.evolve(ROUTE, takes={JSON: fields({EVIL: {**TEXT, "description": EVIL}})}),
        attrs.evolve(ROUTE, takes={JSON: fields({"x": {"enum": [EVIL]}})}),
        attrs.evolve(ROUTE, answers=[Answer(content={JSON: TEXT}, description=EVIL)]),
        attrs.evolve(ROUTE, query={"q": {"type": "string", "description": EVIL}}),
    ],
)
def test_nothing_that_is_told_becomes_a_part_of_the_page(route: Route) -> None:
    reader = Reader(made(route))
    assert "script" not in reader.tags
    assert "alert('x')" in "".join(reader.said)


def test_it_asks_for_nothing_else_and_runs_nothing() -> None:
    reader = Reader(made())
    assert not {"script", "link", "img", "iframe", "form", "object"} & set(reader.tags)
    assert not any(name.startswith("on") or name == "style" for name, _ in reader.attributes)
    assert all(value.startswith("#") or value == "openapi.json" for value in reader.values("href"))
    assert not reader.values("src")
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_the_policy_lets_its_one_style_in_and_nothing_else() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", made(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in SECURITY_POLICY
    assert "default-src 'none'" in SECURITY_POLICY
    assert "unsafe" not in SECURITY_POLICY


def test_every_link_leads_somewhere() -> None:
    reader = Reader(made())
    ids = Counter(reader.values("id"))
    assert set(ids.values()) == {1}
    assert {link[1:] for link in reader.values("href") if link.startswith("#")} <= ids.keys()


def test_headings_leave_no_level_out() -> None:
    levels = [int(tag[1]) for tag in Reader(made()).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_table_says_what_it_is_and_what_its_columns_are() -> None:
    reader = Reader(made())
    assert reader.tags.count("caption") == reader.tags.count("table") > 0
    assert reader.values("scope").count("col") > 0
    assert reader.tags.count("th") == len(reader.values("scope"))


def test_the_language_is_told_and_a_phone_can_show_it() -> None:
    attributes = Reader(made()).attributes
    assert ("lang", "en") in attributes
    assert ("content", "width=device-width, initial-scale=1") in attributes


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.2 has it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_by_day_and_by_night() -> None:
    day, night = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    )
    assert day.keys() == night.keys()
    for colours in (day, night):
        for behind in ("paper", "shade"):
            for ink in ("ink", "link", "quiet"):
                assert contrast(colours[ink], colours[behind]) >= CONTRAST_MIN, (ink, behind)


def test_every_client_is_told_with_the_readers_own_url_and_key() -> None:
    text = "".join(Reader(made()).said)
    for client in settings(key="YOUR_KEY"):
        assert client.client in text
        assert BASE in client.text
        assert client.text in text


def test_without_keys_it_says_that_none_is_needed() -> None:
    text = "".join(Reader(made(keyed=False)).said)
    assert "YOUR_KEY" not in text
    assert "No key is needed" in text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string"),
        ({"type": ["string", "number", "null"]}, "string or number"),
        ({"enum": ["a", "b", None]}, "`a`, `b`"),
        ({"const": 1}, "`1`"),
        ({"type": "integer", "minimum": 0, "maximum": 2}, "integer, from 0 to 2"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "integer"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0 to 1"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        (or_nothing(COUNT), "integer, from 0"),
        ({"anyOf": [TEXT, {"type": "array", "items": TEXT}]}, "string or list of string"),
        ({}, "anything"),
    ],
)
def test_what_a_parameter_takes_is_told_in_words(schema: Document, words: str) -> None:
    route = attrs.evolve(ROUTE, takes={JSON: fields({"x": schema})})
    cell = re.search(r"<code>x</code></th><td>(.*?)</td>", made(route))
    assert cell is not None
    assert re.sub(r"</?code>", "`", cell[1]) == words
