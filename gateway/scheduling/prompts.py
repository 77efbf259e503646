"""How many tokens a prompt is, from its characters and messages. Pure.

A model's tokenizer makes about the same number of tokens of each character of
one kind of text, and its template puts some around each message. Both are
learned together, by linear regression with a prior (ridge regression; Hoerl &
Kennard 1970), so that many short chats don't say that long texts are expensive.
"""

import math
from typing import Final

import msgspec

from gateway.scheduling.remembered import Amount, Count

_KEEP: Final = 0.95
"""The last twenty prompts make up most of what is believed."""

_CHAR_PRECISION: Final = 0.1**-2
_MESSAGE_PRECISION: Final = 8.0**-2
"""Of the prior: a character is a tenth of a token more or less, a message eight tokens."""

_NOISE: Final = 0.1
_NOISE_TOKENS: Final = 2.0
"""Texts differ by a tenth, and by two tokens where they are short."""

_PER_CHAR_MIN: Final = 0.01
_PER_CHAR_MAX: Final = 8.0
_PER_MESSAGE_MAX: Final = 1000.0

_STEP: Final = 4.0
"""One prompt counts as so many times its expected tokens at the most: images have no characters."""

_SCATTER_MAX: Final = math.log(_STEP) ** 2
_PRIOR_ERROR: Final = 0.3


class PromptSums(msgspec.Struct):
    """What is remembered: the sums of the normal equations, and of the errors' squares."""

    chars_chars: Amount = 0.0
    chars_messages: Amount = 0.0
    messages_messages: Amount = 0.0
    chars_tokens: Amount = 0.0
    messages_tokens: Amount = 0.0
    weight: Amount = 0.0
    squares: Amount = 0.0
    count: Count = 0


class PromptLengths:
    """What one model makes of text.

    Attributes:
        per_char, per_message: Tokens, positive or 0, and finite.
        variance: Of one prediction, relative to it squared.
    """

    __slots__ = ("_prior", "per_char", "per_message", "sums", "variance")

    def __init__(self, sums: PromptSums, *, per_char: float, per_message: float) -> None:
        self.sums = sums
        self._prior = (per_char, per_message)
        self._solve()
        self._set_variance()

    def tokens(self, chars: int, messages: int) -> float:
        return chars * self.per_char + messages * self.per_message

    def observe(self, chars: int, messages: int, tokens: int) -> None:
        """A prompt was so many tokens to the engine."""
        expected = self.tokens(chars, messages)
        if tokens <= 0 or expected <= 0.0:
            return
        believed = min(max(float(tokens), expected / _STEP), expected * _STEP)
        # Errors are relative: a long prompt must not drown all short ones.
        weight = (_NOISE * believed + _NOISE_TOKENS) ** -2
        by_char, by_message = weight * chars, weight * messages
        sums = self.sums
        sums.chars_chars = sums.chars_chars * _KEEP + by_char * chars
        sums.chars_messages = sums.chars_messages * _KEEP + by_char * messages
        sums.messages_messages = sums.messages_messages * _KEEP + by_message * messages
        sums.chars_tokens = sums.chars_tokens * _KEEP + by_char * believed
        sums.messages_tokens = sums.messages_tokens * _KEEP + by_message * believed
        self._solve()
        error = math.log(believed / max(self.tokens(chars, messages), 1.0))
        sums.squares = sums.squares * _KEEP + error * error
        sums.weight = sums.weight * _KEEP + 1.0
        sums.count += 1
        self._set_variance()

    def _solve(self) -> None:
        sums = self.sums
        prior_char, prior_message = self._prior
        a = sums.chars_chars + _CHAR_PRECISION
        b = sums.chars_messages
        d = sums.messages_messages + _MESSAGE_PRECISION
        char = sums.chars_tokens + _CHAR_PRECISION * prior_char
        message = sums.messages_tokens + _MESSAGE_PRECISION * prior_message
        # Never less, but for rounding, and for sums that are those of no prompts.
        determinant = max(a * d - b * b, _CHAR_PRECISION * _MESSAGE_PRECISION)
        self.per_message = min(max((a * message - b * char) / determinant, 0.0), _PER_MESSAGE_MAX)
        # What is best beside the other, which may stand at its bound.
        self.per_char = min(max((char - b * self.per_message) / a, _PER_CHAR_MIN), _PER_CHAR_MAX)

    def _set_variance(self) -> None:
        sums = self.sums
        doubt = math.ldexp(_PRIOR_ERROR, -min(sums.count, 60))
        scatter = min(sums.squares / sums.weight, _SCATTER_MAX) if sums.weight else 0.0
        self.variance = doubt * doubt + scatter
