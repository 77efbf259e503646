"""What the server fills into the page; that the script fills in the same is tests/browser's."""

import re

import pytest

from gateway.core.jsonio import Json
from gateway.web.filling import FORMATS, fill


def filled(body: str, document: Json) -> str:
    return fill(f"<p>{body}</p>", document).removeprefix("<!doctype html>\n")[3:-4]


def test_text_is_put_in_and_never_markup() -> None:
    document = {"a": {"b": "<b>&\"'"}}
    assert filled('<i data-text="a.b"></i>', document) == (
        '<i data-text="a.b">&lt;b&gt;&amp;"\'</i>'
    )
    assert filled('<i data-set="title a.b"></i>', document) == (
        '<i data-set="title a.b" title="<b&gt;&amp;&quot;\'"></i>'
    )


@pytest.mark.parametrize("document", [{}, {"a": None}, {"a": ""}, {"a": {"c": 1}}, {"a": [1]}])
def test_what_is_not_there_is_a_dash(document: Json) -> None:
    assert ">–<" in filled('<i data-text="a.b"></i>', {**document, "b": 1})


@pytest.mark.parametrize("nothing", [0, "", None, [], False])
def test_what_is_shown_only_where_something_is(nothing: Json) -> None:
    shown, hidden = '<i data-show="a">', '<i data-show="a" hidden="">'
    assert shown in filled('<i data-show="a" hidden=""/>', {"a": [0]})
    assert hidden in filled('<i data-show="a"/>', {"a": nothing})
    assert 'data-show="!a">' in filled('<i data-show="!a"/>', {"a": nothing})
    assert 'data-show="!a" hidden="">' in filled('<i data-show="!a"/>', {"a": 1})


def test_rows_are_repeated_and_their_template_stays_for_the_browser() -> None:
    body = (
        '<ul data-each="rows"><template><li><b data-text="name"/><i data-text="/top"/>'
        '<ul data-each="inner"><template><li data-text="x"/></template></ul></li></template></ul>'
    )
    document = {"top": "T", "rows": [{"name": "one", "inner": [{"x": 1}, {"x": 2}]}, {"name": 2}]}
    written = filled(body, document)
    assert written.count("<template>") == 1 + 1 + 2, "its own, the one in it, and one for each row"
    rows = re.sub(
        r"<template>.*?</template>", "", written[written.index("</template></ul></li>") :]
    )
    assert re.findall(r">([^<>]+)<", rows) == ["one", "T", "1", "2", "2", "T"]


def test_a_bar_has_its_parts_side_by_side_in_percent_of_the_longest() -> None:
    document = {
        "running": [],
        "queue": {"requests": []},
        "recent": [
            {"total_s": 8.0, "queue_s": 1.0, "decode_s": 3.0},
            {"total_s": 4.0, "queue_s": 9.0, "decode_s": 3.0},
        ],
    }
    body = '<s data-each="recent"><template><svg data-bar="queue decode"/></template></s>'
    bars = filled(body, document).partition("</template>")[2]
    assert re.findall(r'class="(\w+)" x="([\d.]+)" width="([\d.]+)"', bars) == [
        ("queue", "0.00", "12.50"),
        ("decode", "12.50", "37.50"),
        ("queue", "0.00", "100.00"),
        ("decode", "100.00", "0.00"),
    ]
    assert "<title>queue 1.0 s, decode 3.0 s</title>" in bars


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("duration", 0.0, "0 s"),
        ("duration", 0.0005, "1 ms"),
        ("duration", 0.9994, "999 ms"),
        ("duration", 0.9995, "1.0 s"),
        ("duration", 9.949, "9.9 s"),
        ("duration", 9.95, "10 s"),
        ("duration", 119.4, "119 s"),
        ("duration", 120.0, "2.0 min"),
        ("duration", 7199.0, "120 min"),
        ("duration", 7200.0, "2.0 h"),
        ("duration", 200_000.0, "2.3 d"),
        ("size", 0, "0 B"),
        ("size", 999, "999 B"),
        ("size", 1000, "1.0 kB"),
        ("size", 96_576_768, "97 MB"),
        ("size", 5_225_387_923, "5.2 GB"),
        ("size", 10**16, "10000 TB"),
        ("count", 1234567, "1\u202f234\u202f567"),
        ("count", 999, "999"),
        ("speed", 21.25, "21.3"),
        ("percent", 0.185, "19 %"),
        ("spaced", "warming_up", "warming up"),
        ("", True, "yes"),
        ("", False, "no"),
    ],
)
def test_values_in_words(name: str, value: Json, words: str) -> None:
    assert FORMATS[name](value) == words


def test_a_moment_is_told_from_the_documents_own() -> None:
    body = '<i data-text="then:ago"/>'
    for before, words in [(0.5, "now"), (-3.0, "now"), (9.9, "9 s ago"), (125.0, "2.1 min ago")]:
        assert f">{words}<" in filled(body, {"at": 1000.0, "then": 1000.0 - before})
