"""What the simulated box says depends on its seed and the prompt, and on nothing else."""

from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answers import (
    TOKEN_CHARS,
    HeavyTailed,
    Lengths,
    Uniform,
    answer_text,
    lengths_of,
    natural_length,
    prompt_text,
    range_of,
    shared_tokens,
    tokens_in,
)


def drawn(lengths: Lengths, count: int = 2000) -> list[int]:
    return [
        natural_length(lengths, seed=1, model="a:latest", prompt=str(number))
        for number in range(count)
    ]


def test_a_uniform_length_stays_in_its_range_and_reaches_both_ends() -> None:
    assert set(drawn(Uniform(8, 12))) == {8, 9, 10, 11, 12}


def test_heavy_tailed_lengths_have_their_median_and_a_mean_far_above_it() -> None:
    lengths = drawn(HeavyTailed(median=16.0, sigma=1.0))
    assert median(lengths) == pytest.approx(16, abs=1.5)
    assert mean(lengths) == pytest.approx(16 * 1.65, rel=0.1)
    assert max(lengths) > 160
    assert min(lengths) >= 1


def test_the_same_prompt_has_the_same_answer_and_others_have_others() -> None:
    def said(seed: int, model: str, prompt: str) -> tuple[int, str]:
        length = natural_length(Uniform(1, 9999), seed=seed, model=model, prompt=prompt)
        return length, answer_text(4, seed=seed, model=model, prompt=prompt)

    first = said(1, "a:latest", "hello")
    assert said(1, "a:latest", "hello") == first
    others = [said(2, "a:latest", "hello"), said(1, "b:latest", "hello"), said(1, "a:latest", "x")]
    assert first not in others


@pytest.mark.parametrize("count", [0, 1, 7, 1500])
def test_a_token_of_an_answer_is_four_characters(count: int) -> None:
    text = answer_text(count, seed=1, model="a:latest", prompt="hello")
    assert len(text) == count * TOKEN_CHARS
    assert tokens_in(text) == count


def test_the_next_turn_begins_with_this_prompt_and_its_answer() -> None:
    asked = [("system", "Be kind."), ("user", "Hello")]
    prompt = prompt_text(asked)
    answer = answer_text(5, seed=1, model="a:latest", prompt=prompt)
    # Ollama's template puts what is between role and content; here it is a blank.
    turn = prompt_text([*asked, ("assistant", answer.removeprefix(" ")), ("user", "And then?")])
    assert turn.startswith(prompt + answer)


@given(st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_shared_tokens_are_those_with_which_both_begin(one: str, other: str) -> None:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    assert shared_tokens(one, other) == shared_tokens(other, one) == same // TOKEN_CHARS


@pytest.mark.parametrize(
    ("text", "lengths"),
    [("8-32", Uniform(8, 32)), ("20", Uniform(20, 20)), ("heavy", HeavyTailed())],
)
def test_lengths_are_read(text: str, lengths: Lengths) -> None:
    assert lengths_of(text) == lengths


@pytest.mark.parametrize("text", ["", "0-8", "0", "9-8", "8-", "-8", "light", "8-9-10"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        range_of(text)
