"""The SDK that most callers use, as it is, against the whole gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import openai
import pydantic
import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth
from gateway.core.errors import DeadlineUnmeetable, GatewayError, Promise, QueueFull
from tests.backends.fake_engine import RESET, Pause, chunk, head, whole
from tests.e2e.house import ANY_WAIT, KEY, House, opened, say
from tests.e2e.ollama import HELLO, ScriptedOllama, line
from tests.web.raw import HANG_S

HI: Final[Any] = [{"role": "user", "content": "tell me a story"}]
TOOL: Final[Any] = {
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


class Person(pydantic.BaseModel):
    name: str
    age: int


@asynccontextmanager
async def client_of(house: House, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    options = {"api_key": KEY, "max_retries": 0, "timeout": HANG_S, **options}
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", **options) as client:
        yield client


async def test_whole_and_streamed() -> None:
    async with opened(auth=Auth(api_key=KEY)) as house, client_of(house) as client:
        reply = await client.chat.completions.create(model="default", messages=HI)
        assert reply.choices[0].message.content == "tell me a story"
        assert reply.usage is not None
        assert reply.usage.total_tokens == 8
        assert reply._request_id

        house.echo.script = EchoScript(pace_s=0.001)
        stream = await client.chat.completions.create(
            model="echo", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "tell me a story"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 4


async def test_the_blocking_client() -> None:
    def talk(url: str) -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="default", messages=HI)
            stream = client.chat.completions.create(model="default", messages=HI, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            assert "echo" in [model.id for model in client.models.list()]
            assert client.models.retrieve("echo").id == "echo"
            return whole.choices[0].message.content, "".join(pieces)

    async with opened() as house:
        told = await asyncio.to_thread(talk, house.url)
    assert told == ("tell me a story", "tell me a story")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_tools(stream: bool) -> None:
    async with opened() as house, client_of(house) as client:
        if stream:
            async with client.chat.completions.stream(
                model="default", messages=HI, tools=[TOOL], tool_choice="required"
            ) as events:
                async for _ in events:
                    pass
                reply: Any = await events.get_final_completion()
        else:
            reply = await client.chat.completions.create(
                model="default", messages=HI, tools=[TOOL], tool_choice="required"
            )
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


async def test_a_schema_from_a_class() -> None:
    async with opened() as house, client_of(house) as client:
        reply = await client.chat.completions.parse(
            model="default", messages=HI, response_format=Person
        )
    assert isinstance(reply.choices[0].message.parsed, Person)


async def test_errors_have_their_own_classes() -> None:
    async with (
        opened(auth=Auth(api_key=KEY)) as house,
        client_of(house) as client,
        client_of(house, api_key="sk-wrong") as stranger,
    ):
        create = client.chat.completions.create
        with pytest.raises(openai.AuthenticationError) as unknown:
            await stranger.chat.completions.create(model="default", messages=HI)
        assert unknown.value.code == "invalid_api_key"
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="none", messages=HI)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.UnprocessableEntityError) as unfit:
            await create(model="default", messages=HI, temperature=9)
        assert (unfit.value.code, unfit.value.param) == ("invalid_request", "temperature")
        with pytest.raises(openai.BadRequestError) as long:
            await create(model="default", messages=say("word " * 9000)["messages"])
        assert long.value.code == "context_length_exceeded"


async def test_a_stream_that_breaks_raises(engine: ScriptedOllama) -> None:
    broken = Pause()
    engine.play(head() + chunk(line("hel")), broken, RESET)
    async with opened(engine) as house, client_of(house) as client:
        heard: list[str] = []

        async def listen() -> None:
            stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
            async for piece in stream:
                heard.append(piece.choices[0].delta.content or "")
                if heard[-1]:
                    broken.go.set()

        with pytest.raises(openai.APIError) as raised:
            await listen()
    assert "".join(heard) == "hel"
    assert raised.value.code == "backend_error"


@pytest.mark.slow
async def test_a_hundred_at_once_are_answered_or_refused_and_none_is_lost(
    engine: ScriptedOllama,
) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    async with (
        opened(engine, scheduling=ANY_WAIT) as house,
        client_of(house) as client,
        asyncio.timeout(HANG_S),
    ):

        async def ask(number: int) -> str:
            if number % 2:
                reply = await client.chat.completions.create(model="m", messages=HI)
                return reply.choices[0].message.content or ""
            stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
            return "".join([piece.choices[0].delta.content or "" async for piece in stream])

        asking = asyncio.gather(*map(ask, range(100)), return_exceptions=True)
        await house.told.wait(49)
        hold.go.set()
        results = await asking
        house.assert_at_rest()
        metrics = await house.metrics()
    refused = [result for result in results if isinstance(result, openai.InternalServerError)]
    assert results.count("hello") == 51
    assert len(refused) == 49
    assert {(error.status_code, error.code) for error in refused} == {(503, "queue_full")}
    assert all(1 <= int(error.response.headers["retry-after"]) <= 120 for error in refused)
    assert engine.chats == 51
    assert metrics["gateway_requests_completed_total"] == 51
    assert metrics['gateway_rejected_total{reason="queue_full"}'] == 49


@pytest.mark.slow
async def test_a_retry_after_a_refusal_succeeds(engine: ScriptedOllama) -> None:
    """With its retries, which honour Retry-After, the SDK gets through."""
    engine.play(whole(b"{}", 503, Retry_After="1"))
    async with opened(engine) as house, client_of(house, max_retries=1) as client:
        reply = await client.chat.completions.create(model="m", messages=HI)
    assert reply.choices[0].message.content == "hello"
    assert engine.chats == 2


async def test_it_comes_back_when_it_was_told_to_and_hands_on_when_its_turn_would_be() -> None:
    def full() -> GatewayError:
        promise = Promise(place="p-1", wait_s=0.25, position=3)
        return QueueFull("Full.", retry_after_s=0.02, promise=promise)

    async with opened() as house, client_of(house, max_retries=1) as client:
        house.echo.script = EchoScript(fail=full)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="default", messages=HI)
    assert len(house.told.exchanges) == 2
    error: Any = refused.value
    assert error.code == "queue_full"
    assert (error.body["estimated_wait_ms"], error.body["queue_position"]) == (250, 3)
    assert error.response.headers["retry-after-ms"] == "20"
    assert error.response.headers["x-gateway-place"] == "p-1"


async def test_it_does_not_come_back_where_that_would_be_in_vain() -> None:
    async with opened() as house, client_of(house, max_retries=2) as client:
        house.echo.script = EchoScript(fail=lambda: DeadlineUnmeetable("It can never fit."))
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="default", messages=HI)
    assert refused.value.code == "deadline_unmeetable"
    assert len(house.told.exchanges) == 1
