"""The whole gateway on its embedded model."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest
from openai import APIError, InternalServerError, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolParam,
)

from gateway.backends.llamacpp import available
from tests.real.clients import user
from tests.real.completing import Completing
from tests.real.conversation import COLORS, Conversation, streamed_call
from tests.real.embedding import Embedding, nearness
from tests.real.gateway_process import MODEL, GatewayProcess, Serve, serving
from tests.real.life import BUSY, Life, answer, assert_counters_add_up, begun, is_served
from tests.real.processes import free_port, is_alive, wait_until

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

TOOLS: Final[list[ChatCompletionToolParam]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 20},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "parameters": {
                "type": "object",
                "properties": {"zone": {"type": "string", "maxLength": 20}},
                "required": ["zone"],
                "additionalProperties": False,
            },
        },
    },
]

ARGUMENTS: Final = {"get_weather": {"city", "unit"}, "get_time": {"zone"}}
NAMED: Final[ChatCompletionToolChoiceOptionParam] = {
    "type": "function",
    "function": {"name": "get_time"},
}


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    if reason := available():
        pytest.skip(reason)

    @contextmanager
    def serve(**environment: str) -> Iterator[GatewayProcess]:
        # Where nobody listens, so that `auto` takes the embedded model.
        ollama = f"http://127.0.0.1:{free_port()}"
        directory = tmp_path_factory.mktemp("gateway")
        with serving(directory, OLLAMA_URL=ollama, **environment) as gateway:
            yield gateway

    return serve


class TestConversation(Conversation):
    context_length = 4096

    def test_a_reasoning_effort_that_means_nothing_here_is_named(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=COLORS, max_tokens=1, reasoning_effort="low"
        )
        assert raw.headers["x-gateway-ignored-params"] == "reasoning_effort"

    @pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
    def test_a_tool_is_called_on_demand(
        self, client: OpenAI, choice: ChatCompletionToolChoiceOptionParam
    ) -> None:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=user("What is the weather in Paris?"),
            tools=TOOLS,
            tool_choice=choice,
            parallel_tool_calls=False,
            max_tokens=200,
            temperature=0,
        )
        assert completion.choices[0].finish_reason == "tool_calls"
        (call,) = completion.choices[0].message.tool_calls or []
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        assert call.id
        assert choice == "required" or call.function.name == "get_time"
        assert set(json.loads(call.function.arguments)) == ARGUMENTS[call.function.name]

    @pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
    def test_a_tool_call_is_streamed(
        self, client: OpenAI, choice: ChatCompletionToolChoiceOptionParam
    ) -> None:
        with client.chat.completions.create(
            model=MODEL,
            messages=user("What is the weather in Paris?"),
            tools=TOOLS,
            tool_choice=choice,
            parallel_tool_calls=False,
            max_tokens=200,
            temperature=0,
            stream=True,
        ) as stream:
            chunks = list(stream)
        name, arguments = streamed_call(chunks)
        assert choice == "required" or name == "get_time"
        assert set(json.loads(arguments)) == ARGUMENTS[name]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


class TestCompleting(Completing):
    context_length = 4096

    def test_tokens_are_continued_as_their_text_would_be(self, client: OpenAI) -> None:
        france = [504, 3575, 282, 4649, 314]
        asked = client.completions.create(model=MODEL, prompt=france, max_tokens=2, temperature=0)
        assert asked.choices[0].text.startswith(" Paris")

    def test_a_suffix_is_named(self, client: OpenAI) -> None:
        raw = client.completions.with_raw_response.create(
            model=MODEL, prompt="a", suffix="b", max_tokens=1
        )
        assert raw.headers["x-gateway-ignored-params"] == "suffix"


class TestEmbedding(Embedding):
    context_length = 4096

    def test_tokens_have_the_vector_of_their_text(self, client: OpenAI) -> None:
        france = [504, 3575, 282, 4649, 314]
        of_tokens, as_well = client.embeddings.create(model=MODEL, input=[france, france]).data
        (of_text,) = client.embeddings.create(model=MODEL, input="The capital of France is").data
        assert nearness(of_tokens.embedding, of_text.embedding) > 0.999
        assert nearness(of_tokens.embedding, as_well.embedding) > 0.999

    def test_dimensions_are_named(self, client: OpenAI) -> None:
        raw = client.embeddings.with_raw_response.create(model=MODEL, input="a", dimensions=8)
        assert raw.headers["x-gateway-ignored-params"] == "dimensions"
        assert len(raw.parse().data[0].embedding) == 576


class TestLife(Life):
    slots = 4

    def test_a_killed_engine_breaks_its_answers_and_comes_back(
        self, gateway: GatewayProcess, client: OpenAI
    ) -> None:
        (engine,) = gateway.children
        with begun(client) as stream, ThreadPoolExecutor(max_workers=1) as threads:
            whole = threads.submit(answer, client, 1000)
            gateway.wait_for_metric(BUSY, 2)
            os.kill(engine, signal.SIGKILL)
            # An end without `[DONE]` and without an error would look like success.
            with pytest.raises(APIError) as midway:
                list(stream)
            with pytest.raises(InternalServerError) as failed:
                whole.result()
        assert midway.value.code == "backend_error"
        assert (failed.value.status_code, failed.value.code) == (502, "backend_error")
        assert gateway.get("/health").status == 200
        wait_until(lambda: is_served(client), "the engine to be back", 15.0)
        assert not is_alive(engine)
        assert_counters_add_up(gateway)

    def test_a_killed_gateway_leaves_no_engine_behind(self, serve: Serve) -> None:
        with serve() as gateway:
            (engine,) = gateway.children
            gateway.process.kill()
            gateway.process.wait()
            wait_until(lambda: not is_alive(engine), "the engine to end with its gateway")
