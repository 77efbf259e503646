import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Embeddings, EmbedRequest
from gateway.core.ticket import Cost, Ticket
from gateway.scheduling.microbatch import BatchBounds, companions, cut, join
from tests.engines import ticket

ROOMY = BatchBounds(items_max=64, chars_max=10_000)


def wish(
    number: int, *texts: str, model: str = "m", due_at: float = 60.0, service_s: float = 1.0
) -> Ticket:
    request = EmbedRequest(model=model, inputs=texts or ("hi",))
    return attrs.evolve(
        ticket(number),
        request=request,
        prompt_chars=sum(map(len, texts or ("hi",))),
        due_at=due_at,
        cost=Cost(prefill_s=service_s),
    )


def test_those_who_are_alike_come_along_in_their_order() -> None:
    first, second, third = wish(1), wish(2), wish(3)
    assert companions(first, [first, second, third], ROOMY, 0.0) == [second, third]


@pytest.mark.parametrize(
    "other",
    [
        EmbedRequest(model="other", inputs=("hi",)),
        EmbedRequest(model="m", inputs=("hi",), dimensions=8),
        EmbedRequest(model="m", inputs=("hi",), truncate=True),
        EmbedRequest(model="m", inputs=("hi",), extensions={"num_ctx": 512}),
    ],
)
def test_who_wants_it_otherwise_waits_for_a_call_of_its_own(other: EmbedRequest) -> None:
    stranger = attrs.evolve(wish(2), request=other)
    assert companions(wish(1), [stranger], ROOMY, 0.0) == []


def test_a_chat_comes_along_with_nothing() -> None:
    assert companions(ticket(1), [wish(2)], ROOMY, 0.0) == []
    assert companions(wish(1), [ticket(2)], ROOMY, 0.0) == []


def test_a_call_is_bounded_in_texts_and_in_characters() -> None:
    waiting = [wish(number, "abcd") for number in range(2, 10)]
    by_items = companions(wish(1, "abcd"), waiting, BatchBounds(items_max=3, chars_max=100), 0.0)
    assert by_items == waiting[:2]
    by_chars = companions(wish(1, "abcd"), waiting, BatchBounds(items_max=64, chars_max=16), 0.0)
    assert by_chars == waiting[:3]


def test_one_who_is_large_by_itself_goes_alone() -> None:
    huge = wish(1, *["x"] * 100)
    assert companions(huge, [wish(2)], BatchBounds(items_max=64, chars_max=1000), 0.0) == []


def test_nobody_comes_along_for_whom_or_with_whom_it_would_be_too_late() -> None:
    # All get their answer when the last is computed: three seconds, for three of them.
    second, third = wish(2), wish(3)
    assert companions(wish(1, due_at=2.5), [second, third], ROOMY, 0.0) == [second]
    hasty = wish(2, due_at=1.5)
    assert companions(wish(1), [hasty], ROOMY, 0.0) == []
    assert companions(wish(1), [hasty], ROOMY, -1.0) == [hasty]


@given(
    st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), min_size=1, max_size=8),
    st.integers(0, 1000),
)
def test_what_is_joined_is_cut_apart_again(texts: list[list[str]], tokens: int) -> None:
    requests = [EmbedRequest(model="m", inputs=tuple(part)) for part in texts]
    joined = join(requests)
    # A vector that can be told from every other.
    vectors = [[float(index)] for index in range(len(joined.inputs))]
    weights = [sum(map(len, part)) for part in texts]
    parts = cut(Embeddings(vectors, tokens), requests, weights)
    assert [vector for part in parts for vector in part.vectors] == vectors
    assert [len(part.vectors) for part in parts] == [len(part) for part in texts]
    assert all(part.prompt_tokens >= 0 for part in parts)
    if any(weights):
        assert sum(part.prompt_tokens for part in parts) == tokens
