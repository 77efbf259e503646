import json
import struct
from array import array
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Vector
from gateway.dialects.embedding import base64, numbers

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20)
VECTORS = FLOATS | FLOATS.map(lambda floats: array("f", floats)) | FLOATS.map(tuple)


@given(VECTORS)
def test_both_ways_to_write_a_vector_lose_nothing(vector: Vector) -> None:
    assert json.loads(numbers(vector)) == list(vector)
    data = b64decode(json.loads(base64(vector)))
    assert list(struct.unpack(f"<{len(vector)}f", data)) == list(vector)


def test_numbers_stay_as_short_as_the_engine_wrote_them() -> None:
    assert numbers([0.1, -1.0]) == b"[0.1,-1.0]"


def test_what_was_computed_in_more_bits_is_rounded_to_32() -> None:
    (number,) = struct.unpack("<f", b64decode(json.loads(base64([1 / 3]))))
    assert number == pytest.approx(1 / 3, abs=1e-7)
    assert number != 1 / 3
