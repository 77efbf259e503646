"""The scripted Ollama says what a real one (0.24) says, field for field."""

import asyncio
import math
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from bench import wire
from bench.dialects import ollama_generate
from bench.scripted_ollama import (
    DIMENSIONS,
    MODEL_NAMES,
    OllamaConnection,
    Script,
    State,
    answer_lines,
    as_chunk,
    message,
    response,
    script_of,
    vector,
)
from bench.wire import Ask, ask_once, connected, get, ollama_chat, post

LINE_FIELDS = ["model", "created_at", "message", "done"]
DONE_FIELDS = [
    *LINE_FIELDS,
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]

EMBED_FIELDS = ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
PATHS = ["/api/chat", "/api/generate", "/api/embed"]


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: OllamaConnection(state), wire.HOST, 0)
    async with server:
        listening: int = server.sockets[0].getsockname()[1]
        yield listening
        for connection in list(state.connections):
            connection.abort()


def chat(**fields: object) -> Ask:
    body = {"model": "tokens:8", "messages": [{"role": "user", "content": "Hello"}]} | fields
    return Ask(post("/api/chat", orjson.dumps(body)))


@pytest.mark.parametrize(
    ("model", "script"),
    [
        ("tokens:8", Script(8)),
        ("tokens:200-20ms", Script(200, pace_s=0.02)),
        ("tokens:2000x4096", Script(2000, token_bytes=4096)),
        ("tokens:3x9-1ms", Script(3, token_bytes=9, pace_s=0.001)),
        ("tokens:", None),
        ("llama3.2", None),
    ],
)
def test_a_models_name_says_what_it_will_say(model: str, script: Script | None) -> None:
    assert script_of(model) == script


def test_every_listed_model_is_scripted() -> None:
    assert all(map(script_of, MODEL_NAMES))


def test_tokens_are_as_long_as_ordered() -> None:
    assert {len(word) for word in Script(12, token_bytes=40).words} == {40}


def test_a_streams_lines_have_ollamas_fields_in_ollamas_order() -> None:
    *lines, last = map(orjson.loads, answer_lines("tokens:3", Script(3), 3, message))
    assert [list(line) for line in lines] == [LINE_FIELDS] * 3
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": word} for word in (" w0", " w1", " w2")
    ]
    assert [line["done"] for line in lines] == [False] * 3
    assert list(last) == DONE_FIELDS
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 3)


def test_a_text_that_is_continued_differs_from_a_chat_in_its_response_alone() -> None:
    chats = map(orjson.loads, answer_lines("tokens:3", Script(3), 3, message))
    for line, chat in zip(
        map(orjson.loads, answer_lines("tokens:3", Script(3), 3, response)), chats, strict=True
    ):
        names = ["response" if name == "message" else name for name in chat]
        assert list(line) == names
        assert line.pop("response") == chat.pop("message")["content"]
        assert line == chat


def test_the_durations_leave_no_hidden_wait() -> None:
    last = orjson.loads(answer_lines("tokens:8", Script(8), 8, message)[-1])
    parts = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
    assert 0 < last["total_duration"] - parts < 1_000_000


async def test_each_line_of_a_stream_is_a_chunk_of_its_own(port: int) -> None:
    exchange = await ask_once(port, ollama_chat("tokens:3", stream=True))
    lines = answer_lines("tokens:3", Script(3), 3, message)
    assert exchange.raw_body == b"".join(map(as_chunk, lines)) + b"0\r\n\r\n"
    assert b"application/x-ndjson" in exchange.head
    assert exchange.first_token_at is not None
    assert exchange.fault() is None


async def test_stream_is_the_default(port: int) -> None:
    exchange = await ask_once(port, chat())
    assert len(exchange.body.splitlines()) == 9


async def test_a_whole_answer_is_one_document_with_all_fields(port: int) -> None:
    exchange = await ask_once(port, ollama_chat("tokens:3", stream=False))
    assert exchange.fault() is None
    answer = orjson.loads(exchange.body)
    assert list(answer) == DONE_FIELDS
    assert answer["message"] == {"role": "assistant", "content": " w0 w1 w2"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_paced_answer_is_whole_too(port: int, stream: bool) -> None:
    exchange = await ask_once(port, ollama_chat("tokens:4-1ms", stream=stream))
    assert exchange.fault() is None


@pytest.mark.parametrize("stream", [True, False])
async def test_a_text_is_continued(port: int, stream: bool) -> None:
    exchange = await ask_once(port, ollama_generate("tokens:3", stream=stream))
    assert exchange.fault() is None
    assert len(exchange.body.splitlines()) == (4 if stream else 1)


async def test_each_text_has_a_vector_of_its_own(port: int) -> None:
    async def embedded(texts: object) -> list[list[float]]:
        body = orjson.dumps({"model": "tokens:8", "input": texts})
        answer = orjson.loads((await ask_once(port, Ask(post("/api/embed", body)))).body)
        assert list(answer) == EMBED_FIELDS
        vectors: list[list[float]] = answer["embeddings"]
        return vectors

    both = await embedded(["Hello", "Bye"])
    assert both == [vector("Hello"), vector("Bye")]
    assert await embedded("Bye") == both[1:]
    for one in both:
        assert len(one) == DIMENSIONS
        assert math.hypot(*one) == pytest.approx(1, abs=0.01)
    assert math.dist(*both) > 0.1


async def test_num_predict_cuts_an_answer_short(port: int) -> None:
    exchange = await ask_once(port, chat(options={"num_predict": 2}))
    last = orjson.loads(exchange.body.splitlines()[-1])
    assert (last["done_reason"], last["eval_count"]) == ("length", 2)


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_model_is_ollamas_404(port: int, path: str) -> None:
    exchange = await ask_once(port, Ask(post(path, b'{"model":"llama3.2"}')))
    assert exchange.status == 404
    assert orjson.loads(exchange.body) == {"error": "model 'llama3.2' not found"}


@pytest.mark.parametrize("path", PATHS)
async def test_a_broken_body_is_a_400(port: int, path: str) -> None:
    exchange = await ask_once(port, Ask(post(path, b"{")))
    assert exchange.status == 400
    assert list(orjson.loads(exchange.body)) == ["error"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_request_without_a_prompt_loads(port: int, path: str) -> None:
    exchange = await ask_once(port, Ask(post(path, b'{"model":"tokens:8","messages":[]}')))
    answer = orjson.loads(exchange.body)
    assert (answer["done"], answer["done_reason"]) == (True, "load")


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_models_are_listed_and_loaded(port: int, path: str) -> None:
    listed = orjson.loads((await ask_once(port, get(path))).body)["models"]
    assert [one["name"] for one in listed] == list(MODEL_NAMES)


async def test_loaded_models_say_their_context(port: int) -> None:
    listed = orjson.loads((await ask_once(port, get("/api/ps"))).body)["models"]
    assert {one["context_length"] for one in listed} == {4096}


async def test_a_model_can_be_shown(port: int) -> None:
    shown = orjson.loads((await ask_once(port, Ask(post("/api/show", b"{}")))).body)
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["model_info"]["llama.context_length"] == 8192


async def test_the_version_is_told(port: int) -> None:
    assert orjson.loads((await ask_once(port, get("/api/version"))).body) == {"version": "0.24.0"}


async def test_anything_else_is_not_found(port: int) -> None:
    assert (await ask_once(port, get("/v1/models"))).status == 404


async def test_a_connection_serves_one_request_after_the_other(port: int) -> None:
    async with connected(port) as connection:
        for _ in range(3):
            assert (await connection.exchange(ollama_chat("tokens:8", stream=True))).fault() is None


async def test_the_state_counts_what_was_asked_and_what_still_runs(port: int) -> None:
    async with connected(port) as connection:
        never = connection.start(ollama_chat("tokens:8-60000ms", stream=True))
        never.add_done_callback(wire.ignored)
        # The same connection's data arrives in order, another's need not: ask till it is there.
        async with connected(port) as other:
            state = orjson.loads((await other.exchange(get("/scripted/state"))).body)
    assert state == {"running": 1, "asked": 1}
