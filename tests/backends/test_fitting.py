"""What comes of a request of which the prompt fits, and the longest answer besides it doesn't."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pytest

from gateway.backends.fitting import Fitting, room_for_answer
from gateway.backends.refusals import overflow
from gateway.core.errors import ContextLengthExceeded
from gateway.core.messages import Event, Finished, GenerateRequest

REQUEST = GenerateRequest(model="m", max_tokens=2048)

# vLLM 0.6 and 0.11.
VLLM = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
    " (2952 in the messages, 2048 in the completion). Please reduce the length of the messages"
    " or completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context"
    " length is 4096 tokens and your request has 2952 input tokens (2048 > 4096 - 2952).",
)


class Engine:
    """Refuses what does not fit in 4096 tokens, in these words."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.asked: list[int | None] = []
        self.left = 0

    def __call__(self, request: GenerateRequest) -> "Opened":
        return Opened(self, request)


class Opened:
    def __init__(self, engine: Engine, request: GenerateRequest) -> None:
        self.engine = engine
        self.request = request
        self.ends: list[Finished] = []

    async def __aenter__(self) -> Self:
        self.engine.asked.append(self.request.max_tokens)
        found = overflow(self.engine.words)
        if found is not None and (self.request.max_tokens or 0) > 4096 - 2952:
            raise found.error()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.left += 1

    async def read(self) -> Sequence[Event]:
        return ()


@pytest.mark.parametrize("words", VLLM)
async def test_it_is_asked_once_more_for_what_is_left(words: str) -> None:
    engine = Engine(words)
    async with Fitting(engine, REQUEST):
        assert engine.asked == [2048, 1144]
    assert engine.left == 1


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 7048 tokens"
        " (5000 in the messages, 2048 in the completion).",
        "This model's maximum context length is 4096 tokens.",
        "context_length_exceeded",
    ],
)
async def test_a_prompt_that_is_too_long_is_refused_at_once(words: str) -> None:
    engine = Engine(words)
    with pytest.raises(ContextLengthExceeded):
        async with Fitting(engine, REQUEST):
            raise AssertionError("it was let in")
    assert engine.asked == [2048]
    assert not engine.left


@pytest.mark.parametrize(
    ("prompt", "context", "room"),
    [(1, 4, 3), (3, 4, 1), (4, 4, None), (5, 4, None), (None, 4, None), (1, None, None)],
)
def test_room_is_what_the_prompt_leaves(
    prompt: int | None, context: int | None, room: int | None
) -> None:
    error = ContextLengthExceeded("", prompt=prompt, context=context)
    assert room_for_answer(REQUEST, error) == room


def test_an_answer_that_has_the_room_it_wants_is_not_what_is_wrong() -> None:
    error = ContextLengthExceeded("", prompt=10, context=4096)
    assert room_for_answer(REQUEST, error) is None
