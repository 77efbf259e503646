"""anthropic-python, as it is: against the embedded model, and against an engine that is scripted.

Answers are validated by the SDK's own types, strictly: what it would let pass elsewhere is an
error here.
"""

import time
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import anthropic
import pytest
from anthropic.types import content_block_param, message_create_params, tool_result_block_param
from anthropic.types.beta import beta_content_block_param
from anthropic.types.beta import message_create_params as beta_message_create_params
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

from tests.clients import scripted_engine as script
from tests.clients.conftest import TIMEOUT_S
from tests.clients.scripted_engine import ScriptedEngine
from tests.dialects.agent_body import agent_body
from tests.real.gateway_process import GatewayProcess

CLIENT = "anthropic-python"

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Oslo"]}},
        "required": ["city"],
    },
}


class Person(BaseModel):
    name: str
    age: int


def say(text: str, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 48, "messages": [{"role": "user", "content": text}], **more}


def sdk(gateway: GatewayProcess, key: str, **more: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=gateway.url,
        api_key=key,
        timeout=TIMEOUT_S,
        _strict_response_validation=True,
        **{"max_retries": 0, **more},
    )


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess, key: str) -> Iterator[anthropic.Anthropic]:
    with sdk(gateway, key) as client:
        yield client


@pytest.fixture
def puppet(scripted: GatewayProcess, key: str) -> Iterator[anthropic.Anthropic]:
    with sdk(scripted, key) as client:
        yield client


# --- A real model ------------------------------------------------------------------------


@pytest.mark.covers(CLIENT, "create")
def test_a_message_has_text_and_counts(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(model=model, **say("Say hello."))
    assert message.content[0].text
    assert 0 < message.usage.output_tokens <= 48
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 5
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message._request_id


@pytest.mark.covers(CLIENT, "stream")
def test_a_stream_adds_up_to_the_whole_message(client: anthropic.Anthropic, model: str) -> None:
    asked = {"model": model, **say("Count to five.", extra_body={"temperature": 0})}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    # The first guess of the stream is put right by its end; how much of it was kept differs.
    assert (
        final.usage.input_tokens + final.usage.cache_read_input_tokens
        == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    )


@pytest.mark.covers(CLIENT, "tools")
@pytest.mark.parametrize(
    "choice", [{"type": "tool", "name": "get_weather"}, {"type": "any"}], ids=["tool", "any"]
)
def test_a_tool_is_called_with_arguments_that_fit(
    client: anthropic.Anthropic, model: str, choice: Any
) -> None:
    asked = say("What is the weather in Oslo?", tools=[WEATHER], tool_choice=choice)
    message = client.messages.create(model=model, **asked)
    (call,) = message.content
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Oslo"})
    assert message.stop_reason == "tool_use"
    with client.messages.stream(model=model, **asked) as stream:
        (streamed,) = stream.get_final_message().content
    assert (streamed.name, streamed.input) == (call.name, call.input)

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny, 21 degrees"}
    turns = [
        *asked["messages"],
        message.to_param(),
        {"role": "user", "content": [result]},
    ]
    answer = client.messages.create(model=model, max_tokens=16, tools=[WEATHER], messages=turns)
    assert answer.content


@pytest.mark.covers(CLIENT, "parse")
def test_an_answer_fits_its_schema(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.parse(
        model=model, **say("Ada is 36. Her name and age, as JSON?"), output_format=Person
    )
    assert isinstance(answer.parsed_output, Person)


@pytest.mark.covers(CLIENT, "beta")
def test_the_beta_api_is_understood(client: anthropic.Anthropic, model: str) -> None:
    raw = client.beta.messages.with_raw_response.create(
        model=model,
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        metadata={"user_id": "u-1"},
        thinking={"type": "adaptive"},
        **say("Say hello."),
    )
    ignored = raw.headers["x-gateway-ignored-params"].split(", ")
    assert {"context_management", "metadata.user_id"} <= set(ignored)
    assert raw.parse().content


@pytest.mark.covers(CLIENT, "async stream")
async def test_async_works_alike(gateway: GatewayProcess, key: str, model: str) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key) as client,
        client.messages.stream(model=model, **say("Say hello.")) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        assert text == (await stream.get_final_message()).content[0].text


@pytest.mark.covers(CLIENT, "errors")
@pytest.mark.parametrize(
    ("more", "error", "code"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, "model_not_found"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request"),
        ({"thinking": {"type": "maybe"}}, anthropic.BadRequestError, "invalid_request"),
    ],
)
def test_a_refusal_is_the_sdks_own_exception(
    client: anthropic.Anthropic, model: str, more: Any, error: type[Exception], code: str
) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(**{"model": model, **say("hi"), **more})
    refused = caught.value
    assert isinstance(refused, anthropic.APIStatusError)
    assert refused.error_code == code
    assert refused.type in ("not_found_error", "invalid_request_error")
    assert refused.request_id
    assert refused.body["request_id"] == refused.request_id


@pytest.mark.covers(CLIENT, "keys")
def test_a_wrong_key_is_an_authentication_error(gateway: GatewayProcess) -> None:
    with sdk(gateway, "sk-wrong") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(model="default", **say("hi"))


# --- What no small model does by itself ---------------------------------------------------


@pytest.mark.covers(CLIENT, "thinking and parallel tools")
def test_thoughts_and_parallel_calls_go_there_and_back(
    puppet: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    deltas = [
        script.thought("Both"),
        script.thought(" cities."),
        script.text("Looking."),
        script.call(0, "get_weather", '{"city":"Oslo"}'),
        script.call(1, "get_weather", '{"city":"Bergen"}'),
    ]
    asked = say(
        "Oslo and Bergen?", tools=[WEATHER], thinking={"type": "enabled", "budget_tokens": 2000}
    )
    engine.answer(*deltas, reason="tool_calls")
    whole = puppet.messages.create(model=script.MODEL, **asked)
    engine.answer(*deltas, reason="tool_calls")
    with puppet.messages.stream(model=script.MODEL, **asked) as stream:
        names = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert "thinking" in names
    assert engine.asked[-1]["reasoning_effort"] == "low"
    for message in (whole, streamed):
        assert [block.type for block in message.content] == [
            "thinking",
            "text",
            "tool_use",
            "tool_use",
        ]
        assert message.content[0].thinking == "Both cities."
        assert message.content[0].signature
        assert [call.input["city"] for call in message.content[2:]] == ["Oslo", "Bergen"]
        assert message.stop_reason == "tool_use"

    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": "sunny", "is_error": False}
        for call in streamed.content[2:]
    ]
    turns = [*asked["messages"], streamed.to_param(), {"role": "user", "content": results}]
    assert puppet.messages.create(
        model=script.MODEL, max_tokens=16, tools=[WEATHER], messages=turns
    ).content
    _, called, *answered = engine.asked[-1]["messages"]
    assert called["reasoning_content"] == "Both cities."
    assert [call["id"] for call in called["tool_calls"]] == ["call_0", "call_1"]
    assert [result["tool_call_id"] for result in answered] == ["call_0", "call_1"]


@pytest.mark.covers(CLIENT, "broken stream")
def test_a_stream_that_breaks_raises(puppet: anthropic.Anthropic, engine: ScriptedEngine) -> None:
    engine.break_after(script.text("half an "), script.text("ans"))
    heard = []
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        puppet.messages.stream(model=script.MODEL, **say("hi")) as stream,
    ):
        heard += stream.text_stream
    assert "".join(heard) == "half an ans"
    assert caught.value.error_code == "backend_error"


@pytest.mark.covers(CLIENT, "retries")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_it_comes_back_when_it_was_told_to(
    scripted: GatewayProcess, engine: ScriptedEngine, key: str, stream: bool
) -> None:
    engine.be_busy(retry_after_s=2)
    asked = len(engine.asked)
    began = time.monotonic()
    with sdk(scripted, key, max_retries=1) as client:
        answer = client.messages.create(model=script.MODEL, stream=stream, **say("hi"))
        assert list(answer) if stream else answer.content[0].text == "Hello."
    assert time.monotonic() - began >= 2
    assert len(engine.asked) == asked + 2


@pytest.mark.covers(CLIENT, "retries")
def test_who_gives_up_is_told_that_it_is_overload(
    puppet: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    engine.be_busy(retry_after_s=2)
    with pytest.raises(anthropic.InternalServerError) as caught:
        puppet.messages.create(model=script.MODEL, **say("hi"))
    assert (caught.value.status_code, caught.value.type) == (503, "overloaded_error")
    assert caught.value.response.headers["retry-after"]


@pytest.mark.covers(CLIENT, "agent")
def test_a_whole_agents_request_is_answered(
    puppet: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    body = agent_body(model=script.MODEL, stream=False)
    message = puppet.post("/v1/messages?beta=true", body=body, cast_to=anthropic.types.Message)
    assert message.content[0].text == "Hello."
    assert [told["role"] for told in engine.asked[-1]["messages"]][:5] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]


# --- What the SDK documents, the gateway knows ------------------------------------------------


def test_every_documented_parameter_and_block_is_known(
    puppet: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    """One that is not would be named `messages.….x`, or refused as no type of block."""
    kinds = _kinds(content_block_param.ContentBlockParam)
    kinds |= _kinds(beta_content_block_param.BetaContentBlockParam)
    kinds |= _kinds(tool_result_block_param.Content)
    assert {"text", "tool_use", "container_upload", "compaction", "browser_state"} <= kinds
    for kind in kinds:
        with pytest.raises(anthropic.BadRequestError) as caught:
            puppet.post(
                "/v1/messages",
                cast_to=anthropic.types.Message,
                body={
                    "model": script.MODEL,
                    "max_tokens": 8,
                    "messages": [
                        {"role": "user", "content": [{"type": kind, "text": ""}, {"type": "?"}]}
                    ],
                },
            )
        assert caught.value.details is not None
        param = caught.value.body["error"]["details"]["param"]
        assert not param.endswith("content[0].type"), kind

    documented = {
        *message_create_params.MessageCreateParamsBase.__annotations__,
        *beta_message_create_params.MessageCreateParamsBase.__annotations__,
    }
    schema = puppet.get("/openapi.json", cast_to=object)
    body = schema["paths"]["/v1/messages"]["post"]["requestBody"]["content"]["application/json"]
    known = _resolved(schema, body["schema"])["properties"]
    assert documented <= set(known)


def _kinds(union: Any) -> set[str]:
    """The values of `type` in a union of TypedDicts; those of answers are left out."""
    found: set[str] = set()
    for member in filter(is_typeddict, get_args(union)):
        hint = get_type_hints(member)["type"]
        assert get_origin(hint) is Literal
        found.update(get_args(hint))
    return found


def _resolved(document: Any, schema: Any) -> Any:
    """The schema that is meant, where it is a reference."""
    while "$ref" in schema:
        target = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema
