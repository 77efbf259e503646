"""What each caller may ask for, over a real socket: refusals, headers, and what is given back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from gateway.config.schema import (
    Auth,
    CallerSettings,
    Limits,
    ModelSettings,
    Queue,
    Scheduling,
    Server,
)
from tests.backends.fake_engine import Pause
from tests.e2e.house import CHAT, Answer, House, http_chat, opened, say, until
from tests.e2e.ollama import HELLO, ScriptedOllama

KEYS: Final = {
    name: f"sk-{name}-0123456789abcdefghij" for name in ("alice", "bob", "root", "picky")
}

CALLERS: Final = {
    "alice": CallerSettings(requests_per_minute=5, tokens_per_minute=10_000, max_tokens=3),
    "root": CallerSettings(admin=True),
    "picky": CallerSettings(models=("small",), requests_at_once=1),
}


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@asynccontextmanager
async def house_of(engine: ScriptedOllama | None = None, **tables: Any) -> AsyncIterator[House]:
    usual = {
        "auth": Auth(keys=KEYS),
        "callers": CALLERS,
        "models": {"small": ModelSettings(target="default")},
    }
    async with opened(engine, **{**usual, **tables}) as house:
        yield house


def allowance(answer: Answer, what: str) -> tuple[int, int]:
    """What of it there is in all, and what is left."""
    headers = answer.headers
    limit, left = headers[f"x-ratelimit-limit-{what}"], headers[f"x-ratelimit-remaining-{what}"]
    return int(limit), int(left)


async def test_every_answer_to_a_limited_caller_says_what_is_left_and_none_to_another() -> None:
    async with house_of() as house:
        answers = [
            await house.chat(say("hi"), key("alice")),
            await house.chat(say("hi", stream=True), key("alice")),
            await house.get("/v1/models", key("alice")),
            await house.chat({"model": "default"}, key("alice")),
            await house.get("/nowhere", key("alice")),
        ]
        assert [answer.status for answer in answers] == [200, 200, 200, 422, 404]
        assert [allowance(answer, "requests") for answer in answers] == [
            (5, 4), (5, 3), (5, 3), (5, 3), (5, 3),
        ]  # fmt: skip
        for answer in answers:
            assert allowance(answer, "tokens")[0] == 10_000
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
            assert not [name for name in answer.headers if name.startswith("anthropic-")]
        for other in (await house.chat(say("hi"), key("bob")), await house.get("/health")):
            assert not [name for name in other.headers if "ratelimit" in name]


def openai_kind(document: Any) -> tuple[str, str]:
    return document["error"]["type"], document["error"]["code"]


def anthropic_kind(document: Any) -> tuple[str, str]:
    return document["error"]["type"], document["error"]["details"]["error_code"]


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, say("hi"), openai_kind),
        ("/v1/responses", {"model": "default", "input": "hi"}, openai_kind),
        ("/v1/messages", say("hi", max_tokens=5), anthropic_kind),
    ],
    ids=["chat", "responses", "messages"],
)
async def test_who_has_had_enough_is_told_so_in_its_own_words_and_when_to_come_back(
    path: str, body: dict[str, Any], kind: Callable[[Any], tuple[str, str]]
) -> None:
    async with house_of() as house:
        for _ in range(5):
            assert (await house.chat(say("hi"), key("alice"))).status == 200
        refused = await house.post(json.dumps(body).encode(), key("alice"), path=path)
        assert refused.status == 429
        assert kind(refused.document) == ("rate_limit_error", "rate_limit_exceeded")
        assert refused.headers["Retry-After"] == "12"
        assert 11_000 < int(refused.headers["retry-after-ms"]) <= 12_000
        assert refused.headers["x-should-retry"] == "true"
        assert allowance(refused, "requests") == (5, 0)
        to_anthropic = "anthropic-ratelimit-requests-reset" in refused.headers
        assert to_anthropic == (path == "/v1/messages")
        metrics = await house.metrics()
        assert metrics['gateway_rejected_total{reason="requests_per_minute"}'] == 1
        assert metrics['gateway_caller_requests_total{caller="alice",outcome="refused"}'] == 1
        assert metrics['gateway_caller_requests_total{caller="alice",outcome="completed"}'] == 5


async def test_a_dry_run_says_so_too_and_takes_nothing() -> None:
    async with house_of() as house:
        for _ in range(10):
            assert (await house.forecast(say("hi"), key("alice")))["accepted"]
        for _ in range(5):
            await house.chat(say("hi"), key("alice"))
        forecast = await house.forecast(say("hi"), key("alice"))
        assert (forecast["accepted"], forecast["code"]) == (False, "rate_limit_exceeded")
        assert 11_000 < forecast["retry_after_ms"] <= 12_000


async def test_a_day_that_is_used_up_tells_sdks_not_to_try_again() -> None:
    callers = {"alice": CallerSettings(tokens_per_day=1)}
    async with house_of(callers=callers) as house:
        assert (await house.chat(say("hi"), key("alice"))).status == 200
        refused = await house.chat(say("hi"), key("alice"))
        assert refused.status == 429
        assert refused.headers["x-should-retry"] == "false" or (
            int(refused.headers["Retry-After"]) <= 120  # Midnight is near.
        )
        assert allowance(refused, "tokens") == (1, 0)


async def test_a_longer_answer_than_a_caller_may_have_is_cut() -> None:
    async with house_of() as house:
        answer = await house.chat(say("one two three four five six"), key("alice"))
        [choice] = answer.document["choices"]
        assert choice["finish_reason"] == "length"
        assert answer.document["usage"]["completion_tokens"] == 3


async def test_a_model_that_is_not_for_a_caller_is_nowhere_to_be_had_or_seen() -> None:
    async with house_of() as house:
        model = house.daemon.default_model

        async def refused(body: dict[str, Any], path: str) -> bool:
            answer = await house.post(json.dumps(body).encode(), key("picky"), path=path)
            return answer.status == 403 and b"model_not_allowed" in answer.body

        chat = {"messages": [{"role": "user", "content": "hi"}]}
        for name in ("default", model, f"{model}:latest", "invented"):
            assert await refused({"model": name, **chat}, CHAT)
            assert await refused({"model": name, **chat}, f"{CHAT}?dry_run=1")
            assert await refused({"model": name, "input": "hi"}, "/v1/embeddings")
            assert await refused({"model": name, **chat}, f"{CHAT}/input_tokens")
            assert await refused({"model": name, "content": "hi"}, "/tokenize")
            assert await refused({"model": name, "tokens": [1]}, "/detokenize")
            for path in ("/api/show", "/api/chat"):
                body = json.dumps({"model": name, "messages": chat["messages"]}).encode()
                answer = await house.post(body, key("picky"), path=path)
                assert (answer.status, set(answer.document)) == (403, {"error"})
            assert (await house.get(f"/v1/models/{name}", key("picky"))).status == 403
        assert (await house.chat({"model": "small", **chat}, key("picky"))).status == 200
        listed = (await house.get("/v1/models", key("picky"))).document
        assert [entry["id"] for entry in listed["data"]] == ["small"]
        tags = (await house.get("/api/tags", key("picky"))).document
        assert [entry["name"] for entry in tags["models"]] == ["small"]
        everything = (await house.get("/v1/models", key("bob"))).document
        assert {entry["id"] for entry in everything["data"]} == {model, "small"}


async def test_a_request_that_is_refused_for_overload_uses_up_nothing(
    engine: ScriptedOllama,
) -> None:
    pause = Pause()
    engine.play(pause, HELLO)
    callers = {"alice": CallerSettings(requests_per_minute=10, requests_at_once=2)}
    async with house_of(
        engine,
        callers=callers,
        queue=Queue(max_queue_size=0),
        scheduling=Scheduling(deadlines=False),
    ) as house:
        running = asyncio.create_task(house.chat(say("hi"), key("alice")))
        await until(lambda: house.daemon.service.active == 1)
        for _ in range(5):
            refused = await house.chat(say("hi"), key("alice"))
            assert (refused.status, refused.error["code"]) == (503, "queue_full")
            assert allowance(refused, "requests") == (10, 9)
        pause.go.set()
        await running
        house.assert_at_rest()


async def test_whoever_leaves_in_whatever_phase_makes_room_for_its_next(
    engine: ScriptedOllama,
) -> None:
    pause = Pause()
    engine.play(pause, HELLO)
    callers = {"alice": CallerSettings(requests_at_once=2)}
    rules = Scheduling(deadlines=False, rejoin=False)
    async with house_of(engine, callers=callers, scheduling=rules) as house:
        header = f"Authorization: Bearer {KEYS['alice']}"
        running = await house.send(http_chat(say("hi", stream=True), header))
        await until(lambda: house.daemon.service.active == 1)
        waiting = await house.send(http_chat(say("hi"), header))
        await until(lambda: house.daemon.queue.qsize() == 1)
        refused = await house.chat(say("hi"), key("alice"))
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after-ms"]) > 0
        for client in (waiting, running):
            client.writer.transport.abort()
        await until(lambda: house.daemon.service.active == 0)
        pause.go.set()
        assert (await house.chat(say("hi"), key("alice"))).status == 200
        usage = (await house.get("/v1/usage", key("alice"))).document
        assert usage["limits"]["requests_at_once"] == {"limit": 2, "remaining": 2, "reset_ms": 0}


# --- Wrong keys (A7) ------------------------------------------------------------------


WRONG: Final = {"Authorization": "Bearer sk-wrong"}


async def test_after_twenty_wrong_keys_the_next_has_to_wait_and_a_right_one_here_has_not() -> None:
    async with house_of() as house:
        statuses = [(await house.get("/v1/models", WRONG)).status for _ in range(20)]
        assert statuses == [401] * 20
        refused = await house.get("/v1/models", WRONG)
        assert (refused.status, refused.error["code"]) == (429, "auth_throttled")
        assert refused.error["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        assert refused.headers["x-should-retry"] == "false"
        # A forged name for who is behind a proxy opens no new account.
        forged = {**WRONG, "X-Forwarded-For": "192.0.2.9"}
        assert (await house.get("/v1/models", forged)).status == 429
        assert (await house.get("/v1/models", key("bob"))).status == 200
        assert (await house.get("/health")).status == 200
        assert (await house.metrics())['gateway_rejected_total{reason="auth_throttled"}'] == 2


async def test_from_another_address_a_right_key_has_to_wait_too_unless_it_was_used_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.web.middleware.address_of", lambda remote: "192.0.2.1")
    async with house_of(limits=Limits(wrong_keys_per_minute_max=2)) as house:
        assert (await house.get("/v1/models", key("alice"))).status == 200
        for _ in range(2):
            assert (await house.get("/v1/models", WRONG)).status == 401
        bob = await house.get("/v1/models", key("bob"))
        assert (bob.status, bob.error["code"]) == (429, "auth_throttled")
        assert (await house.get("/v1/models", key("alice"))).status == 200
        assert "caller" not in house.request_lines()[-2], "who it was is not said"


# --- Usage ----------------------------------------------------------------------------


async def test_usage_is_told_to_operators_and_to_each_caller_its_own() -> None:
    async with house_of(server=Server(local_admin=False)) as house:
        for name, count in (("alice", 2), ("bob", 3)):
            for _ in range(count):
                await house.chat(say("one two"), key(name))
        assert (await house.get("/gateway/usage", key("bob"))).status == 403
        shown = (await house.get("/gateway/usage?since=1d", key("root"))).document
        assert (shown["object"], shown["by"]) == ("gateway.usage", "caller")
        by_name = {entry.pop("name"): entry for entry in shown["data"]}
        assert by_name.keys() == {"alice", "bob"}
        assert by_name["bob"].pop("slot_seconds") >= 0.0
        assert by_name["bob"].pop("cached_tokens") <= 6
        assert by_name["bob"] == {
            "requests": 3,
            "refusals": 0,
            "failures": 0,
            "prompt_tokens": 6,
            "completion_tokens": 6,
        }
        [model] = (await house.get("/gateway/usage?by=model", key("root"))).document["data"]
        assert (model["name"], model["requests"]) == (house.daemon.default_model, 5)
        own = (await house.get("/v1/usage", key("alice"))).document
        assert (own["caller"], own["usage"]["requests"]) == ("alice", 2)
        assert own["limits"]["requests_per_minute"]["remaining"] == 3


@pytest.mark.parametrize(
    ("query", "param"), [("by=key", "by"), ("since=lately", "since"), ("since=", "since")]
)
async def test_a_wrong_question_about_usage_says_what_is_wrong(query: str, param: str) -> None:
    async with house_of() as house:
        answer = await house.get(f"/gateway/usage?{query}", key("root"))
        assert (answer.status, answer.error["param"]) == (422, param)
