"""LangChain: its standard integration tests as they are, and what they leave out.

Some of them want a model that chooses a tool, or copies a word, or knows what JSON to write,
which is more than a small one can. There the engine is scripted; the test is LangChain's own.

Skipped are images, audio and PDFs: the model reads text alone, and the tests would fetch what
they show it; that an image arrives is tested below. VCR is recorded traffic, and nothing of an API.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import httpx
import pytest
import tiktoken
from langchain_core.messages import AIMessage, BaseMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
)

from tests.clients import scripted_engine as script
from tests.clients.scripted_engine import Delta, ScriptedEngine
from tests.real.gateway_process import KEY, MODEL, GatewayProcess

CLIENT: Final = "langchain"

DOT: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
"""One pixel, as a PNG."""

JOKE: Final = script.text('{"setup": "Why?", "punchline": "Because."}')

SCRIPTS: Final[dict[str, Sequence[Delta]]] = {
    "test_agent_loop": [
        script.call(0, "get_weather", '{"location": "San Francisco, CA"}'),
        script.text("It's sunny."),
    ],
    "test_json_mode": [JOKE] * 4,
    "test_unicode_tool_call_integration": [
        script.call(0, "unicode_customer", '{"customer_name": "你好啊集团", "description": "AI"}'),
        script.call(0, "unicode_customer", '{"customer_name": "こんにちは", "description": "AI"}'),
    ],
}
"""The answers of the engine in those of the standard tests that need it."""


@pytest.mark.covers(CLIENT, "standard integration tests")
class TestChatOpenAI(ChatModelIntegrationTests):
    """Against the embedded model, where that can do it."""

    @pytest.fixture(autouse=True)
    def _at(self, request: pytest.FixtureRequest) -> None:
        answers = SCRIPTS.get(request.node.originalname, [])
        if answers:
            engine: ScriptedEngine = request.getfixturevalue("engine")
            for answer in answers:
                engine.answer(answer, reason="tool_calls" if "tool_calls" in answer else "stop")
        gateway = request.getfixturevalue("scripted" if answers else "gateway")
        self.url = f"{gateway.url}/v1"

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "default",
            "base_url": self.url,
            "api_key": KEY,
            "temperature": 0,
            # Without it a small model never ends a string.
            "frequency_penalty": 1,
            "max_tokens": 80,
            "stream_usage": True,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return MODEL


@pytest.mark.covers(CLIENT, "standard tests of embeddings")
class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _at(self, api: str) -> None:
        self.url = api

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": "default",
            "base_url": self.url,
            "api_key": KEY,
            "check_embedding_ctx_length": False,
        }


@pytest.mark.covers(CLIENT, "embeddings of token ids")
def test_token_ids_mean_what_their_text_means(
    gateway: GatewayProcess, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it counts the tokens itself, and sends ids; here they are the model's own."""

    class Encoding:
        def encode_ordinary(self, text: str) -> list[int]:
            headers = {"Authorization": f"Bearer {KEY}"}
            asked = {"model": MODEL, "content": text}
            answer = httpx.post(f"{gateway.url}/tokenize", headers=headers, json=asked)
            return answer.raise_for_status().json()["tokens"]

    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: Encoding())
    said = "The cat sat on the mat."
    of_ids = OpenAIEmbeddings(model=MODEL, base_url=api, api_key=KEY).embed_query(said)
    of_text = OpenAIEmbeddings(
        model=MODEL, base_url=api, api_key=KEY, check_embedding_ctx_length=False
    ).embed_query(said)
    other = OpenAIEmbeddings(
        model=MODEL, base_url=api, api_key=KEY, check_embedding_ctx_length=False
    ).embed_query("Interest rates rose again.")
    assert _cosine(of_ids, of_text) > 0.999 > _cosine(of_text, other)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


@pytest.mark.covers(CLIENT, "completions")
def test_a_completion_streams_what_it_says_whole(api: str) -> None:
    model = OpenAI(model=MODEL, base_url=api, api_key=KEY, temperature=0, max_tokens=12, seed=1)
    whole = model.invoke("One, two, three,")
    assert "four" in whole.lower()
    assert "".join(model.stream("One, two, three,")) == whole
    told = model.generate(["One, two, three,", "Red, green,"])
    assert [len(texts) for texts in told.generations] == [1, 1]
    assert told.llm_output["token_usage"]["completion_tokens"] <= 24


@pytest.mark.covers(CLIENT, "images")
def test_an_image_arrives_at_the_engine(scripted: GatewayProcess, engine: ScriptedEngine) -> None:
    model = ChatOpenAI(model=script.MODEL, base_url=f"{scripted.url}/v1", api_key=KEY)
    picture = {"type": "image", "base64": DOT, "mime_type": "image/png"}
    assert model.invoke([HumanMessage([{"type": "text", "text": "What?"}, picture])]).text
    *_, shown = engine.asked[-1]["messages"][-1]["content"]
    assert shown["image_url"]["url"] == f"data:image/png;base64,{DOT}"


# --- /v1/responses ---------------------------------------------------------------------------


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


def _responses(gateway: GatewayProcess, model: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=model,
        base_url=f"{gateway.url}/v1",
        api_key=KEY,
        use_responses_api=True,
        temperature=0,
        max_tokens=24,
    )


@pytest.mark.covers(CLIENT, "responses")
def test_a_response_streams_what_it_says_whole(gateway: GatewayProcess) -> None:
    model = _responses(gateway, MODEL)
    whole = model.invoke("Count to five.")
    assert isinstance(whole, AIMessage)
    assert whole.text
    assert whole.usage_metadata["output_tokens"] <= 24
    streamed: BaseMessageChunk | None = None
    for chunk in model.stream("Count to five."):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed.text == whole.text
    assert streamed.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


@pytest.mark.covers(CLIENT, "agent on responses")
def test_an_agent_calls_tools_and_tells_what_they_said(scripted: GatewayProcess) -> None:
    model = _responses(scripted, "calls").bind_tools([get_weather])
    turns: list[Any] = [("user", 'Weather? {"city": "Oslo"} {"city": "Rome"}')]
    called = model.invoke(turns)
    results = [get_weather.invoke(call) for call in called.tool_calls]
    assert all(isinstance(result, ToolMessage) for result in results)
    told = model.invoke([*turns, called, *results])
    assert told.text == "It is Rain in Oslo. and Rain in Rome."
