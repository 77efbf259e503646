import msgspec
import pytest

from gateway.core.errors import MalformedRequest
from gateway.core.jsonio import DEPTH_MAX, LineDecoder, depth, dumps_text, parse_body, quote


class Line(msgspec.Struct):
    text: str


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"{}x",
        b"{'a': 1}",
        b"NaN",
        b"[1e999]",
        b'"\\ud800"',
        b"\xff\xfe{",
        b"// c\n{}",
    ],
)
def test_what_is_not_json_is_refused_with_its_position_and_nothing_of_the_text(
    body: bytes,
) -> None:
    with pytest.raises(MalformedRequest, match=r"line \d+, column \d+") as caught:
        parse_body(body)
    assert "'a'" not in caught.value.message


def test_the_position_is_the_right_one() -> None:
    with pytest.raises(MalformedRequest, match=r"line 2, column 8"):
        parse_body(b'{\n  "a": x}')


@pytest.mark.parametrize("nest", [b"[" * 2000 + b"]" * 2000, b'{"a":' * 100 + b"1" + b"}" * 100])
def test_deep_nesting_is_refused(nest: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_body(nest)


def test_many_shallow_levels_are_fine() -> None:
    assert len(parse_body(b"[" + b",".join([b"{}"] * 1000) + b"]")) == 1000


def test_depth_is_counted_as_far_as_it_matters() -> None:
    assert depth(1) == 0
    assert depth({"a": [1]}) == 2
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert depth(nested) == DEPTH_MAX + 1


def test_a_lone_surrogate_in_an_engines_line_becomes_a_replacement_character() -> None:
    assert LineDecoder(Line)(b'{"text": "a\\ud800b"}').text == "a\ufffdb"


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert LineDecoder(Line)(b'{"text": "\\ud83d\\ude00"}').text == "\U0001f600"


@pytest.mark.parametrize("line", [b"", b"<html>", b'{"text": 1}', b'{"text"', b"[" * 100_000])
def test_a_line_of_another_shape_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        LineDecoder(Line)(line)


def test_several_lines_are_read_together_and_empty_ones_passed_over() -> None:
    decode = LineDecoder(Line)
    assert [line.text for line in decode.many([b'{"text":"a"}', b"", b'{"text":"b"}'])] == [
        "a",
        "b",
    ]
    assert list(decode.many([b""])) == []
    assert list(decode.many([])) == []


def test_a_line_that_cannot_be_read_spoils_none_before_it() -> None:
    lines = iter(LineDecoder(Line).many([b'{"text":"a"}', b'{"text":"\\ud800"}', b"junk"]))
    assert next(lines).text == "a"
    assert next(lines).text == "\ufffd"
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        next(lines)


def test_quote_gives_one_json_string() -> None:
    assert quote('a"b\n\u2028') == '"a\\"b\\n\u2028"'.encode()
    assert dumps_text({"a": [1]}) == '{"a":[1]}'
