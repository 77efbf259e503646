"""Names that the operator gives to models, and what holds where callers do not say."""

import json
from typing import Any, Final

import pytest

from gateway.config.schema import Generation, ModelOptions, ModelSettings
from tests.e2e.house import CHAT, Body, opened, say
from tests.e2e.ollama import ScriptedOllama

ALIAS: Final = "gpt-4o-mini"
TERSE: Final = ModelSettings(target="default", max_tokens=3, system="Answer in one word.")
TOLD: Final = len(TERSE.system.split())
"""Tokens of that, to an engine to which a word is one."""


def sent(engine: ScriptedOllama) -> Any:
    """The last chat that the engine was asked for."""
    return json.loads(engine.requests[-1].body)


async def test_an_alias_answers_by_its_own_name_with_its_system_text_and_its_cap() -> None:
    async with opened(models={ALIAS: TERSE}) as house:
        reply = await house.chat(say("one two three four five", model=ALIAS))
        plain = await house.chat(say("one two three four five"))
        [line, _] = house.request_lines()
    document = reply.document
    assert document["model"] == ALIAS
    assert document["choices"][0]["message"]["content"].split() == ["one", "two", "three"]
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"]["prompt_tokens"] == 5 + TOLD
    assert line["model"] == "echo", "operators see what really ran"
    assert plain.document["model"] == "echo"
    assert plain.document["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 5,
        "total_tokens": 10,
    }


async def test_a_stream_of_an_alias_has_its_name_in_every_chunk() -> None:
    async with opened(models={ALIAS: TERSE}) as house:
        reply = await house.chat(say("one two three four", model=ALIAS, stream=True))
    assert reply.streamed_text.split() == ["one", "two", "three"]
    assert {chunk["model"] for chunk in reply.chunks} == {ALIAS}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (CHAT, say("one two three four", model=ALIAS), 4 + TOLD),
        ("/v1/completions", {"model": ALIAS, "prompt": "one two three four"}, 4),
        (
            "/v1/messages",
            {**say("one two three four", model=ALIAS, max_tokens=9), "system": "And kindly."},
            4 + TOLD + 2,
        ),
    ],
)
async def test_a_name_means_the_same_in_every_api(path: str, body: Body, told: int) -> None:
    async with opened(models={ALIAS: TERSE}) as house:
        reply = await house.post(json.dumps(body).encode(), path=path)
    assert reply.status == 200
    assert reply.document["model"] == ALIAS
    usage = reply.document["usage"]
    assert usage.get("completion_tokens", usage.get("output_tokens")) == TERSE.max_tokens
    assert usage.get("prompt_tokens", usage.get("input_tokens")) == told


async def test_a_dry_run_is_of_what_would_really_run() -> None:
    async with opened(models={ALIAS: TERSE}) as house:
        alias = await house.forecast(say("hi", model=ALIAS, max_tokens=2000))
        plain = await house.forecast(say("hi", max_tokens=2000))
    assert alias["estimated_service_ms"] < plain["estimated_service_ms"]


async def test_the_engine_is_asked_with_what_is_configured_where_the_caller_is_silent(
    engine: ScriptedOllama,
) -> None:
    settings = ModelSettings(
        target="m",
        num_ctx=1024,
        keep_alive="-1m",
        system="Be brief.",
        options=ModelOptions(temperature=0.1, top_k=5, stop=("###",)),
    )
    body = say("hi", model=ALIAS, temperature=1, keep_alive="1m", num_ctx=512, max_tokens=7)
    body["messages"].insert(0, {"role": "developer", "content": "Speak Latin."})
    async with opened(engine, models={ALIAS: settings}) as house:
        reply = await house.chat(body)
    assert reply.status == 200
    assert reply.headers["x-gateway-ignored-params"] == "num_ctx"
    asked = sent(engine)
    assert asked["model"] == "m:latest"
    assert asked["keep_alive"] == "1m"
    assert asked["options"] == {
        "temperature": 1,
        "top_k": 5,
        "stop": ["###"],
        "num_predict": 7,
        "num_ctx": 1024,
    }
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief.\n\nSpeak Latin."},
        {"role": "user", "content": "hi"},
    ]


async def test_a_pinned_context_holds_by_the_models_own_name_too(engine: ScriptedOllama) -> None:
    models = {ALIAS: ModelSettings(target="m", num_ctx=1024)}
    async with opened(engine, models=models) as house:
        reply = await house.chat(say("hi", model="m:latest"))
    assert sent(engine)["options"]["num_ctx"] == 1024
    assert "x-gateway-ignored-params" not in reply.headers


async def test_a_callers_other_context_is_refused_in_strict_mode(engine: ScriptedOllama) -> None:
    models = {ALIAS: ModelSettings(target="m", num_ctx=1024)}
    strict = Generation(warm_up=False, strict_params=True)
    async with opened(engine, models=models, generation=strict) as house:
        refused = await house.chat(say("hi", model=ALIAS, num_ctx=512))
        served = await house.chat(say("hi", model=ALIAS, num_ctx=1024))
    assert refused.status == 400
    assert refused.error["param"] == "num_ctx"
    assert served.status == 200


async def test_an_alias_is_listed_and_described_as_the_model_that_it_means(
    engine: ScriptedOllama,
) -> None:
    models = {ALIAS: ModelSettings(target="m"), "gone": ModelSettings(target="not-installed")}
    async with opened(engine, models=models) as house:
        listing = (await house.get("/v1/models")).document["data"]
        alias = (await house.get(f"/v1/models/{ALIAS}")).document
        model = (await house.get("/v1/models/m")).document
    assert [(card["id"], card.get("alias_of")) for card in listing] == [
        ("m:latest", None),
        (ALIAS, "m:latest"),
    ]
    assert {card["owned_by"] for card in listing} == {"library"}
    assert alias == {**model, "id": ALIAS, "display_name": ALIAS, "alias_of": "m:latest"}


async def test_an_alias_of_what_is_not_installed_is_a_404_that_says_so(
    engine: ScriptedOllama,
) -> None:
    models = {"gone": ModelSettings(target="not-installed")}
    async with opened(engine, models=models) as house:
        chat = await house.chat(say("hi", model="gone"))
        described = await house.get("/v1/models/gone")
    for reply in (chat, described):
        assert reply.status == 404
        assert reply.error["code"] == "model_not_found"
        assert reply.error["message"] == (
            "not-installed is not installed here, which is what this name stands for."
            " Models: m:latest."
        )
