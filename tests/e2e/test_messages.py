"""Anthropic's messages over a real socket, as agents that speak nothing else send them."""

import asyncio
import json
from typing import Any, Final

import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth, Limits, Queue
from tests.backends.fake_engine import Pause, chunk, head
from tests.dialects.agent_body import TURNS, agent_body
from tests.dialects.anthropic_stream import Stream, decode
from tests.e2e.house import ANY_WAIT, KEY, Answer, House, http_post, opened, until
from tests.e2e.ollama import HELLO, ScriptedOllama, line
from tests.web.raw import HANG_S

PATH: Final = "/v1/messages"

TOOL: Final[dict[str, Any]] = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def say(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "default", "max_tokens": 64, "messages": messages, **fields}


async def post(house: House, body: Any, *, path: str = PATH, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.post(json.dumps(body).encode(), named, path=path)


def streamed(reply: Answer) -> Stream:
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream"
    return decode(reply.body)


def error_of(reply: Answer) -> dict[str, Any]:
    """What is in the envelope; fails when it is not Anthropic's."""
    document = reply.document
    assert document.keys() == {"type", "error", "request_id"}
    assert document["type"] == "error"
    assert document["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"type", "message", "details"}
    return error


# --- Answers --------------------------------------------------------------------------------


async def test_a_whole_answer_is_anthropics() -> None:
    async with opened() as house:
        reply = await post(house, say("tell me a story"))
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    document = reply.document
    assert document.pop("id").startswith("msg_")
    assert document == {
        "type": "message",
        "role": "assistant",
        "model": "echo",
        "content": [{"type": "text", "text": "tell me a story"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 4,
        },
    }


async def test_a_stream_says_what_the_whole_answer_says() -> None:
    async with opened() as house:
        whole = (await post(house, say("tell me a story"))).document
        stream = streamed(await post(house, say("tell me a story", stream=True)))
    assert stream.done
    assert stream.message.pop("id") != whole.pop("id")
    assert stream.message == whole


async def test_a_tool_that_must_be_called_is_called() -> None:
    body = say("hi", tools=[TOOL], tool_choice={"type": "tool", "name": "weather"})
    async with opened() as house:
        (block,) = (await post(house, body)).document["content"]
        stream = streamed(await post(house, {**body, "stream": True}))
    assert (block["type"], block["name"]) == ("tool_use", "weather")
    assert isinstance(block["input"]["city"], str)
    (call,) = stream.content
    assert json.loads(call["json"]) == block["input"]
    assert stream.message["stop_reason"] == "tool_use"


async def test_an_agent_is_served_as_it_comes() -> None:
    async with opened(auth=Auth(api_key=KEY)) as house:
        reply = await post(
            house,
            agent_body(),
            path=f"{PATH}?beta=true",
            x_api_key=KEY,
            Authorization=f"Bearer {KEY}",  # Some send both.
            anthropic_version="2023-06-01",
            anthropic_beta="context-management-2025-06-27,interleaved-thinking-2025-05-14",
            anthropic_dangerous_direct_browser_access="true",
            X_Stainless_Timeout="NOT_GIVEN",
        )
        (exchange,) = await house.told.wait(1)
    stream = streamed(reply)
    assert stream.done
    assert stream.texts("text", "text").startswith("<system-reminder>")
    assert set(reply.headers["x-gateway-ignored-params"].split(", ")) == {
        "tools.web_search_20250305",
        "metadata.user_id",
        "context_management",
        "some_future_field",
        "output_config.effort",
    }
    assert exchange.route == PATH
    assert exchange.record is not None


async def test_what_an_agent_sends_is_what_the_model_is_told(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        reply = await post(house, agent_body())
        assert streamed(reply).texts("text", "text") == "hello"
        # This Ollama's model can't reason: it is asked without, and the agent is told.
        assert "output_config.effort" in reply.headers["x-gateway-ignored-params"]
    (request,) = engine.requests
    told = json.loads(request.body)
    assert "think" not in told
    roles = [message["role"] for message in told["messages"]]
    assert roles == ["system", "user", *["assistant", "tool", "tool"] * TURNS]
    called = told["messages"][2]["tool_calls"]
    assert [call["function"]["name"] for call in called] == ["Read", "Bash"]
    assert called[0]["function"]["arguments"] == {"file_path": "/src/module_0.py", "limit": 200}
    assert [message["tool_name"] for message in told["messages"][3:5]] == ["Read", "Bash"]
    assert told["messages"][4]["content"].startswith("Error: Exit code 1")
    assert "cch=" not in request.body.decode()
    assert len(told["tools"]) == 12


async def test_what_would_become_of_it_can_be_asked() -> None:
    async with opened() as house:
        reply = await post(house, say("hi"), path=f"{PATH}?beta=true&dry_run=1")
    assert reply.status == 200
    assert "content" not in reply.document


# --- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "type", "code"),
    [
        ({}, 400, "invalid_request_error", "invalid_request"),
        (say("hi", model="nobody"), 404, "not_found_error", "model_not_found"),
        (say("x" * 5000), 413, "request_too_large", "request_too_large"),
        (say("hi " * 600), 400, "invalid_request_error", "context_length_exceeded"),
    ],
    ids=["no fit", "no model", "too large", "too long"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refusal_is_anthropics(
    body: dict[str, Any], status: int, type: str, code: str, stream: bool
) -> None:
    async with opened(limits=Limits(body_bytes_max=4096), scheduling=ANY_WAIT) as house:
        house.echo._context_length = 500
        reply = await post(house, {**body, "stream": stream})
    assert reply.status == status
    error = error_of(reply)
    assert (error["type"], error["details"]["error_code"]) == (type, code)
    if code == "context_length_exceeded":
        assert error["message"].startswith("prompt is too long")


async def test_what_never_reaches_the_dialect_is_refused_in_its_words() -> None:
    async with opened(auth=Auth(api_key=KEY)) as house:
        refused = {
            401: await post(house, say("hi")),
            404: await post(house, say("hi"), path=f"{PATH}/nothing", x_api_key=KEY),
            405: await house.get(PATH, {"x-api-key": KEY}),
            415: await house.ask("POST", PATH, headers={"x-api-key": KEY}, data=b"{}"),
        }
        both = await post(house, say("hi"), x_api_key=KEY, Authorization="Bearer sk-another")
    assert {status: reply.status for status, reply in refused.items()} == {
        status: status for status in refused
    }
    assert error_of(refused[401])["type"] == "authentication_error"
    assert error_of(refused[404])["type"] == "not_found_error"
    for reply in refused.values():
        error_of(reply)
    assert both.status == 401


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_one_too_many_is_told_to_come_back(engine: ScriptedOllama, stream: bool) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    queue = Queue(max_queue_size=1)
    async with opened(engine, queue=queue, scheduling=ANY_WAIT) as house, asyncio.timeout(HANG_S):
        body = json.dumps(say("hi")).encode()
        await house.send(http_post(body, path=PATH))
        await engine.wait_asked(1)
        await house.send(http_post(body, path=PATH))
        await until(lambda: house.daemon.queue.qsize() == 1)
        refused = await post(house, say("hi", stream=stream))
        hold.go.set()
        await house.told.wait(3)
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["x-should-retry"] == "true"
    error = error_of(refused)
    assert error["type"] == "overloaded_error"
    assert error["details"]["error_code"] == "queue_full"
    assert error["details"]["queue_position"] >= 1
    assert error["details"]["estimated_wait_ms"] >= 0


# --- Streams that break -----------------------------------------------------------------------


async def test_a_stream_that_breaks_never_looks_finished(engine: ScriptedOllama) -> None:
    engine.play(head() + chunk(line("hel")), Pause())
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_post(json.dumps(say("hi", stream=True)).encode(), path=PATH))
        await client.reader.readuntil(b'"text":"hel"')
        engine.leave()
        rest = await client.rest()
        (exchange,) = await house.told.wait(1)
    assert b"event: error" in rest
    assert b'"type":"api_error"' in rest
    assert b"message_stop" not in rest
    assert b"message_delta" not in rest
    assert exchange.code == "backend_error"


async def test_a_stream_that_breaks_within_a_call_never_looks_finished() -> None:
    async with opened() as house:
        house.echo.script = EchoScript(break_after=1)
        body = say("hi", tools=[TOOL], tool_choice={"type": "any"}, stream=True)
        stream = streamed(await post(house, body))
    assert stream.error is not None
    assert stream.error["error"]["details"]["error_code"] == "backend_error"
    assert stream.content[0]["type"] == "tool_use"
    assert not stream.done
