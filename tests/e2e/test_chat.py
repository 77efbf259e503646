"""Chat completions over a real socket: OpenAI's wire, streamed and whole."""

import asyncio
import json
import re
import time
from typing import Any, Final

import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Generation
from gateway.web import streams
from tests.backends.fake_engine import END, Pause, chunk, head
from tests.e2e.house import Answer, House, http_chat, opened, say
from tests.e2e.ollama import ScriptedOllama, answer, done, line
from tests.web.raw import HANG_S

TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 7}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def deltas(reply: Answer) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in reply.chunks for choice in chunk["choices"]]


# --- Whole ----------------------------------------------------------------------


async def test_a_whole_answer_is_openais() -> None:
    async with opened() as house:
        reply = await house.chat(say("tell me a story"))
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    document = reply.document
    assert document["object"] == "chat.completion"
    assert document["id"].startswith("chatcmpl-")
    assert document["model"] == "echo"
    assert document["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "tell me a story", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    usage = document["usage"]
    assert usage["prompt_tokens"] == 4
    assert usage["completion_tokens"] == 4
    assert usage["total_tokens"] == 8


async def test_three_choices_are_three_answers_with_one_prompt() -> None:
    async with opened() as house:
        document = (await house.chat(say("a b", n=3))).document
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in document["choices"]} == {"a b"}
    assert document["usage"]["prompt_tokens"] == 2
    assert document["usage"]["completion_tokens"] == 6


async def test_a_json_schema_is_kept() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    async with opened() as house:
        reply = await house.chat(say("a person", response_format=form))
    assert set(json.loads(reply.text)) == {"name", "age"}
    assert json.loads(reply.text)["age"] >= 7


async def test_a_tool_that_must_be_called_is_called() -> None:
    async with opened() as house:
        reply = await house.chat(say("Paris?", tools=[TOOL], tool_choice="required"))
    (choice,) = reply.document["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}


async def test_logprobs_are_given() -> None:
    async with opened() as house:
        reply = await house.chat(say("a b", logprobs=True, top_logprobs=1))
    content = reply.document["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a ", "b"]
    assert all(len(entry["top_logprobs"]) == 1 for entry in content)


async def test_a_token_limit_ends_the_answer() -> None:
    async with opened() as house:
        reply = await house.chat(say("one two three", max_completion_tokens=2))
    assert reply.text == "one two "
    assert reply.document["choices"][0]["finish_reason"] == "length"


async def test_what_the_engine_answers_is_what_the_caller_gets(engine: ScriptedOllama) -> None:
    engine.play(answer(line("bon"), line("jour"), done(prompt_eval_count=11, eval_count=2)))
    async with opened(engine) as house:
        reply = await house.chat(say("hi", model="m", temperature=0.5, max_tokens=9))
    assert reply.text == "bonjour"
    assert reply.document["usage"]["prompt_tokens"] == 11
    sent = json.loads(engine.requests[0].body)
    assert sent["model"] == "m:latest"
    assert sent["truncate"] is False
    assert sent["options"] == {"temperature": 0.5, "num_predict": 9}


# --- Streamed -------------------------------------------------------------------


@pytest.mark.parametrize("pace_s", [0.0, 0.001], ids=["burst", "paced"])
async def test_a_stream_is_openais(pace_s: float) -> None:
    async with opened() as house:
        house.echo.script = EchoScript(pace_s=pace_s)
        reply = await house.chat(
            say("tell me a", stream=True, stream_options={"include_usage": True})
        )
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["Cache-Control"] == "no-cache"
    chunks = reply.chunks
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    *answering, finishing, counting = chunks
    assert [chunk["choices"][0]["delta"] for chunk in answering] == [
        {"role": "assistant", "content": ""},
        {"content": "tell "},
        {"content": "me "},
        {"content": "a"},
    ]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in answering)
    assert finishing["choices"][0]["delta"] == {}
    assert finishing["choices"][0]["finish_reason"] == "stop"
    assert counting["choices"] == []
    assert counting["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None for chunk in [*answering, finishing])


async def test_a_stream_has_no_usage_unless_it_is_asked_for() -> None:
    async with opened() as house:
        reply = await house.chat(say("hi", stream=True))
    assert all("usage" not in chunk for chunk in reply.chunks)


async def test_ids_are_unique() -> None:
    async with opened() as house:
        ids = {(await house.chat(say("hi", stream=bool(i % 2)))).body[:60] for i in range(20)}
    assert len(ids) == 20


async def test_a_streamed_tool_call_opens_with_its_name_and_adds_up() -> None:
    async with opened() as house:
        reply = await house.chat(say("Paris?", tools=[TOOL], tool_choice="required", stream=True))
    calls = [call for delta in deltas(reply) for call in delta.get("tool_calls", ())]
    opening, *others = calls
    assert opening["id"]
    assert opening["type"] == "function"
    assert opening["function"] == {"name": "weather", "arguments": ""}
    assert all("id" not in call and set(call["function"]) == {"arguments"} for call in others)
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert set(json.loads(arguments)) == {"city"}
    assert reply.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_engines_own_tool_call_reaches_the_stream(engine: ScriptedOllama) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    engine.play(answer(line("", message=message), done()))
    async with opened(engine) as house:
        reply = await house.chat(say("Paris?", tools=[TOOL], stream=True))
    calls = [call for delta in deltas(reply) for call in delta.get("tool_calls", ())]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"city": "Paris"}
    assert reply.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_three_choices_are_streamed_one_after_the_other() -> None:
    async with opened() as house:
        reply = await house.chat(say("a b", n=3, stream=True))
    texts = ["", "", ""]
    for piece in reply.chunks:
        for choice in piece["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["a b"] * 3
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in reply.chunks]
    assert finishes.count("stop") == 3


async def test_reasoning_is_streamed_under_both_of_its_names(engine: ScriptedOllama) -> None:
    thought = {"role": "assistant", "content": "", "thinking": "hm"}
    engine.play(answer(line("", message=thought), line("42"), done()))
    async with opened(engine) as house:
        reply = await house.chat(say("6 x 7", stream=True, reasoning_effort="low"))
    assert {"reasoning_content": "hm", "reasoning": "hm"} in deltas(reply)
    assert reply.streamed_text == "42"
    assert json.loads(engine.requests[0].body)["think"] == "low"


async def test_comments_keep_a_slow_stream_alive(
    engine: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_INTERVAL_S", 0.02)
    slow = Pause()
    engine.play(head() + chunk(line("hel")), slow, chunk(line("lo") + done()) + END)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(say("hi", stream=True)))
        begun = await client.reader.readuntil(b": ping\n\n")
        slow.go.set()
        ended = await client.reader.readuntil(b"[DONE]\n\n")
    assert b'"content":"hel"' in begun
    assert b'"content":"lo"' in ended


async def test_one_connection_carries_one_request_after_the_other() -> None:
    async with opened() as house, asyncio.timeout(HANG_S):
        client = await house.connect()
        for _ in range(3):
            client.send(http_chat(say("hi")))
            assert (await client.some()).status == 200
            client.send(http_chat(say("hi", stream=True)))
            await client.reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_old_client_is_answered_without_chunks(stream: bool) -> None:
    asked = http_chat(say("hi", stream=stream)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    async with opened() as house:
        reply = await (await house.send(asked)).rest()
    top, _, body = reply.partition(b"\r\n\r\n")
    assert b" 200 OK\r\n" in top
    assert b"chunked" not in top.lower()
    assert body.endswith(b"data: [DONE]\n\n" if stream else b"}")


@pytest.mark.parametrize("moved_s", [-86_400.0, 86_400.0, -(10**9), 10**9])
async def test_the_wall_clock_may_jump(monkeypatch: pytest.MonkeyPatch, moved_s: float) -> None:
    async with opened() as house:
        house.echo.script = EchoScript(pace_s=0.001)
        before = time.time()
        monkeypatch.setattr(time, "time", lambda: before + moved_s)
        replies = [await house.chat(say("a b c", stream=stream)) for stream in (False, True)]
        exchanges = await house.told.wait(2)
    assert [reply.status for reply in replies] == [200, 200]
    assert all(0.0 <= exchange.total_s < HANG_S for exchange in exchanges)


# --- Parameters that can't be honoured ------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_what_nobody_honours_is_named(stream: bool) -> None:
    async with opened() as house:
        reply = await house.chat(
            say("hi", stream=stream, logit_bias={"1": 2}, store=True, invented=1)
        )
    assert reply.status == 200
    named = reply.headers["x-gateway-ignored-params"].split(", ")
    assert sorted(named) == ["invented", "logit_bias", "store"]


async def test_what_is_honoured_is_not_named() -> None:
    async with opened() as house:
        reply = await house.chat(say("hi", temperature=0.1, seed=3, stop=["x"], max_tokens=5))
    assert "x-gateway-ignored-params" not in reply.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_strict_parameters_are_refused(stream: bool) -> None:
    async with opened(generation=Generation(strict_params=True, warm_up=False)) as house:
        reply = await house.chat(say("hi", stream=stream, logit_bias={"1": 2}))
        assert (await house.chat(say("hi"))).status == 200
    assert reply.status == 400
    assert reply.error["code"] == "unsupported_parameter"
    assert reply.error["param"] == "logit_bias"


# --- What every answer carries ---------------------------------------------------


async def answers_of(house: House, headers: dict[str, str]) -> list[Answer]:
    """One of each kind."""
    return [
        await house.chat(say("hi"), headers),
        await house.chat(say("hi", stream=True), headers),
        await house.chat(say("hi", model="nope"), headers),
        await house.post(b"{", headers),
        await house.get("/v1/models", headers),
        await house.get("/health", headers),
        await house.get("/ready", headers),
        await house.get("/metrics", headers),
        await house.get("/nowhere", headers),
        await house.ask("DELETE", "/health", headers=headers),
    ]


async def test_every_answer_says_who_it_is_and_how_long_it_took() -> None:
    async with opened() as house:
        replies = await answers_of(house, {"x-request-id": "Order-66_b.c"})
    assert [reply.status for reply in replies] == [200, 200, 404, 400, 200, 200, 200, 200, 404, 405]
    for reply in replies:
        headers = reply.headers
        assert headers["x-request-id"] == "Order-66_b.c"
        assert re.fullmatch(r"\d+", headers["openai-processing-ms"])
        assert re.fullmatch(r"\d+", headers["x-gateway-queue-ms"])
        assert re.fullmatch(r"queue;dur=[\d.]+, total;dur=[\d.]+", headers["Server-Timing"])
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers.getall("Server") == ["gateway"]


@pytest.mark.parametrize("odd", ["", "a b", 'a"b', "x" * 65, "é", "a/../b", "{}"])
async def test_an_odd_request_id_is_replaced(odd: str) -> None:
    async with opened() as house:
        first, second = [await house.get("/health", {"x-request-id": odd}) for _ in range(2)]
    ids = [reply.headers["x-request-id"] for reply in (first, second)]
    assert all(re.fullmatch(r"[0-9a-f]{20}", id) for id in ids)
    assert len(set(ids)) == 2


# --- Models ----------------------------------------------------------------------


async def test_the_default_model_has_a_name_of_its_own(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        by_default = await house.chat(say("hi"))
        by_name = await house.chat(say("hi", model="m"))
    assert by_default.document["model"] == by_name.document["model"] == "m"


async def test_models_are_listed_and_described(engine: ScriptedOllama) -> None:
    engine.models += ["family/other:7b"]
    async with opened(engine) as house:
        listing = (await house.get("/v1/models")).document
        one = (await house.get("/v1/models/m")).document
        slashed = (await house.get("/v1/models/family/other:7b")).document
        missing = await house.get("/v1/models/none")
    assert listing["object"] == "list"
    assert [card["id"] for card in listing["data"]] == ["m:latest", "family/other:7b"]
    assert all(card["object"] == "model" for card in listing["data"])
    assert one["context_length"] == 4096
    assert one["context_length_max"] == 8192
    assert slashed["id"] == "family/other:7b"
    assert missing.status == 404
    assert missing.error["code"] == "model_not_found"


async def test_a_model_that_was_just_installed_is_found(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        engine.models.append("new:latest")
        reply = await house.chat(say("hi", model="new"))
    assert reply.status == 200


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    async with opened() as house:
        reply = await house.chat(say("word " * 9000))
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"
    assert "9000" in reply.error["message"]
    assert "8192" in reply.error["message"]
