"""What the simulated box reads and says: tokens of four characters, answers as long as drawn. Pure.

The length of an answer depends on the seed, the model and the prompt alone: a request
sent again is answered alike, and who knows the seed knows every answer in advance.
"""

import hashlib
import math
import random
import re
from collections.abc import Iterable
from typing import Final

import attrs

TOKEN_CHARS: Final = 4
_WORDS: Final = 1000
_RANGE: Final = re.compile(r"(\d{1,6})-(\d{1,6})")
_LENGTH_MAX: Final = 4096


def _is_range(low_and_high: "Uniform", _attribute: object, high: int) -> None:
    if not 1 <= low_and_high.low <= high:
        raise ValueError(f"no range of lengths: {low_and_high.low}-{high}")


@attrs.frozen
class Uniform:
    """Each length from `low` to `high` equally often."""

    low: int
    high: int = attrs.field(validator=_is_range)

    def draw(self, dice: random.Random) -> int:
        return dice.randint(self.low, self.high)


@attrs.frozen
class HeavyTailed:
    """Log-normal: most are short, few are very long; the mean is exp(sigma² / 2) medians."""

    median: float = 16.0
    sigma: float = 1.0

    def draw(self, dice: random.Random) -> int:
        drawn = round(dice.lognormvariate(math.log(self.median), self.sigma))
        return min(max(drawn, 1), _LENGTH_MAX)


Lengths = Uniform | HeavyTailed


def range_of(text: str) -> Uniform:
    """Of "8-32", or of "8" alone.

    Raises:
        ValueError: It is neither, or begins below 1.
    """
    if match := _RANGE.fullmatch(text):
        return Uniform(int(match[1]), int(match[2]))
    return Uniform(int(text), int(text))


def lengths_of(text: str) -> Lengths:
    """Of "heavy" or a range; raises as `range_of`."""
    return HeavyTailed() if text == "heavy" else range_of(text)


def natural_length(lengths: Lengths, *, seed: int, model: str, prompt: str) -> int:
    """Tokens of the answer to a prompt that no limit cuts short."""
    return lengths.draw(_dice(seed, model, prompt))


def answer_text(count: int, *, seed: int, model: str, prompt: str) -> str:
    """An answer of `count` tokens, each of exactly TOKEN_CHARS characters."""
    first = _dice(seed, prompt, model).randrange(_WORDS)
    return "".join(f" {(first + index) % _WORDS:03d}" for index in range(count))


def prompt_text(messages: Iterable[tuple[str, str]]) -> str:
    """A conversation, (role, content) each, as the model reads it.

    The prompt of a next turn begins with the prompt of this one and its answer.
    """
    turns = "".join(f"{role}: {content}\n" for role, content in messages)
    return turns + "assistant:"


def tokens_in(text: str) -> int:
    return math.ceil(len(text) / TOKEN_CHARS)


def shared_tokens(one: str, other: str) -> int:
    """Tokens with which both begin."""
    same, differ = 0, min(len(one), len(other)) + 1
    # Bisection compares slices in C; prompts are long, and mostly the same.
    while differ - same > 1:
        middle = (same + differ) // 2
        if one[:middle] == other[:middle]:
            same = middle
        else:
            differ = middle
    return same // TOKEN_CHARS


def _dice(seed: int, *texts: str) -> random.Random:
    said = "\0".join((str(seed), *texts))
    return random.Random(hashlib.blake2b(said.encode(), digest_size=8).digest())
