import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.openai_responses_freeform import Freeform

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def told(arguments: str, step: int = 1000) -> list[str]:
    """What is told for each piece of so many characters, and at the end."""
    reader = Freeform()
    pieces = [arguments[at : at + step] for at in range(0, len(arguments), step)]
    said = [*map(reader.feed, pieces), reader.finish()]
    assert "".join(said) == reader.text
    return said


@given(texts, st.booleans(), st.integers(1, 12), st.sampled_from([None, 2]))
def test_a_text_is_read_however_it_is_escaped_and_cut(
    text: str, escaped: bool, step: int, indent: int | None
) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=escaped, indent=indent)
    assert "".join(told(arguments, step)) == text


@given(st.text('{}"\\u0dD8cCinpt: \n', max_size=30), st.integers(1, 5))
def test_whatever_a_model_writes_reads_the_same_in_pieces(rest: str, step: int) -> None:
    for arguments in (rest, '{"input":"' + rest):
        assert "".join(told(arguments, step)) == "".join(told(arguments))


def test_it_is_told_as_it_comes() -> None:
    assert told('{"input":"abcdefgh"}', 10) == ["", "abcdefgh", ""]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"a\nb\tc"}', "a\nb\tc"),
        (r'{"input":"\d+\s"}', r"\d+\s"),
        (r'{"input":"a\ud83d"}', "a\ufffd"),
        (r'{"input":"\ud83dx\ude00"}', "\ufffdx\ufffd"),
        (r'{"input":"\u12"}', r"\u12"),
        ('{"input":"cut off', "cut off"),
        ('{"input":"a","more":"b"}', "a"),
        ('{"more":1,"input":"a"}', "a"),
        ('{"patch":"a"}', '{"patch":"a"}'),
        ("*** Begin Patch", "*** Begin Patch"),
        ('"a"', '"a"'),
        ("", ""),
    ],
)
def test_what_is_no_such_object_is_taken_for_what_it_may_mean(arguments: str, text: str) -> None:
    for step in (1, 3, 1000):
        assert "".join(told(arguments, step)) == text
