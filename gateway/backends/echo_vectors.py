"""Vectors without a model: those of the words in a text. Texts that share words are near. Pure."""

import hashlib
import math
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.core.messages import Vector

DIMENSIONS: Final = 8

_MIDDLE: Final = 32_767.5
"""Of a 16-bit number."""


def words_of(item: str | Sequence[int]) -> list[str]:
    """What it consists of. Blanks alone are a word, too, since nothing has no vector."""
    return (item.split() or [item]) if isinstance(item, str) else [str(token) for token in item]


def vector(words: Iterable[str], dimensions: int = DIMENSIONS) -> Vector:
    """The sum of the words' own vectors, of length 1. Their order does not count."""
    sums = [0.0] * dimensions
    for word in words:
        # As many bytes as are wanted, the same on every machine.
        digest = hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
        numbers = struct.unpack(f"<{dimensions}H", digest)
        sums = [total + number - _MIDDLE for total, number in zip(sums, numbers, strict=True)]
    length = math.hypot(*sums)
    return array("f", [total / length for total in sums])
