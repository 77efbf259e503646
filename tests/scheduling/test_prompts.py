import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.prompts import PromptLengths, PromptSums


def lengths(sums: PromptSums | None = None) -> PromptLengths:
    return PromptLengths(sums or PromptSums(), per_char=0.25, per_message=4.0)


def test_before_anything_was_seen_the_prior_holds() -> None:
    assert lengths().tokens(400, 2) == 108.0


@pytest.mark.parametrize("per_char", [0.125, 0.5])
def test_a_text_with_longer_or_shorter_tokens_is_learned(per_char: float) -> None:
    prompts = lengths()
    for chars in (300, 900, 500, 1200, 700):
        prompts.observe(chars, 2, round(chars * per_char + 8))
    assert prompts.tokens(1000, 2) == pytest.approx(1000 * per_char + 8, rel=0.05)


def test_a_script_with_a_token_for_each_character_is_learned() -> None:
    prompts = lengths()
    for chars in (300, 900, 500, 1200, 700) * 2:
        prompts.observe(chars, 2, round(chars * 1.2 + 8))
    assert prompts.tokens(1000, 2) == pytest.approx(1208, rel=0.15)


def test_short_chats_do_not_make_long_texts_expensive() -> None:
    prompts = lengths()
    for chars in (12, 20, 31, 18, 25) * 4:
        prompts.observe(chars, 1, round(chars / 4 + 30))
    assert prompts.tokens(20, 1) == pytest.approx(35, rel=0.1)
    assert prompts.tokens(4000, 1) == pytest.approx(1030, rel=0.35)


def test_a_prompt_of_images_does_not_make_text_expensive() -> None:
    prompts = lengths()
    for _ in range(20):
        prompts.observe(1000, 2, 258)
    before = prompts.tokens(1000, 2)
    prompts.observe(100, 1, 3000)
    assert prompts.tokens(1000, 2) < 1.3 * before


def test_what_always_fits_is_sure() -> None:
    prompts = lengths()
    doubt = prompts.variance
    for _ in range(20):
        prompts.observe(1000, 2, 400)
    assert math.sqrt(prompts.variance) < 0.02 < math.sqrt(doubt)


sums = st.builds(
    PromptSums,
    *[st.floats(0.0, 1e12)] * 7,
    count=st.integers(0, 2**53),
)
prompt = st.tuples(st.integers(0, 10**7), st.integers(0, 2048), st.integers(0, 10**7))


@given(sums, st.lists(prompt, max_size=10), st.integers(0, 10**7), st.integers(0, 2048))
def test_whatever_was_seen_a_longer_text_is_no_fewer_tokens(
    remembered: PromptSums, seen: list[tuple[int, int, int]], chars: int, messages: int
) -> None:
    prompts = lengths(remembered)
    for each in seen:
        prompts.observe(*each)
    tokens = prompts.tokens(chars, messages)
    assert 0.0 <= tokens < math.inf
    assert prompts.tokens(chars + 100, messages) > tokens
    assert 0.0 <= prompts.variance < 10.0
