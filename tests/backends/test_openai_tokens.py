import json
from typing import Any

import attrs
import pytest

from gateway.backends.base import Probe
from gateway.backends.http import HttpClient
from gateway.backends.openai import OpenAIBackend
from gateway.backends.openai_tokens import LlamaCppTokenizer
from gateway.backends.tokenizing import Tokenizer
from gateway.config.schema import Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
    UpstreamBadResponse,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import GenerateRequest, Message, Prompt, Role, Tool
from gateway.core.tokens import Spelling, Tokens
from tests.backends.fake_engine import CLOSE, FakeEngine, Request, whole

CHAT = GenerateRequest(
    model="m", messages=(Message(Role.USER, "hi"),), tools=(Tool("f"),), max_tokens=9
)
TEXT = GenerateRequest(model="m", prompts=(Prompt("hi there"),))


@pytest.fixture
def backend(http: HttpClient, engine: FakeEngine, limits: Limits) -> OpenAIBackend:
    """A llama.cpp's server, as long as nobody says otherwise."""
    return OpenAIBackend(http=http, url=f"{engine.url}/v1", limits=limits, api_key="sk-own")


@pytest.fixture
async def vllm(backend: OpenAIBackend, engine: FakeEngine) -> Tokenizer:
    engine.play(answer({"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 99}]}))
    assert isinstance(await backend.probe(), Probe)
    engine.requests.clear()
    return backend.tokenizer


def answer(document: Any, status: int = 200) -> bytes:
    return whole(json.dumps(document).encode(), status)


def asked(request: Request) -> tuple[str, Any]:
    return request.target, json.loads(request.body)


# --- llama.cpp ---------------------------------------------------------------------


async def test_llama_cpp_counts_the_very_body_that_it_would_answer(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    engine.play(answer({"input_tokens": 32, "object": "response.input_tokens"}))
    assert await backend.tokenizer.count(CHAT) == 32
    engine.play(CLOSE)
    with pytest.raises(UpstreamDisconnected):
        async with backend.open(CHAT):
            pass
    counted, run = engine.requests
    assert (counted.method, counted.target) == ("POST", "/v1/chat/completions/input_tokens")
    assert counted.body == run.body
    assert counted.headers["authorization"] == "Bearer sk-own"
    assert counted.headers["content-type"] == "application/json"


async def test_what_is_counted_is_what_the_engine_is_sent(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    questions = attrs.evolve(
        backend.questions, prepare=lambda request: attrs.evolve(request, model="prepared")
    )
    engine.play(answer({"input_tokens": 1}))
    await LlamaCppTokenizer(questions).count(CHAT)
    assert asked(engine.requests[0])[1]["model"] == "prepared"


@pytest.mark.parametrize("add_special", [False, True])
@pytest.mark.parametrize("parse_special", [False, True])
async def test_llama_cpp_takes_a_text_apart(
    backend: OpenAIBackend, engine: FakeEngine, add_special: bool, parse_special: bool
) -> None:
    engine.play(answer({"tokens": [6004, 665]}))
    spelling = Spelling(add_special=add_special, parse_special=parse_special)
    assert await backend.tokenizer.tokenize(TEXT, spelling) == Tokens([6004, 665])
    target, body = asked(engine.requests[0])
    assert target == "/tokenize"
    assert (body["model"], body["content"]) == ("m", "hi there")
    assert (body["add_special"], body["parse_special"]) == (add_special, parse_special)
    assert body["with_pieces"] is False


async def test_a_part_of_a_character_is_told_as_bytes(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    pieces = [{"id": 6004, "piece": "hi"}, {"id": 17097, "piece": [32, 230]}]
    engine.play(answer({"tokens": pieces}))
    found = await backend.tokenizer.tokenize(TEXT, Spelling(pieces=True))
    assert found == Tokens([6004, 17097], ["hi", b" \xe6"])


async def test_llama_cpp_takes_a_conversation_apart_as_it_reads_one(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    engine.play(answer({"prompt": "<|im_start|>user\nhi"}))
    engine.play(answer({"tokens": [1, 2]}))
    found = await backend.tokenizer.tokenize(CHAT, Spelling(parse_special=False))
    assert found.ids == [1, 2]
    (first, template), (second, body) = map(asked, engine.requests)
    assert (first, second) == ("/apply-template", "/tokenize")
    assert template["messages"] == [{"role": "user", "content": "hi"}]
    assert template["tools"]
    assert body["content"] == "<|im_start|>user\nhi"
    assert body["add_special"] is body["parse_special"] is True


async def test_llama_cpp_puts_tokens_together(backend: OpenAIBackend, engine: FakeEngine) -> None:
    engine.play(answer({"content": "hi there"}))
    assert await backend.tokenizer.detokenize("m", (6004, 665)) == "hi there"
    assert asked(engine.requests[0]) == ("/detokenize", {"model": "m", "tokens": [6004, 665]})


# --- vLLM --------------------------------------------------------------------------


async def test_vllm_counts_what_makes_the_prompt(vllm: Tokenizer, engine: FakeEngine) -> None:
    engine.play(answer({"count": 5, "max_model_len": 99, "tokens": [1, 2, 3, 4, 5]}))
    assert await vllm.count(CHAT) == 5
    target, body = asked(engine.requests[0])
    assert target == "/tokenize"
    assert body.keys() == {"model", "messages", "tools"}


async def test_vllm_takes_texts_and_conversations_apart(
    vllm: Tokenizer, engine: FakeEngine
) -> None:
    plain = {"count": 2, "max_model_len": 99, "tokens": [1, 2]}
    engine.play(answer(plain))
    engine.play(answer(plain | {"token_strs": ["hi", "\u0120there"]}))
    assert await vllm.tokenize(TEXT, Spelling(add_special=True)) == Tokens([1, 2])
    found = await vllm.tokenize(CHAT, Spelling(pieces=True))
    assert found == Tokens([1, 2], ["hi", "\u0120there"])
    (_, text), (_, chat) = map(asked, engine.requests)
    assert text == {"model": "m", "prompt": "hi there", "add_special_tokens": True}
    assert chat["return_token_strs"] is True
    assert chat["messages"] == [{"role": "user", "content": "hi"}]


async def test_vllm_puts_tokens_together(vllm: Tokenizer, engine: FakeEngine) -> None:
    engine.play(answer({"prompt": "hi there"}))
    assert await vllm.detokenize("m", (1, 2)) == "hi there"
    assert asked(engine.requests[0]) == ("/detokenize", {"model": "m", "tokens": [1, 2]})


async def test_what_vllm_has_no_word_for_is_refused_unasked(
    vllm: Tokenizer, engine: FakeEngine
) -> None:
    with pytest.raises(BackendRefusedRequest) as caught:
        await vllm.tokenize(TEXT, Spelling(parse_special=False))
    assert caught.value.param == "parse_special"
    assert engine.requests == []


# --- What goes wrong -----------------------------------------------------------------

RANGE = "vector::_M_range_check: __n (which is 999999) >= this->size() (which is 49152)"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer({"error": {"message": "File Not Found"}}, 404), NotSupported),
        (answer({"detail": "Not Found"}, 404), NotSupported),
        (answer({}, 405), NotSupported),
        (answer({}, 501), NotSupported),
        (answer({"error": "Unexpected endpoint or method."}), NotSupported),
        (whole(b"<html>"), NotSupported),
        (whole(b"\xff"), NotSupported),
        (answer({"error": {"message": "The model `m` does not exist."}}, 404), ModelNotFound),
        (answer({"error": {"message": RANGE}}, 500), InvalidRequest),
        (answer({"error": {"message": "OverflowError: out of range"}}, 400), InvalidRequest),
        (
            answer({"error": {"message": "image input is not supported"}}, 500),
            BackendRefusedRequest,
        ),
        (answer({"error": {"message": "Loading model"}}, 503), UpstreamBusy),
        (answer({"error": {"message": "boom"}}, 500), UpstreamFailed),
        (answer({"input_tokens": 1, "content": "x" * 100_001}), UpstreamBadResponse),
        (CLOSE, UpstreamDisconnected),
    ],
)
async def test_what_an_engine_says_becomes_ours(
    backend: OpenAIBackend, engine: FakeEngine, reply: Any, error: type[GatewayError]
) -> None:
    engine.play(reply)
    with pytest.raises(error) as caught:
        await backend.tokenizer.detokenize("m", (999_999,))
    assert RANGE not in caught.value.message


@pytest.mark.parametrize("reuse", [False, True])
async def test_a_connection_is_kept_only_where_that_does_no_harm(
    http: HttpClient, engine: FakeEngine, limits: Limits, reuse: bool
) -> None:
    backend = OpenAIBackend(http=http, url=engine.url, limits=limits, reuse_connections=reuse)
    engine.play(answer({"input_tokens": 1}))
    await backend.tokenizer.count(CHAT)
    assert (engine.requests[0].headers.get("connection") == "close") is not reuse


async def test_a_long_answer_is_read_beside_the_loop(http: HttpClient, engine: FakeEngine) -> None:
    backend = OpenAIBackend(http=http, url=engine.url, limits=Limits())
    http._limits = Limits()
    engine.play(answer({"tokens": list(range(100_000))}))
    assert (await backend.tokenizer.tokenize(TEXT, Spelling())).ids == list(range(100_000))
