"""Prompts can be said again, are as long as ordered, and share what they should."""

import pytest

from bench.answers import TOKEN_CHARS, prompt_text, shared_tokens
from bench.prompts import Conversations, Prompts, Unique


@pytest.mark.parametrize("prompts", [Unique(), Conversations()])
def test_the_same_number_says_the_same_and_another_something_else(prompts: Prompts) -> None:
    assert prompts.messages(7) == prompts.messages(7)
    assert prompts.messages(7) != prompts.messages(9)


def test_another_seed_says_something_else() -> None:
    assert Unique(seed=1).messages(7) != Unique(seed=2).messages(7)


@pytest.mark.parametrize("tokens", [1, 20, 333])
def test_a_prompt_is_as_long_as_ordered(tokens: int) -> None:
    (message,) = Unique(tokens=tokens).messages(1)
    # The last token has no blank behind it.
    assert len(message["content"]) == tokens * TOKEN_CHARS - 1


def text(prompts: Prompts, number: int) -> str:
    return prompt_text((one["role"], one["content"]) for one in prompts.messages(number))


def test_conversations_take_turns_and_share_their_beginning() -> None:
    prompts = Conversations(count=3, prefix_tokens=100)
    assert shared_tokens(text(prompts, 1), text(prompts, 4)) >= 100
    assert shared_tokens(text(prompts, 1), text(prompts, 2)) < 5
