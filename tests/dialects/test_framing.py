import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import jsonio
from gateway.dialects.framing import (
    DONE,
    LineSplitter,
    SseSplitter,
    one_line,
    record,
)

pieces = st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b"data: ", b":", b"\n\n"]))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(edge % (len(data) + 1) for edge in at), len(data)]
    return [data[low:high] for low, high in itertools.pairwise(edges)]


# --- Lines ----------------------------------------------------------------------


@given(pieces.map(b"".join), st.lists(st.integers(0, 10_000)))
@settings(deadline=None)
def test_lines_are_the_same_however_the_stream_is_cut(data: bytes, at: list[int]) -> None:
    splitter = LineSplitter(1 << 20)
    lines = [line for piece in cut(data, at) for line in splitter.feed(piece)]
    *whole, rest = data.split(b"\n")
    assert lines == [line.removesuffix(b"\r") for line in whole]
    assert splitter.rest == rest
    assert splitter.unfinished == bool(rest)


def test_a_line_of_the_bound_passes_and_a_longer_one_does_not() -> None:
    splitter = LineSplitter(8)
    assert splitter.feed(b"12345678\n12345678\n1234") == [b"12345678", b"12345678"]
    assert splitter.feed(b"5678\n") == [b"12345678"]
    with pytest.raises(ValueError, match="longer than 8 bytes"):
        splitter.feed(b"ok\n123456789\nok\n")


def test_an_endless_line_is_refused_as_soon_as_it_passes_the_bound() -> None:
    splitter = LineSplitter(10)
    for _ in range(10):
        assert splitter.feed(b"x") == []
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        splitter.feed(b"x")


def test_many_short_lines_may_come_at_once() -> None:
    assert LineSplitter(4).feed(b"abc\n" * 1000) == [b"abc"] * 1000


def test_a_line_end_cut_between_cr_and_lf_is_one() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b"a\r") == []
    assert splitter.feed(b"\nb\r\n") == [b"a", b"b"]


# --- Events -----------------------------------------------------------------------


def events(data: bytes) -> list[bytes]:
    return SseSplitter(1 << 20).feed(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b": ping\n\ndata: a\n\n:\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"data: a\nevent: x\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n: c\ndata:\ndata: b\n\n", [b"a\n\nb"]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: \n\n", [b""]),
        (b"data: a\n\n: c\n\n", [b"a"]),
        (b"data: a\r\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"database: x\n\ndata: a\n\n", [b"a"]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(data: bytes, expected: list[bytes]) -> None:
    assert events(data) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_event_stream_cut_at_every_byte_is_the_same(end: bytes) -> None:
    text = jsonio.dumps({"content": "größer \u2028 😀"})
    lines = [b": ping", b"", b"data: " + text, b"", b"data:" + text, b"data: x", b"", b""]
    data = end.join(lines)
    expected = [text, text + b"\nx"]
    for at in range(len(data) + 1):
        splitter = SseSplitter(1 << 20)
        assert splitter.feed(data[:at]) + splitter.feed(data[at:]) == expected
        assert splitter.rest == b""


@given(pieces.map(b"".join), st.lists(st.integers(0, 10_000)))
@settings(deadline=None)
def test_events_are_the_same_however_the_stream_is_cut(data: bytes, at: list[int]) -> None:
    whole, slow = SseSplitter(1 << 20), SseSplitter(1 << 20)
    expected = [payload for byte in data for payload in slow.feed(bytes([byte]))]
    assert whole.feed(data) == expected
    splitter = SseSplitter(1 << 20)
    assert [p for piece in cut(data, at) for p in splitter.feed(piece)] == expected
    assert splitter.rest == whole.rest == slow.rest


def test_a_line_that_was_begun_before_is_not_the_start_of_an_event() -> None:
    splitter = SseSplitter(1 << 20)
    assert splitter.feed(b"id: ") == []
    assert splitter.feed(b"data: a\n\n") == []
    assert splitter.feed(b"data: b\n") == []
    assert splitter.feed(b"data: c\n\n") == [b"b\nc"]


def test_an_event_without_its_blank_line_is_the_rest() -> None:
    splitter = SseSplitter(1 << 20)
    assert splitter.feed(b"data: a\n\ndata: [DONE]\n") == [b"a"]
    assert splitter.rest == b"[DONE]"
    assert splitter.feed(b"data: [DO") == []
    assert splitter.rest == b"[DONE]\n[DO"


@pytest.mark.parametrize(
    "data", [b"data: " + b"x" * 100, b"data: " + b"x" * 100 + b"\n\n", b"data: xxxxxxxx\n" * 10]
)
def test_an_event_beyond_the_bound_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="longer than 64 bytes"):
        SseSplitter(64).feed(data)


def test_many_events_may_come_at_once() -> None:
    assert SseSplitter(64).feed(b"data: x\n\n" * 1000) == [b"x"] * 1000


# --- Writing ------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_a_record_is_one_line_for_every_kind_of_reader(text: str) -> None:
    written = record(jsonio.dumps(text))
    assert written.decode().splitlines() == [written.decode()[:-2], ""]
    (payload,) = events(written)
    assert json.loads(payload) == text


def test_separators_of_unicode_are_escaped_and_nothing_else() -> None:
    assert one_line("\u0085ä\u2028é\u2029Ơ".encode()) == rb"\u0085" + "ä".encode() + (
        rb"\u2028" + "é".encode() + rb"\u2029" + "Ơ".encode()
    )


def test_a_comment_is_no_event() -> None:
    assert events(b": keep-alive\n\n: waiting, 3 before you\n\n" + DONE) == [b"[DONE]"]
