"""What holds of every text that is continued, whichever engine does it."""

from typing import Any, ClassVar, Final

import pytest
from openai import BadRequestError, OpenAI

from tests.real.gateway_process import MODEL

FRANCE: Final = "The capital of France is"
COUNTING: Final = "1, 2, 3, 4, 5,"
GREEDY: Final[dict[str, Any]] = {"model": MODEL, "temperature": 0, "seed": 1}


class Completing:
    """Tests of true completion, for an engine's test module to subclass.

    Attributes:
        context_length: Tokens that the engine has allocated.
    """

    context_length: ClassVar[int]

    def test_a_text_is_continued_where_it_ends(self, client: OpenAI) -> None:
        reply = client.completions.create(**GREEDY, prompt=FRANCE, max_tokens=2)
        (choice,) = reply.choices
        # A chat template around it would have made a sentence of its own.
        assert choice.text.startswith(" Paris")
        assert choice.finish_reason == "length"
        assert reply.usage is not None
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 2)

    def test_several_texts_are_streamed_one_after_the_other(self, client: OpenAI) -> None:
        with client.completions.create(
            **GREEDY,
            prompt=[FRANCE, COUNTING],
            echo=True,
            max_tokens=2,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
        texts = ["", ""]
        for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts[0].startswith(f"{FRANCE} Paris")
        assert texts[1] == f"{COUNTING} 6"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 4
        assert chunks[-1].usage.prompt_tokens > 10

    def test_tokens_come_with_logprobs_and_offsets(self, client: OpenAI) -> None:
        reply = client.completions.create(**GREEDY, prompt=FRANCE, max_tokens=3, logprobs=2)
        choice = reply.choices[0]
        told = choice.logprobs
        assert told is not None
        assert told.tokens is not None
        assert "".join(told.tokens) == choice.text
        assert told.text_offset is not None
        assert [choice.text[at:] for at in told.text_offset] == [
            "".join(told.tokens[index:]) for index in range(3)
        ]
        assert told.top_logprobs is not None
        assert told.token_logprobs is not None
        first = told.top_logprobs[0]
        assert len(first) == 2
        assert max(first, key=lambda token: first[token]) == " Paris"
        assert first[" Paris"] == told.token_logprobs[0]

    def test_the_best_of_several_is_the_likeliest(self, client: OpenAI) -> None:
        asked: Any = {"model": MODEL, "prompt": FRANCE, "max_tokens": 3, "seed": 7, "logprobs": 0}
        drawn = client.completions.create(**asked, n=4).choices
        best = client.completions.create(**asked, best_of=4).choices[0]

        def mean(choice: Any) -> float:
            logprobs: list[float] = choice.logprobs.token_logprobs
            return sum(logprobs) / len(logprobs)

        assert best.text == max(drawn, key=mean).text

    def test_a_stop_ends_it(self, client: OpenAI) -> None:
        asked: Any = {**GREEDY, "prompt": COUNTING, "max_tokens": 20}
        (choice,) = client.completions.create(**asked, stop=["8"]).choices
        assert (choice.text, choice.finish_reason) == (" 6, 7, ", "stop")

    def test_a_text_that_is_too_long_is_refused(self, client: OpenAI) -> None:
        prompt = "word " * (self.context_length + 500)
        with pytest.raises(BadRequestError) as caught:
            client.completions.create(model=MODEL, prompt=prompt, max_tokens=1)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
