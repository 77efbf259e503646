"""What holds of every answer, whichever engine made it."""

import json
import re
from typing import Any, ClassVar, Final

import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.real.clients import curl, sdk, user
from tests.real.gateway_process import MODEL, GatewayProcess

COLORS: Final = user("Name three colors.")
STORY: Final = user("Tell me a long story.")

GREEDY: Final[dict[str, Any]] = {"temperature": 0, "seed": 1}

PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQ"
    "DwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

TRAIT: Final = {
    "type": "object",
    "properties": {
        "color": {"type": "string", "enum": ["red", "green", "blue"]},
        "warm": {"type": "boolean"},
        "year": {"type": "integer"},
    },
    "required": ["color", "warm", "year"],
    "additionalProperties": False,
}


def text_of(completion: ChatCompletion) -> str:
    text = completion.choices[0].message.content
    assert text
    return text


def streamed_text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def streamed_call(chunks: list[ChatCompletionChunk]) -> tuple[str, str]:
    """The name and the arguments of the one tool call in a stream."""
    first, *others = (
        piece
        for chunk in chunks
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or ()
    )
    assert first.id
    assert first.function is not None
    assert first.function.name
    assert all(piece.index == 0 and piece.id is None for piece in others)
    functions = [piece.function for piece in (first, *others) if piece.function is not None]
    return first.function.name, "".join(function.arguments or "" for function in functions)


def assert_adds_up(completion: ChatCompletion, max_tokens: int) -> None:
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens > 5
    assert 0 < usage.completion_tokens <= max_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


class Conversation:
    """To be inherited by the tests of an engine.

    Attributes:
        context_length: What the engine really allocates.
    """

    context_length: ClassVar[int]

    # --- curl ---------------------------------------------------------------

    def test_curl_gets_an_answer(self, gateway: GatewayProcess) -> None:
        answer = json.loads(
            curl(gateway, {"model": "default", "messages": COLORS, "max_tokens": 8})
        )
        assert answer["choices"][0]["message"]["content"].strip()
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]

    def test_curl_gets_a_stream(self, gateway: GatewayProcess) -> None:
        body = {"model": "default", "messages": COLORS, "max_tokens": 8, "stream": True}
        *records, end = curl(gateway, body).split("\n\n")
        assert end == ""
        assert records.pop() == "data: [DONE]"
        chunks = [json.loads(record.removeprefix("data: ")) for record in records]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks).strip()
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"

    # --- The SDK ------------------------------------------------------------

    def test_an_answer_says_what_it_took(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=COLORS,
            max_tokens=24,
            extra_headers={"x-request-id": "from-the-client"},
        )
        assert raw.headers["x-request-id"] == "from-the-client"
        assert re.fullmatch(r"queue;dur=[\d.]+, total;dur=[\d.]+", raw.headers["server-timing"])
        completion = raw.parse()
        assert completion.model == MODEL
        assert completion.choices[0].message.role == "assistant"
        assert text_of(completion).strip()
        assert_adds_up(completion, 24)

    async def test_a_stream_says_the_same_as_a_whole_answer(
        self, async_client: AsyncOpenAI
    ) -> None:
        whole = await async_client.chat.completions.create(
            model=MODEL, messages=COLORS, max_tokens=24, **GREEDY
        )
        chunks = []
        async with await async_client.chat.completions.create(
            model=MODEL, messages=COLORS, max_tokens=24, stream=True, **GREEDY
        ) as stream:
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401 (the SDK closes it with the block)
        assert streamed_text(chunks) == text_of(whole)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert reasons == [None] * (len(reasons) - 1) + [whole.choices[0].finish_reason]
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
        assert all(chunk.usage is None for chunk in chunks)

    def test_a_stream_ends_with_the_usage_that_was_asked_for(self, client: OpenAI) -> None:
        with client.chat.completions.create(
            model=MODEL,
            messages=COLORS,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            *earlier, last = list(stream)
        assert all(chunk.usage is None for chunk in earlier)
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.completion_tokens == 6
        assert last.usage.total_tokens == last.usage.prompt_tokens + 6

    def test_an_answer_is_no_longer_than_asked_for(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model=MODEL, messages=STORY, max_completion_tokens=5
        )
        assert completion.choices[0].finish_reason == "length"
        assert_adds_up(completion, 5)

    def test_the_same_seed_draws_the_same_answer(self, client: OpenAI) -> None:
        first, second = (
            text_of(
                client.chat.completions.create(
                    model=MODEL, messages=COLORS, max_tokens=12, **GREEDY
                )
            )
            for _ in range(2)
        )
        assert first == second

    def test_an_answer_stops_before_a_stop_sequence(self, client: OpenAI) -> None:
        def answer(stop: list[str] | None) -> ChatCompletion:
            return client.chat.completions.create(
                model=MODEL, messages=COLORS, max_tokens=24, stop=stop, temperature=0, seed=1
            )

        whole = text_of(answer(None))
        word = whole.split()[3]
        cut = answer([word])
        assert cut.choices[0].message.content == whole[: whole.index(word)]
        assert cut.choices[0].finish_reason == "stop"

    def test_every_token_comes_with_its_probability(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model=MODEL, messages=COLORS, max_tokens=6, logprobs=True, top_logprobs=2, **GREEDY
        )
        told = completion.choices[0].logprobs
        assert told is not None
        assert told.content is not None
        assert len(told.content) == 6
        assert "".join(token.token for token in told.content) == text_of(completion)
        for token in told.content:
            assert token.logprob <= 0.0
            assert bytes(token.bytes or ()).decode() == token.token
            best, second = token.top_logprobs
            # Ollama's penalties may make another one win than the most probable.
            assert best.logprob >= token.logprob
            assert best.logprob >= second.logprob

    def test_two_answers_come_in_one_reply(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(model=MODEL, messages=COLORS, max_tokens=4, n=2)
        assert [choice.index for choice in completion.choices] == [0, 1]
        assert all(choice.message.content for choice in completion.choices)
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 8

    # --- Shapes -------------------------------------------------------------

    def test_an_answer_fits_its_schema(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=user("Describe the color of the sky."),
            max_tokens=120,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "trait", "schema": TRAIT, "strict": True},
            },
            **GREEDY,
        )
        value = json.loads(text_of(completion))
        assert set(value) == {"color", "warm", "year"}
        assert value["color"] in ("red", "green", "blue")
        assert isinstance(value["warm"], bool)
        assert isinstance(value["year"], int)
        assert not isinstance(value["year"], bool)

    def test_an_answer_is_a_json_object_on_demand(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=user('Answer with this JSON and nothing else: {"color": "red"}'),
            max_tokens=120,
            response_format={"type": "json_object"},
            **GREEDY,
        )
        assert isinstance(json.loads(text_of(completion)), dict)

    # --- What can't be done --------------------------------------------------

    def test_an_unknown_parameter_is_named(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=COLORS, max_tokens=1, extra_body={"frobnicate": True}
        )
        assert raw.headers["x-gateway-ignored-params"] == "frobnicate"

    def test_a_wrong_key_opens_nothing(self, gateway: GatewayProcess) -> None:
        with sdk(gateway, api_key="sk-of-somebody-else") as stranger:
            for ask in (
                stranger.models.list,
                lambda: stranger.chat.completions.create(model=MODEL, messages=COLORS),
            ):
                with pytest.raises(AuthenticationError) as caught:
                    ask()
                assert caught.value.code == "invalid_api_key"

    def test_a_wrong_model_is_answered_with_those_that_there_are(self, client: OpenAI) -> None:
        with pytest.raises(NotFoundError, match=re.escape(MODEL)) as caught:
            client.chat.completions.create(model="gpt-4o", messages=COLORS)
        assert caught.value.code == "model_not_found"

    def test_too_long_a_prompt_is_refused_with_both_numbers(self, client: OpenAI) -> None:
        for stream in (False, True):
            with pytest.raises(BadRequestError) as caught:
                client.chat.completions.create(
                    model=MODEL, messages=user("word " * (self.context_length + 500)), stream=stream
                )
            assert caught.value.code == "context_length_exceeded"
            prompt, context = (
                int(number) for number in re.findall(r"\d+", caught.value.message)[-2:]
            )
            assert context == self.context_length
            assert prompt > context

    def test_an_image_is_refused_by_a_model_that_cannot_see(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="images") as caught:
            client.chat.completions.create(
                model=MODEL,
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {"type": "image_url", "image_url": {"url": PIXEL}},
                        ],
                    }
                ],
            )
        assert caught.value.code == "unsupported_by_model"

    # --- Models -------------------------------------------------------------

    def test_models_are_listed_with_the_context_that_they_really_have(self, client: OpenAI) -> None:
        (listed,) = (model for model in client.models.list() if model.id == MODEL)
        shown = client.models.retrieve(MODEL)
        for model in (listed, shown):
            assert model.object == "model"
            assert (model.model_extra or {})["context_length"] == self.context_length
        with pytest.raises(NotFoundError):
            client.models.retrieve("gpt-4o")
