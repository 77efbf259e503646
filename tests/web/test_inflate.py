import contextlib
import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadContentEncoding
from gateway.web.inflate import CODINGS, MEMBERS_MAX, STEP_BYTES, Inflater


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


def inflated(coding: str, *pieces: bytes) -> bytes:
    inflater = Inflater(coding)
    whole = b"".join(itertools.chain.from_iterable(map(inflater.feed, pieces)))
    inflater.end()
    return whole


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
@given(data=st.binary(max_size=2000), step=st.integers(1, 50))
def test_however_it_arrives_it_becomes_what_it_was(coding, encode, data, step) -> None:  # type: ignore[no-untyped-def]
    encoded = encode(data)
    pieces = [encoded[start : start + step] for start in range(0, len(encoded), step)]
    assert inflated(coding, *pieces) == data


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_what_comes_out_comes_in_steps(coding, encode) -> None:  # type: ignore[no-untyped-def]
    data = bytes(3 * STEP_BYTES + 1)
    pieces = list(Inflater(coding).feed(encode(data)))
    assert [len(piece) for piece in pieces] == [STEP_BYTES] * 3 + [1]


def test_nothing_is_inflated_before_somebody_wants_it() -> None:
    bomb = Inflater("gzip").feed(gzip.compress(bytes(4 * STEP_BYTES)) + b"garbage")
    assert sum(len(next(bomb)) for _ in range(4)) == 4 * STEP_BYTES
    with pytest.raises(BadContentEncoding):
        next(bomb)


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_what_is_cut_short_is_told_from_what_is_whole(coding, encode) -> None:  # type: ignore[no-untyped-def]
    encoded = encode(b"hello")
    for length in range(len(encoded)):
        with pytest.raises(BadContentEncoding):
            inflated(coding, encoded[:length])


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", b"hello"),
        ("gzip", zlib.compress(b"hello")),
        ("gzip", gzip.compress(b"hello")[:-8] + bytes(8)),
        ("gzip", gzip.compress(b"hello") + b"garbage"),
        ("gzip", gzip.compress(b"hello") + bytes(100)),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", gzip.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")[:-4] + bytes(4)),
        ("deflate", zlib.compress(b"hello") + zlib.compress(b"hello")),
    ],
)
def test_what_is_not_of_this_coding_is_broken(coding: str, data: bytes) -> None:
    with pytest.raises(BadContentEncoding):
        inflated(coding, data)


def test_members_of_a_gzip_file_are_one_body() -> None:
    members = [gzip.compress(b"one "), gzip.compress(b""), gzip.compress(b"two")]
    assert inflated("gzip", b"".join(members)) == b"one two"
    assert inflated("gzip", *members) == b"one two"


def test_no_end_of_members_of_nothing_is_worked_through() -> None:
    assert inflated("gzip", gzip.compress(b"") * MEMBERS_MAX) == b""
    with pytest.raises(BadContentEncoding):
        inflated("gzip", gzip.compress(b"") * (MEMBERS_MAX + 1))


@given(coding=st.sampled_from(sorted(CODINGS)), pieces=st.lists(st.binary(max_size=100)))
def test_noise_is_refused_or_read_and_nothing_else(coding: str, pieces: list[bytes]) -> None:
    with contextlib.suppress(BadContentEncoding):
        inflated(coding, *pieces)
