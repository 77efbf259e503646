import math
import struct
from array import array
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.embedding import (
    CHARS_MAX,
    ITEMS_MAX,
    NUMBERS_MAX,
    calls,
    check,
    from_base64,
    in_calls,
)
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    InvalidRequest,
    UpstreamBadResponse,
)
from gateway.core.messages import Embeddings, EmbedRequest

TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=9).map(tuple)
INPUTS = st.lists(st.text(min_size=1) | TOKENS, max_size=2 * ITEMS_MAX).map(tuple)


def request(*inputs: str | tuple[int, ...]) -> EmbedRequest:
    return EmbedRequest(model="m", inputs=inputs, dimensions=3, truncate=True)


# --- Calls ------------------------------------------------------------------------------


@given(INPUTS)
def test_all_inputs_are_embedded_once_and_in_order(inputs: tuple[str | tuple[int, ...]]) -> None:
    parts = list(calls(request(*inputs)))
    assert tuple(item for part in parts for item in part.inputs) == inputs
    for part in parts:
        assert 1 <= len(part.inputs) <= ITEMS_MAX
        assert len(set(map(type, part.inputs))) == 1
        assert (part.dimensions, part.truncate) == (3, True)


async def test_more_numbers_than_fit_are_refused_after_the_first_call() -> None:
    asked: list[int] = []

    async def call(part: EmbedRequest) -> Embeddings:
        asked.append(len(part.inputs))
        return Embeddings([[0.5] * 4096 for _ in part.inputs])

    with pytest.raises(InvalidRequest, match=f"at most {NUMBERS_MAX // 4096} inputs") as error:
        await in_calls(request(*["x"] * 1024), call)
    assert error.value.param == "input"
    assert asked == [ITEMS_MAX]


def test_a_call_is_no_longer_than_an_engine_may_be_silent() -> None:
    half = "x" * (CHARS_MAX // 2)
    assert [len(part.inputs) for part in calls(request(half, half, "y", half, "y"))] == [2, 3]
    tokens = (7,) * (CHARS_MAX // 8)
    assert [len(part.inputs) for part in calls(request(tokens, tokens, (1,)))] == [2, 1]


def test_who_calls_may_measure_in_its_own_way() -> None:
    parts = calls(request("a", "bb", "c", "dddd", "e"), len, 3)
    assert [part.inputs for part in parts] == [("a", "bb"), ("c",), ("dddd",), ("e",)]


def test_what_is_longer_by_itself_is_a_call_by_itself() -> None:
    long = "x" * (CHARS_MAX + 1)
    assert [part.inputs for part in calls(request("a", long, "b"))] == [("a",), (long,), ("b",)]


async def test_several_calls_are_one_answer() -> None:
    asked: list[int] = []

    async def call(part: EmbedRequest) -> Embeddings:
        asked.append(len(part.inputs))
        vectors = [[float(len(item))] for item in part.inputs]
        return Embeddings(vectors, prompt_tokens=10, load_s=1.0 if len(asked) == 1 else 0.1)

    sizes = range(ITEMS_MAX + 2)
    whole = await in_calls(request(*("x" * size for size in sizes)), call)
    assert asked == [ITEMS_MAX, 2]
    assert whole == Embeddings([[float(size)] for size in sizes], prompt_tokens=20, load_s=1.0)


async def test_of_nothing_there_are_no_vectors_and_no_call() -> None:
    async def call(part: EmbedRequest) -> Embeddings:
        raise AssertionError("called")

    assert await in_calls(request(), call) == Embeddings([])


async def test_the_first_call_that_fails_is_the_last() -> None:
    asked: list[EmbedRequest] = []

    async def call(part: EmbedRequest) -> Embeddings:
        asked.append(part)
        raise ContextLengthExceeded("too long", param="input")

    with pytest.raises(ContextLengthExceeded):
        await in_calls(request("x", (1,), "y"), call)
    assert len(asked) == 1


# --- Vectors ------------------------------------------------------------------------------


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_base64_is_little_endian_float32(numbers: list[float]) -> None:
    text = b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    assert list(from_base64(text)) == numbers


@pytest.mark.parametrize("text", ["AAAA", "AAAAA", "AAAA AAA=", "é", "AAAAAA==x"])
def test_what_is_no_such_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*"):
        from_base64(text)


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1.0, 2.0]],
        [[1.0, 2.0]] * 3,
        [[1.0, 2.0], [1.0]],
        [[], []],
        [[1.0, 2.0], [1.0, math.nan]],
        [array("f", [math.inf, -math.inf]), array("f", [0.0, 0.0])],
    ],
)
def test_vectors_that_were_not_asked_for_are_a_bad_response(vectors: list[list[float]]) -> None:
    with pytest.raises(UpstreamBadResponse):
        check(vectors, inputs=2, dimensions=None)


def test_vectors_that_were_asked_for_pass() -> None:
    check([[1.0, 2.0], [3.0, 4.0]], inputs=2, dimensions=2)
    check([array("f", [1.0])], inputs=1, dimensions=None)
    check([], inputs=0, dimensions=9)


def test_a_model_that_has_not_so_many_dimensions_says_how_many_it_has() -> None:
    with pytest.raises(BackendRefusedRequest, match="2 dimensions") as caught:
        check([[1.0, 2.0]], inputs=1, dimensions=3)
    assert caught.value.param == "dimensions"
