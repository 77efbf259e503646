"""What holds of every vector, whichever engine computes it."""

import math
from collections.abc import Sequence
from typing import ClassVar, Final

import pytest
from openai import BadRequestError, OpenAI, UnprocessableEntityError

from tests.real.gateway_process import MODEL

PAIRS: Final = (
    ("a cat sleeps on the sofa", "a kitten naps on the couch"),
    ("how do I bake bread at home", "a recipe for homemade bread"),
    ("the football team won the match", "our club was victorious in the soccer game"),
)


def nearness(one: Sequence[float], other: Sequence[float]) -> float:
    """Of vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


class Embedding:
    """Tests of embeddings, for an engine's test module to subclass.

    Attributes:
        context_length: Tokens that the engine has allocated.
    """

    context_length: ClassVar[int]

    def test_what_means_the_same_is_nearest(self, client: OpenAI) -> None:
        texts = [text for pair in PAIRS for text in pair]
        reply = client.embeddings.create(model=MODEL, input=texts)
        assert [item.index for item in reply.data] == list(range(len(texts)))
        vectors = [item.embedding for item in reply.data]
        for number, vector in enumerate(vectors):
            assert len(vector) == 576
            assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)
            others = {
                other: nearness(vector, vectors[other])
                for other in range(len(texts))
                if other != number
            }
            assert max(others, key=others.__getitem__) == number ^ 1
        assert reply.model == MODEL
        assert reply.usage.prompt_tokens == reply.usage.total_tokens > len(texts)

    def test_base64_and_numbers_are_the_same_vector(self, client: OpenAI) -> None:
        text = PAIRS[0][0]
        # By default this client asks for base64.
        (decoded,) = client.embeddings.create(model=MODEL, input=text).data
        (told,) = client.embeddings.create(model=MODEL, input=text, encoding_format="float").data
        assert decoded.embedding == pytest.approx(told.embedding, abs=1e-7)

    def test_an_input_that_is_too_long_is_told_with_the_context(self, client: OpenAI) -> None:
        long = "word " * (2 * self.context_length)
        with pytest.raises(BadRequestError) as caught:
            client.embeddings.create(model=MODEL, input=["a", long])
        assert caught.value.code == "context_length_exceeded"
        assert str(self.context_length) in caught.value.message

    def test_nothing_has_no_vector(self, client: OpenAI) -> None:
        with pytest.raises(UnprocessableEntityError) as caught:
            client.embeddings.create(model=MODEL, input=["a", ""])
        assert caught.value.param == "input[1]"
