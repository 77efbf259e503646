"""OpenAI's Responses API over real sockets: raw, and through openai-python as it is."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import openai
import pydantic
import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth, Generation
from tests.backends.fake_engine import RESET, Pause, chunk, head
from tests.dialects.responses_agent_body import agent_body
from tests.dialects.responses_stream import decode, said
from tests.e2e.house import KEY, Answer, House, opened
from tests.e2e.ollama import ScriptedOllama, answer, done, line
from tests.web.raw import HANG_S

RESPONSES: Final = "/v1/responses"
TOOL: Final[Any] = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
PATCH: Final[Any] = {"type": "custom", "name": "patch"}


class Person(pydantic.BaseModel):
    name: str
    age: int


@asynccontextmanager
async def client_of(house: House, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    options = {"api_key": KEY, "max_retries": 0, "timeout": HANG_S, **options}
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", **options) as client:
        yield client


async def respond(house: House, path: str = RESPONSES, **body: Any) -> Answer:
    document = {"model": "default", "input": "tell me a story", **body}
    return await house.post(json.dumps(document).encode(), path=path)


# --- On the wire -------------------------------------------------------------------------


async def test_a_response_is_whole_or_streamed_and_says_the_same() -> None:
    async with opened() as house:
        whole_answer = (await respond(house)).document
        streamed = await respond(house, stream=True)
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    seen = decode(streamed.body)
    assert said(seen.output[0]) == said(whole_answer["output"][0]) == "tell me a story"
    varying = {"id", "created_at", "output"}
    assert {k: v for k, v in seen.response.items() if k not in varying} == {
        k: v for k, v in whole_answer.items() if k not in varying
    }


async def test_a_stream_has_its_events_one_by_one() -> None:
    async with opened() as house:
        house.echo.script = EchoScript(pace_s=0.001)
        seen = decode((await respond(house, stream=True)).body)
    assert seen.kinds.count("response.output_text.delta") == 4
    assert seen.kinds[-1] == "response.completed"


async def test_what_an_agent_sends_is_answered() -> None:
    async with opened() as house:
        reply = await house.post(
            json.dumps(agent_body()).encode(),
            {"OpenAI-Beta": "responses=experimental", "session_id": "s-1", "originator": "agent"},
            path=f"{RESPONSES}?client_version=1.2.3",
        )
    assert reply.status == 200
    assert said(decode(reply.body).output[0]) == "Go on."
    named = reply.headers["x-gateway-ignored-params"].split(", ")
    assert {"tools.web_search", "client_metadata", "prompt_cache_key"} <= set(named)
    assert not {"input", "tools", "include", "store", "reasoning.summary"} & set(named)


async def test_strict_parameters_are_refused() -> None:
    strict = Generation(warm_up=False, strict_params=True)
    async with opened(generation=strict) as house:
        refused = await respond(house, tools=[{"type": "web_search"}], stream=True)
        taken = await respond(house, tools=[TOOL], store=False, include=[])
    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    assert "tools.web_search" in refused.error["message"]
    assert taken.status == 200


async def test_thoughts_of_an_engine_are_shown_as_asked(engine: ScriptedOllama) -> None:
    thoughts = [{"role": "assistant", "content": "", "thinking": piece} for piece in ("hm", "m")]
    lines = [*(line("", message=thought) for thought in thoughts), line("Hi"), done()]
    for _ in range(2):
        engine.play(answer(*lines))
    async with opened(engine) as house:
        plain = decode((await respond(house, stream=True)).body)
        summed = (await respond(house, reasoning={"summary": "auto"})).document
    assert [(item["type"], said(item)) for item in plain.output] == [
        ("reasoning", "hmm"),
        ("message", "Hi"),
    ]
    assert "response.reasoning_text.delta" in plain.kinds
    assert summed["output"][0]["summary"] == [{"type": "summary_text", "text": "hmm"}]


async def test_the_conversation_reaches_the_engine_as_messages(engine: ScriptedOllama) -> None:
    engine.play(answer(line("ok"), done()))
    async with opened(engine) as house:
        reply = await respond(
            house,
            instructions="be",
            input=[
                {"role": "user", "content": "hi"},
                {"type": "reasoning", "summary": [{"text": "hm"}]},
                {
                    "type": "function_call",
                    "call_id": "a",
                    "name": "weather",
                    "arguments": '{"city":"Oslo"}',
                },
                {"type": "function_call_output", "call_id": "a", "output": "sun"},
            ],
            tools=[TOOL, PATCH],
        )
    assert reply.status == 200
    asked = json.loads(engine.requests[-1].body)
    assert [(turn["role"], turn["content"]) for turn in asked["messages"]] == [
        ("system", "be"),
        ("user", "hi"),
        ("assistant", ""),
        ("tool", "sun"),
    ]
    assert asked["messages"][2]["thinking"] == "hm"
    assert asked["messages"][3]["tool_name"] == "weather"
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather", "patch"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ],
)
async def test_no_response_is_kept(method: str, path: str) -> None:
    async with opened() as house:
        reply = await house.ask(method, path)
    assert (reply.status, reply.error["code"]) == (404, "response_not_found")


# --- openai-python ---------------------------------------------------------------------------


async def test_openai_python_whole_and_streamed() -> None:
    async with opened(auth=Auth(api_key=KEY)) as house, client_of(house) as client:
        reply = await client.responses.create(model="default", input="tell me a story")
        assert reply.output_text == "tell me a story"
        assert reply.usage is not None
        assert reply.usage.total_tokens == 8

        async with client.responses.stream(model="default", input="tell me a story") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == "tell me a story"


async def test_openai_python_parses_a_schema_from_a_class() -> None:
    async with opened() as house, client_of(house) as client:
        reply = await client.responses.parse(model="default", input="x", text_format=Person)
        async with client.responses.stream(
            model="default", input="x", text_format=Person
        ) as stream:
            final = await stream.get_final_response()
    assert isinstance(reply.output_parsed, Person)
    assert isinstance(final.output_parsed, Person)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_openai_python_gets_a_call_and_gives_its_result(stream: bool) -> None:
    asked: Any = {
        "model": "default",
        "input": "Oslo?",
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
    }
    async with opened() as house, client_of(house) as client:
        if stream:
            async with client.responses.stream(**asked) as events:
                reply: Any = await events.get_final_response()
        else:
            reply = await client.responses.create(**asked)
        (call,) = reply.output
        assert (call.type, call.name) == ("function_call", "weather")
        assert set(json.loads(call.arguments)) == {"city"}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        again = await client.responses.create(
            model="default",
            input=[{"role": "user", "content": "Oslo?"}, call.model_dump(), result],
            tools=[TOOL],
        )
    assert again.output_text == "Oslo?"


async def test_openai_python_gets_a_custom_call() -> None:
    async with opened() as house, client_of(house) as client:
        stream = await client.responses.create(
            model="default", input="x", tools=[PATCH], tool_choice="required", stream=True
        )
        events = [event async for event in stream]
    last: Any = events[-1]
    (call,) = last.response.output
    assert call.type == "custom_tool_call"
    assert call.input == "".join(
        event.delta for event in events if event.type == "response.custom_tool_call_input.delta"
    )


async def test_openai_python_raises_when_a_stream_breaks(engine: ScriptedOllama) -> None:
    broken = Pause()
    engine.play(head() + chunk(line("hel")), broken, RESET)
    async with opened(engine) as house, client_of(house) as client:
        heard: list[str] = []

        async def listen() -> None:
            async for event in await client.responses.create(model="m", input="hi", stream=True):
                if event.type == "response.output_text.delta":
                    heard.append(event.delta)
                    broken.go.set()

        with pytest.raises(openai.APIError) as raised:
            await listen()
    assert "".join(heard) == "hel"
    assert raised.value.code == "backend_error"


async def test_openai_python_raises_what_is_refused() -> None:
    async with opened() as house, client_of(house) as client:
        with pytest.raises(openai.BadRequestError) as stateful:
            await client.responses.create(model="default", input="x", previous_response_id="resp_1")
        assert stateful.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_1")
        with pytest.raises(openai.BadRequestError) as long:
            await client.responses.create(model="default", input="word " * 9000)
        assert long.value.code == "context_length_exceeded"


async def test_a_stream_tells_in_itself_that_the_prompt_is_too_long() -> None:
    """Coding agents shorten their conversation at that event, and give up at a status."""
    async with opened() as house, client_of(house) as client:
        told = await respond(house, input="word " * 9000, stream=True)
        with pytest.raises(openai.APIError) as raised:
            async for _ in await client.responses.create(
                model="default", input="word " * 9000, stream=True
            ):
                pass
    assert told.status == 200
    records = [json.loads(each[6:]) for each in told.body.split(b"\n") if each[:6] == b"data: "]
    assert records[0]["type"] == "response.created"
    assert records[-1]["type"] == "response.failed"
    assert records[-1]["response"]["error"]["code"] == "context_length_exceeded"
    assert raised.value.code == "context_length_exceeded"
