import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.echo_vectors import DIMENSIONS, vector, words_of


def nearness(one: str, other: str, dimensions: int = 64) -> float:
    pair = zip(vector(words_of(one), dimensions), vector(words_of(other), dimensions), strict=True)
    return sum(a * b for a, b in pair)


@given(st.text(), st.integers(1, 50))
def test_every_text_has_a_vector_of_length_one(text: str, dimensions: int) -> None:
    found = vector(words_of(text), dimensions)
    assert len(found) == dimensions
    assert math.hypot(*found) == pytest.approx(1.0, abs=1e-5)


def test_vectors_are_the_same_on_every_machine() -> None:
    hello = [0.343609, 0.272714, 0.746609, -0.500135]
    assert list(vector(["hello"], 4)) == pytest.approx(hello, abs=1e-6)


def test_texts_that_share_words_are_near() -> None:
    assert nearness("the cat sleeps", "the cat  sleeps ") == pytest.approx(1.0)
    assert nearness("the cat sleeps", "sleeps the cat") == pytest.approx(1.0)
    assert nearness("the cat sleeps", "the cat eats") > nearness("the cat sleeps", "no money") + 0.3


def test_words_are_told_apart() -> None:
    assert words_of(" a  b ") == ["a", "b"]
    assert words_of("") == [""]
    assert words_of((7, 0)) == ["7", "0"]
    assert len(vector(["x"])) == DIMENSIONS
