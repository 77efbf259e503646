"""openai-python, as it is, against the embedded model."""

import asyncio
import json
from pathlib import Path

import pytest
from openai import (
    AsyncOpenAI,
    BadRequestError,
    NotFoundError,
    OpenAI,
    UnprocessableEntityError,
)
from pydantic import BaseModel

from tests.clients.conftest import GATEWAY_PYTHON
from tests.real.gateway_process import serving

CLIENT = "openai-python"


class City(BaseModel):
    name: str
    population: int


@pytest.fixture(scope="session")
def client(api: str, key: str) -> OpenAI:
    return OpenAI(base_url=api, api_key=key, timeout=120)


@pytest.mark.covers(CLIENT, "chat")
def test_chat_answers_with_text_and_counts(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=16,
        temperature=0,
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 16


@pytest.mark.covers(CLIENT, "chat stream")
def test_a_stream_says_what_the_whole_answer_says(client: OpenAI, model: str) -> None:
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Count to five."}],
        "max_tokens": 24,
        "temperature": 0,
        "seed": 1,
    }
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.covers(CLIENT, "tools")
def test_a_tool_is_called_with_arguments_that_fit(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
                        "required": ["city"],
                    },
                },
            }
        ],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
    )
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


@pytest.mark.covers(CLIENT, "chat.completions.parse")
def test_an_answer_is_parsed_into_a_model(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Paris has 2 million people. Name and population?"}],
        response_format=City,
        max_tokens=200,
        temperature=0,
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, City)
    assert parsed.name


@pytest.mark.covers(CLIENT, "async")
async def test_the_asynchronous_client_streams(api: str, key: str, model: str) -> None:
    async with AsyncOpenAI(base_url=api, api_key=key, timeout=120) as client:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Say hello."}],
            max_tokens=8,
            stream=True,
        )
        reasons = [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices]
    assert reasons[-1] in ("stop", "length")


@pytest.mark.covers(CLIENT, "completions")
def test_a_text_is_continued(client: OpenAI, model: str) -> None:
    asked = {"model": model, "prompt": "The capital of France is", "max_tokens": 4}
    whole = client.completions.create(**asked, temperature=0)
    assert "Paris" in whole.choices[0].text
    chunks = client.completions.create(**asked, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


@pytest.mark.covers(CLIENT, "embeddings")
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_what_means_the_same_is_near(client: OpenAI, model: str, options: dict[str, str]) -> None:
    """By itself the SDK asks for base64, and decodes it."""
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Stock markets fell sharply today.",
    ]
    found = client.embeddings.create(model=model, input=texts, **options)
    cat, kitten, stocks = (entry.embedding for entry in found.data)
    assert [entry.index for entry in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens > 0

    def near(one: list[float], other: list[float]) -> float:
        return sum(left * right for left, right in zip(one, other, strict=True))

    assert near(cat, cat) == pytest.approx(1.0, abs=1e-3)
    assert near(cat, kitten) > near(cat, stocks)


@pytest.mark.covers(CLIENT, "responses")
def test_a_response_says_what_its_stream_says(client: OpenAI, model: str) -> None:
    asked = {"model": model, "input": "Count to five.", "max_output_tokens": 24, "temperature": 0}
    whole = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    assert whole.output_text
    assert "".join(deltas) == final.output_text == whole.output_text
    assert final.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.covers(CLIENT, "responses.parse")
def test_a_response_is_parsed_into_a_model(client: OpenAI, model: str) -> None:
    found = client.responses.parse(
        model=model,
        input="Paris has 2 million people. Name and population?",
        text_format=City,
        temperature=0,
        max_output_tokens=200,
    )
    assert isinstance(found.output_parsed, City)


@pytest.mark.covers(CLIENT, "responses tools")
def test_a_response_calls_a_tool(client: OpenAI, model: str) -> None:
    found = client.responses.create(
        model=model,
        input="What is the weather in Paris?",
        tools=[
            {
                "type": "function",
                "name": "get_weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
                    "required": ["city"],
                },
            }
        ],
        tool_choice={"type": "function", "name": "get_weather"},
        temperature=0,
    )
    [call] = [item for item in found.output if item.type == "function_call"]
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")


@pytest.mark.covers(CLIENT, "models")
def test_the_models_can_be_listed(client: OpenAI, model: str) -> None:
    assert model in [entry.id for entry in client.models.list()]
    assert client.models.retrieve(model).id == model


@pytest.mark.covers(CLIENT, "errors")
def test_errors_have_their_own_classes(client: OpenAI, model: str) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="nobody-has-this", messages=hello)
    with pytest.raises(UnprocessableEntityError) as wrong:
        client.chat.completions.create(model=model, messages=hello, temperature=9)
    assert wrong.value.body["param"] == "temperature"
    with pytest.raises(BadRequestError) as long:
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "word " * 20_000}]
        )
    assert long.value.code == "context_length_exceeded"


@pytest.mark.covers(CLIENT, "retries")
async def test_who_is_refused_comes_back_and_is_served(
    key: str, model: str, tmp_path: Path
) -> None:
    """One slot and no queue: the second is told when to come back, and the SDK does."""
    environment = {
        "GATEWAY__BACKEND__KIND": "llamacpp",
        "GATEWAY__EMBEDDED__SLOTS": "1",
        "MAX_QUEUE_SIZE": "0",
    }
    with serving(tmp_path, python=GATEWAY_PYTHON, **environment) as gateway:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:

            async def ask(number: int) -> str:
                answer = await client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": f"Say the number {number}."}],
                    max_tokens=8,
                )
                return answer.choices[0].message.content

            answers = await asyncio.gather(*(ask(number) for number in range(4)))
        refused = gateway.metrics()
    assert all(answers)
    assert any(
        value > 0 for name, value in refused.items() if "queue_full" in name or "refused" in name
    )
