"""Ollama's native API over a socket, on an engine that is none and on an Ollama."""

import json
from typing import Any, Final

import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth, Backend, CallerSettings, ModelSettings
from tests.backends.fake_engine import Pause
from tests.e2e import ollama
from tests.e2e.house import KEY, WITH_KEY, Answer, Body, House, opened, until
from tests.e2e.ollama import ScriptedOllama

CURL: Final = {"Content-Type": "application/x-www-form-urlencoded"}
"""What curl says of a body if it is told nothing."""

MANAGER: Final = {"anonymous": CallerSettings(manage_models=True)}


async def ask(house: House, path: str, body: Body, **headers: str) -> Answer:
    return await house.post(json.dumps(body).encode(), CURL | headers, path=path)


async def chat(house: House, text: str = "one two three", **fields: Any) -> Answer:
    messages = [{"role": "user", "content": text}]
    return await ask(house, "/api/chat", {"model": "default", "messages": messages, **fields})


async def generate(house: House, prompt: str = "one two three", **fields: Any) -> Answer:
    return await ask(house, "/api/generate", {"model": "default", "prompt": prompt, **fields})


def lines(answer: Answer) -> list[Any]:
    """Of a stream, or the one of an answer that is none."""
    return [json.loads(line) for line in answer.body.splitlines()]


def names(answer: Answer) -> list[str]:
    return [entry["name"] for entry in answer.document["models"]]


# --- Answers ----------------------------------------------------------------------------


async def test_a_chat_is_streamed_in_lines_of_which_the_last_is_done() -> None:
    async with opened() as house:
        answer = await chat(house)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        *said, end = lines(answer)
        assert "".join(line["message"]["content"] for line in said) == "one two three"
        assert not any(line["done"] for line in said)
        assert (end["done"], end["done_reason"], end["eval_count"]) == (True, "stop", 3)
        assert {line["model"] for line in lines(answer)} == {"echo"}
        house.assert_at_rest()


async def test_a_chat_may_be_wanted_whole() -> None:
    async with opened() as house:
        answer = await chat(house, stream=False, options={"num_predict": 2})
        assert answer.headers["Content-Type"] == "application/json"
        document = answer.document
        assert document["message"] == {"role": "assistant", "content": "one two "}
        assert (document["done"], document["done_reason"]) == (True, "length")


async def test_a_prompt_is_answered_or_continued() -> None:
    async with opened() as house:
        for fields in ({"system": "Be brief."}, {"raw": True}):
            *said, end = lines(await generate(house, **fields))
            assert "".join(line["response"] for line in said) == "one two three"
            assert (end["response"], end["done"]) == ("", True)


async def test_a_tool_is_called_with_an_object() -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    async with opened() as house:
        house.echo.script = EchoScript(calls_tool=True)
        for stream in (True, False):
            told = lines(await chat(house, tools=[tool], stream=stream))
            (call,) = [call for line in told for call in line["message"].get("tool_calls", [])]
            assert call["function"]["name"] == "get_weather"
            assert isinstance(call["function"]["arguments"]["city"], str)
            assert told[-1]["done"]


async def test_a_stream_that_breaks_ends_with_an_error_and_is_not_done() -> None:
    async with opened() as house:
        house.echo.script = EchoScript(pace_s=0.001, break_after=2)
        *said, broken = lines(await chat(house))
        assert said
        assert not any(line["done"] for line in said)
        assert set(broken) == {"error"}
        assert isinstance(broken["error"], str)


async def test_what_had_no_effect_is_named() -> None:
    async with opened() as house:
        answer = await chat(house, keep_alive=-1, options={"num_gpu": 1}, think=False, foo=1)
        named = answer.headers["x-gateway-ignored-params"].split(", ")
        assert set(named) == {"keep_alive", "options.num_gpu", "think", "foo"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/chat", b"{", 400),
        ("POST", "/api/chat", b'{"model": "default", "messages": 1}', 400),
        ("POST", "/api/generate", b'{"model": "nobody-has-this", "prompt": "x"}', 404),
        ("POST", "/api/generate", b"{}", 400),
        ("POST", "/api/show", b"{}", 400),
        ("POST", "/api/show", b'{"model": "nobody-has-this"}', 404),
        ("POST", "/api/show", b'{"model": "../etc/passwd"}', 400),
        ("GET", "/api/chat", None, 405),
        ("GET", "/api/experimental/model-recommendations", None, 404),
        ("POST", "/api/me", b"{}", 404),
    ],
)
async def test_a_refusal_is_a_sentence(
    method: str, path: str, body: bytes | None, status: int
) -> None:
    async with opened() as house:
        answer = await house.ask(method, path, data=body)
        assert answer.status == status
        assert set(answer.document) == {"error"}
        assert isinstance(answer.document["error"], str)


# --- Nothing asked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "empty"), [("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})]
)
async def test_an_empty_request_loads_the_model(
    engine: ScriptedOllama, path: str, empty: Body
) -> None:
    engine.loading = Pause()  # It has the model, but not in memory.
    engine.loading.go.set()
    async with opened(engine) as house:
        answer = await ask(house, path, {"model": "m", "keep_alive": "5m", **empty})
        assert (answer.document["done"], answer.document["done_reason"]) == (True, "load")
        assert answer.headers["x-gateway-ignored-params"] == "keep_alive"
        assert (engine.loads, engine.chats) == (1, 0)
        house.assert_at_rest()


async def test_no_client_throws_out_everybodys_model(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        answer = await ask(house, "/api/generate", {"model": "m", "keep_alive": 0})
        assert answer.status == 403
        assert "manage_models" in answer.document["error"]
        assert engine.loads == 0


async def test_who_manages_models_may_put_one_out_of_memory(engine: ScriptedOllama) -> None:
    async with opened(engine, callers=MANAGER) as house:
        body = {"model": "m", "messages": [], "keep_alive": "0s", "options": {"seed": 1}}
        answer = await ask(house, "/api/chat", body)
        assert (answer.status, answer.document["done_reason"]) == (200, "unload")
        assert answer.headers["x-gateway-ignored-params"] == "seed"
        assert engine.loads == 1  # It was asked, by way of the same URL.


async def test_an_engine_that_keeps_its_model_says_so() -> None:
    async with opened(callers=MANAGER) as house:
        answer = await ask(house, "/api/generate", {"model": "echo", "keep_alive": 0})
        assert answer.status == 501


# --- Who is there, and with which models -----------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_whether_anybody_is_there_is_told_to_everybody(method: str) -> None:
    async with opened(auth=Auth(api_key=KEY)) as house:
        answer = await house.ask(method, "/")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.body == (b"Ollama is running" if method == "GET" else b"")
        for path in ("/api/tags", "/api/ps", "/api/version"):
            assert (await house.get(path)).status == 401
            assert (await house.get(path, WITH_KEY)).status == 200


async def test_what_an_ollama_says_of_its_models_is_passed_on(engine: ScriptedOllama) -> None:
    engine.models = ["m:latest", "other:latest"]
    async with opened(engine) as house:
        tags = (await house.get("/api/tags")).document
        assert tags == {
            "models": [{"name": name, "model": name, "size": 1} for name in engine.models]
        }
        running = (await house.get("/api/ps")).document["models"]
        assert [entry["context_length"] for entry in running] == [4096, 4096]
        assert (await house.get("/api/version")).document == {"version": "0.24.0"}
        shown = await ask(house, "/api/show", {"name": "m", "verbose": True})
        assert shown.document["capabilities"] == ["completion", "tools"]


async def test_a_model_that_is_not_offered_is_not_told_of(engine: ScriptedOllama) -> None:
    engine.models = ["m:latest", "secret:latest"]
    backend = Backend(kind="ollama", url=engine.url, slots=1, models=("m",))
    async with opened(engine, backend=backend) as house:
        assert names(await house.get("/api/tags")) == ["m:latest"]
        assert names(await house.get("/api/ps")) == ["m:latest"]
        assert (await ask(house, "/api/show", {"model": "secret"})).status == 404


async def test_a_name_of_the_operators_own_is_a_model_too(engine: ScriptedOllama) -> None:
    models = {"gpt-4o": ModelSettings(target="m")}
    async with opened(engine, models=models) as house:
        assert names(await house.get("/api/tags")) == ["m:latest", "gpt-4o"]
        assert (await ask(house, "/api/show", {"model": "gpt-4o"})).status == 200
        engine.play(ollama.HELLO)
        assert lines(await chat(house, model="gpt-4o"))[-1]["model"] == "gpt-4o"


async def test_several_engines_are_one_to_ollamas_clients(engine: ScriptedOllama) -> None:
    async with ScriptedOllama(models=["m:latest", "more:latest"]) as second:
        upstreams = {
            "two": Backend(kind="ollama", url=second.url, slots=1),
            "three": Backend(kind="echo"),
        }
        async with opened(engine, upstreams=upstreams) as house:
            await until(lambda: all(each.up for each in house.daemon.pool.upstreams))
            for path in ("/api/tags", "/api/ps"):
                told = await house.get(path)
                assert names(told) == ["m:latest", "more:latest", "echo"]
                assert [entry["size"] for entry in told.document["models"]] == [1, 1, 0]


async def test_an_engine_that_is_no_ollama_is_told_of_in_the_same_form() -> None:
    async with opened() as house:
        (tag,) = (await house.get("/api/tags")).document["models"]
        (running,) = (await house.get("/api/ps")).document["models"]
        assert tag["name"] == running["name"] == "echo"
        assert tag["digest"] == running["digest"]
        shown = (await ask(house, "/api/show", {"model": "default"})).document
        assert "completion" in shown["capabilities"]
        version = (await house.get("/api/version")).document["version"]
        assert [part.isdigit() for part in version.split(".")] == [True] * 3
