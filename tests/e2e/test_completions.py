"""Texts that are continued, by the SDK that most callers use, against the whole gateway."""

import json
from typing import Any

import openai
import pytest

from gateway.backends.echo import EchoScript
from tests.e2e.house import House, opened
from tests.e2e.test_openai_python import client_of

PATH = "/v1/completions"


async def post(house: House, **body: Any) -> Any:
    return await house.post(json.dumps({"model": "default", **body}).encode(), path=PATH)


async def test_whole_and_streamed() -> None:
    async with opened() as house, client_of(house) as client:
        reply = await client.completions.create(model="default", prompt="tell me more")
        (choice,) = reply.choices
        assert (choice.text, choice.finish_reason, choice.index) == ("tell me more", "stop", 0)
        assert reply.usage is not None
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 3)

        house.echo.script = EchoScript(pace_s=0.001)
        stream = await client.completions.create(
            model="echo",
            prompt="tell me more",
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, last = [chunk async for chunk in stream]
        assert [chunk.choices[0].text for chunk in chunks] == ["tell ", "me ", "more", ""]
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.total_tokens == 6
        house.assert_at_rest()


async def test_every_prompt_has_all_its_answers_in_order() -> None:
    async with opened() as house, client_of(house) as client:
        texts = ["one", "two words"]
        asked: Any = {"model": "default", "prompt": texts, "n": 2, "echo": True}
        reply = await client.completions.create(**asked)
        expected = ["oneone", "oneone", "two wordstwo words", "two wordstwo words"]
        assert [choice.text for choice in reply.choices] == expected
        assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
        assert reply.usage is not None
        # A prompt counts once, however many answers it has.
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 6)

        pieces = [""] * 4
        async for chunk in await client.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                pieces[choice.index] += choice.text
        assert pieces == expected
        assert await house.told.wait(2)
        house.assert_at_rest()


async def test_tokens_and_logprobs() -> None:
    async with opened() as house, client_of(house) as client:
        reply = await client.completions.create(model="default", prompt=[[7, 1]], logprobs=1)
        (choice,) = reply.choices
        assert choice.text == "7 1"
        assert choice.logprobs is not None
        assert choice.logprobs.tokens == ["7 ", "1"]
        assert choice.logprobs.token_logprobs == [0.0, 0.0]
        assert choice.logprobs.top_logprobs == [{"7 ": 0.0}, {"1": 0.0}]
        assert choice.logprobs.text_offset == [0, 2]


async def test_the_best_of_several() -> None:
    async with opened() as house, client_of(house) as client:
        reply = await client.completions.create(model="default", prompt="one", best_of=3)
        (choice,) = reply.choices
        assert (choice.text, choice.logprobs) == ("one", None)
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 3


async def test_stop_and_length() -> None:
    async with opened() as house, client_of(house) as client:
        asked: Any = {"model": "default", "prompt": "one two three four"}
        cut = await client.completions.create(**asked, max_tokens=2)
        assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("one two ", "length")
        ended = await client.completions.create(**asked, stop=["three"])
        assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("one two ", "stop")


async def test_what_has_no_effect_is_named() -> None:
    async with opened() as house:
        answer = await post(house, prompt="a", suffix="b", user="u", made_up=1)
        assert answer.status == 200
        assert answer.headers["x-gateway-ignored-params"] == "user, made_up, suffix"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "x " * 9000}, "prompt"),
    ],
)
async def test_a_refusal_says_by_its_name_what_is_wrong(more: dict[str, Any], param: str) -> None:
    async with opened() as house, client_of(house) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.completions.create(model="default", **more)
        assert caught.value.status_code in (400, 422)
        assert caught.value.param == param


async def test_a_stream_that_breaks_never_looks_finished() -> None:
    async with opened() as house, client_of(house) as client:
        house.echo.script = EchoScript(break_after=2)
        asked: Any = {"prompt": "one two three", "stream": True}
        answer = await post(house, **asked)
        assert answer.broken["code"] == "backend_error"
        stream = await client.completions.create(model="default", **asked)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]


async def test_a_dry_run_prices_all_prompts() -> None:
    async with opened() as house:
        took = []
        for count in (1, 3):
            body = {"model": "default", "prompt": ["word " * 500] * count, "max_tokens": 1}
            answer = await house.post(json.dumps(body).encode(), path=f"{PATH}?dry_run=1")
            took.append(answer.document["estimated_service_ms"])
        assert took[1] > 2.5 * took[0]
