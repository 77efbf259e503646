"""Tokens counted, taken apart and put together, over a real socket."""

import asyncio
import json
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Generation, Limits, ModelSettings
from gateway.pool.asking import ASKED_MAX
from tests.e2e.house import CHAT, KEY, WITH_KEY, Answer, House, opened, say
from tests.e2e.ollama import ScriptedOllama, answer, done, line

CHAT_TOKENS: Final = "/v1/chat/completions/input_tokens"
MESSAGES_TOKENS: Final = "/v1/messages/count_tokens"
RESPONSES_TOKENS: Final = "/v1/responses/input_tokens"

WORDS: Final = "three little words"
TURNS: Final = [{"role": "user", "content": WORDS}]

COUNTED: Final[dict[str, dict[str, Any]]] = {
    CHAT_TOKENS: {"messages": TURNS},
    MESSAGES_TOKENS: {"messages": TURNS},
    RESPONSES_TOKENS: {"input": WORDS},
}
"""Three tokens to each; Anthropic's without the `max_tokens` that an answer needs."""

WHERE: Final = pytest.mark.parametrize("path", COUNTED)


async def ask(house: House, path: str, **body: Any) -> Answer:
    whole = {"model": "default", **body}
    return await house.post(json.dumps(whole).encode(), house.key_if_any, path=path)


@WHERE
async def test_a_prompt_is_counted_and_nothing_is_run(path: str) -> None:
    async with opened() as house:
        reply = await ask(house, path, **COUNTED[path])
        (request_line,) = house.request_lines()
        metrics = await house.metrics()
    named = {} if path == MESSAGES_TOKENS else {"object": "response.input_tokens"}
    assert (reply.status, reply.document) == (200, {"input_tokens": 3, **named})
    assert "x-gateway-estimated" not in reply.headers
    assert (request_line["route"], request_line["status"]) == (path, 200)
    assert metrics["gateway_requests_accepted_total"] == 0


@WHERE
async def test_the_count_is_that_of_the_answer(path: str) -> None:
    async with opened() as house:
        counted = await ask(house, path, **COUNTED[path])
        run = await house.chat(say(WORDS))
    assert counted.document["input_tokens"] == run.document["usage"]["prompt_tokens"]


async def test_what_an_alias_says_first_counts() -> None:
    models = {"brief": ModelSettings(target="default", system="Be brief.")}
    async with opened(models=models) as house:
        counted = await ask(house, CHAT_TOKENS, model="brief", messages=TURNS)
        run = await house.chat(say(WORDS, model="brief"))
    assert counted.document["input_tokens"] == run.document["usage"]["prompt_tokens"] == 5


@WHERE
async def test_where_the_engine_has_no_word_for_it_an_estimate_is_marked_as_one(
    path: str, engine: ScriptedOllama
) -> None:
    async with opened(engine) as house:
        before = await ask(house, path, **COUNTED[path])
        engine.by_default = (answer(line("x"), done(prompt_eval_count=30)),)
        for _ in range(8):
            assert (await house.chat(say(WORDS))).status == 200
        after = await ask(house, path, **COUNTED[path])
    for reply in (before, after):
        assert reply.status == 200
        assert reply.headers["x-gateway-estimated"] == "input_tokens"
        assert reply.document["estimated"] is True
    assert 5 < before.document["input_tokens"] < 15
    assert 20 < after.document["input_tokens"] < 35, "what it was told since"


async def test_a_text_is_taken_apart_and_put_together() -> None:
    async with opened() as house:
        for base in ("", "/v1"):
            found = (await ask(house, f"{base}/tokenize", content=WORDS)).document
            assert found["count"] == len(found["tokens"]) == 3
            assert found["max_model_len"] == 8192
            text = await ask(house, f"{base}/detokenize", tokens=found["tokens"])
            assert text.document == {"content": WORDS, "prompt": WORDS}
        pieces = await ask(house, "/tokenize", content=WORDS, with_pieces=True)
        strings = await ask(house, "/tokenize", prompt=WORDS, return_token_strs=True)
    told = [token["piece"] for token in pieces.document["tokens"]]
    assert told == strings.document["token_strs"] == ["three ", "little ", "words"]


async def test_no_tokens_are_made_up_where_the_engine_tells_of_none(
    engine: ScriptedOllama,
) -> None:
    async with opened(engine) as house:
        apart = await ask(house, "/tokenize", content=WORDS)
        together = await ask(house, "/detokenize", tokens=[1])
    for reply in (apart, together):
        assert (reply.status, reply.error["code"]) == (501, "not_supported")
        assert reply.headers["x-should-retry"] == "false"


# --- As everywhere -----------------------------------------------------------------------

ALL: Final[dict[str, dict[str, Any]]] = {
    **COUNTED,
    "/tokenize": {"content": WORDS},
    "/detokenize": {"tokens": []},
}
EVERYWHERE: Final = pytest.mark.parametrize("path", ALL)


def code_of(reply: Answer) -> str:
    """In either envelope."""
    error = reply.document["error"]
    return str(error["details"]["error_code"] if "details" in error else error["code"])


@EVERYWHERE
async def test_a_key_is_wanted(path: str) -> None:
    async with opened(auth=Auth(api_key=KEY)) as house:
        body = json.dumps({"model": "default", **ALL[path]}).encode()
        assert (await house.post(body, path=path)).status == 401
        assert (await house.post(body, WITH_KEY, path=path)).status == 200


@EVERYWHERE
async def test_a_model_that_nobody_has_is_not_found(path: str) -> None:
    async with opened() as house:
        reply = await ask(house, path, **ALL[path], model="other")
    assert (reply.status, code_of(reply)) == (404, "model_not_found")


@EVERYWHERE
async def test_what_has_no_effect_is_named_or_refused(path: str) -> None:
    async with opened() as house:
        reply = await ask(house, path, **ALL[path], foo=1)
        assert (reply.status, reply.headers["x-gateway-ignored-params"]) == (200, "foo")
    async with opened(generation=Generation(warm_up=False, strict_params=True)) as house:
        reply = await ask(house, path, **ALL[path], foo=1)
        assert (reply.status, code_of(reply)) == (400, "unsupported_parameter")
        assert (await ask(house, path, **ALL[path])).status == 200


@EVERYWHERE
async def test_a_body_has_its_bounds(path: str) -> None:
    async with opened(limits=Limits(body_bytes_max=1000)) as house:
        reply = await ask(house, path, foo="x" * 1000)
        assert (reply.status, code_of(reply)) == (413, "request_too_large")
        reply = await house.post(b"{", path=path)
        assert (reply.status, code_of(reply)) == (400, "invalid_json")
        reply = await house.post(b"{}", {"Content-Type": "text/plain"}, path=path)
        assert (reply.status, code_of(reply)) == (415, "unsupported_media_type")


async def test_too_many_at_once_are_told_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    async with opened() as house:
        count = house.echo.tokenizer.count

        async def slow(request: Any) -> int:
            await gate.wait()
            return await count(request)

        monkeypatch.setattr(house.echo.tokenizer, "count", slow)
        asking = [
            asyncio.create_task(ask(house, CHAT_TOKENS, messages=TURNS))
            for _ in range(ASKED_MAX + 1)
        ]
        first, *_ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = (task.result() for task in first)
        assert (refused.status, refused.error["code"]) == (503, "backend_overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert (await house.chat(say("hi"))).status == 200, "slots are another matter"
        gate.set()
        replies = await asyncio.gather(*asking)
        assert sorted(reply.status for reply in replies) == [200] * ASKED_MAX + [503]
        house.assert_at_rest()


async def test_what_is_counted_may_be_more_than_a_model_can_read() -> None:
    async with opened() as house:
        turns = [{"role": "user", "content": "word " * 10_000}]
        counted = await ask(house, CHAT_TOKENS, messages=turns)
        assert counted.document["input_tokens"] == 10_000
        run = await ask(house, CHAT, messages=turns)
    assert run.error["code"] == "context_length_exceeded"
