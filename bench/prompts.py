"""What the clients of a load say: made from a seed and a number, so that it can be said again."""

import random
from typing import Final, Protocol

import attrs

from bench.answers import TOKEN_CHARS

Messages = list[dict[str, str]]

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class Prompts(Protocol):
    """Makes the messages of the request of that number; the same ones each time."""

    def messages(self, number: int) -> Messages: ...


@attrs.frozen(kw_only=True)
class Unique:
    """Each request has a prompt of its own, and shares nothing with any other."""

    tokens: int = 20
    seed: int = 1

    def messages(self, number: int) -> Messages:
        return [_said("user", f"{self.seed}/{number}", self.tokens)]


@attrs.frozen(kw_only=True)
class Conversations:
    """So many conversations take turns; those of one share a long beginning."""

    count: int = 2
    prefix_tokens: int = 1000
    tokens: int = 20
    seed: int = 1

    def messages(self, number: int) -> Messages:
        conversation = number % self.count
        return [
            _said("system", f"{self.seed}/conversation/{conversation}", self.prefix_tokens),
            _said("user", f"{self.seed}/{number}", self.tokens),
        ]


def _said(role: str, seed: str, tokens: int) -> dict[str, str]:
    letters = random.Random(seed).choices(_LETTERS, k=tokens * (TOKEN_CHARS - 1))
    width = TOKEN_CHARS - 1
    words = ("".join(letters[at : at + width]) for at in range(0, len(letters), width))
    return {"role": role, "content": " ".join(words)}
