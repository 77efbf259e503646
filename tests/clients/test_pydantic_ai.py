"""pydantic-ai, as it is: one agent on each of the APIs that it can speak."""

from collections.abc import Callable
from typing import Final, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, ModelSettings, NativeOutput, ThinkingPart, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.real.gateway_process import KEY, MODEL, GatewayProcess

CLIENT: Final = "pydantic-ai"

SETTINGS: Final = ModelSettings(max_tokens=64)


def chat(url: str, model: str) -> Model:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=f"{url}/v1", api_key=KEY))


def responses(url: str, model: str) -> Model:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=f"{url}/v1", api_key=KEY))


def messages(url: str, model: str) -> Model:
    return AnthropicModel(
        model,
        provider=AnthropicProvider(base_url=url, api_key=KEY),
        # It knows by their names which models can.
        profile={"supports_json_schema_output": True},
    )


def ollama(url: str, model: str) -> Model:
    return OllamaModel(model, provider=OllamaProvider(base_url=f"{url}/v1", api_key=KEY))


Connect = Callable[[str, str], Model]

EACH: Final = pytest.mark.parametrize(
    "connect", [chat, responses, messages, ollama], ids=lambda connect: connect.__name__
)


class Person(BaseModel):
    name: Literal["Ada", "Bob"]
    age: int


@pytest.mark.covers(CLIENT, "chat, responses, messages")
@EACH
async def test_an_answer_has_text_and_counts(gateway: GatewayProcess, connect: Connect) -> None:
    agent = Agent(connect(gateway.url, MODEL), instructions="Be brief.", model_settings=SETTINGS)
    told = await agent.run("Say hello.", model_settings=ModelSettings(max_tokens=12))
    assert told.output
    assert 0 < told.usage.output_tokens <= 12
    assert told.usage.input_tokens > 5


@pytest.mark.covers(CLIENT, "stream")
@EACH
async def test_a_stream_grows_into_the_answer(gateway: GatewayProcess, connect: Connect) -> None:
    agent = Agent(connect(gateway.url, MODEL))
    settings = ModelSettings(max_tokens=12)
    async with agent.run_stream("Say hello.", model_settings=settings) as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
        assert len(pieces) > 1
        assert "".join(pieces) == await streamed.get_output()
    assert 0 < streamed.usage.output_tokens <= 12


@pytest.mark.covers(CLIENT, "output types")
@pytest.mark.parametrize("kind", [ToolOutput, NativeOutput], ids=["tool", "native"])
@EACH
async def test_an_output_is_an_object_that_fits(
    gateway: GatewayProcess, connect: Connect, kind: type[ToolOutput] | type[NativeOutput]
) -> None:
    agent = Agent(
        connect(gateway.url, MODEL), output_type=kind(Person), retries=0, model_settings=SETTINGS
    )
    told = await agent.run("Ada is 36 years old.")
    assert isinstance(told.output, Person)


@pytest.mark.covers(CLIENT, "tools")
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@EACH
async def test_tools_are_run_and_their_results_told(
    scripted: GatewayProcess, connect: Connect, streams: bool
) -> None:
    agent = Agent(connect(scripted.url, "calls"))

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"rain in {city}"

    prompt = 'Weather? {"city": "Oslo"} {"city": "Rome"}'
    if streams:
        async with agent.run_stream(prompt) as streamed:
            told = await streamed.get_output()
    else:
        told = (await agent.run(prompt)).output
    assert told == "It is rain in Oslo and rain in Rome"


@pytest.mark.covers(CLIENT, "thinking")
@EACH
async def test_thoughts_are_told_apart(scripted: GatewayProcess, connect: Connect) -> None:
    # Of a response it shows summaries alone, and those are told to who asks for them.
    settings = OpenAIResponsesModelSettings(openai_reasoning_summary="auto")
    told = await Agent(connect(scripted.url, "thinks"), model_settings=settings).run("Hello?")
    assert told.output == "Forty-two."
    thoughts = [part for part in told.response.parts if isinstance(part, ThinkingPart)]
    assert "".join(part.content for part in thoughts) == "It was asked."


@pytest.mark.covers(CLIENT, "errors")
@EACH
async def test_a_refusal_has_its_status(gateway: GatewayProcess, connect: Connect) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(connect(gateway.url, "nobody")).run("Hello?")
    assert caught.value.status_code == 404


@pytest.mark.covers(CLIENT, "broken stream")
@EACH
async def test_a_stream_that_breaks_raises(scripted: GatewayProcess, connect: Connect) -> None:
    heard = []
    with pytest.raises(Exception, match="engine"):
        async with Agent(connect(scripted.url, "breaks")).run_stream("Hello?") as streamed:
            heard += [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
    # The first piece is taken before anything is handed on.
    assert "half an ans".startswith("".join(heard))
