"""The embedded engine itself: a real llama.cpp in its child process, with the packaged model."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import attrs
import pytest
import pytest_asyncio

from gateway.backends.base import EventStream
from gateway.backends.http import HttpClient, endpoint, headers
from gateway.backends.llamacpp import LlamaCppBackend, available
from gateway.config.schema import Embedded, Limits, Timeouts
from gateway.core import jsonio
from gateway.core.clock import LoopClock
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    UpstreamDisconnected,
    UpstreamUnreachable,
)
from gateway.core.messages import (
    Completion,
    Event,
    FinishReason,
    GenerateRequest,
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    Role,
    Sampling,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    fold,
)
from tests.backends.children import Told, is_alive, running

pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

MODEL: Final = "smollm2:135m"
CONTEXT: Final = 1024
GREEDY: Final = Sampling(temperature=0.0)

WEATHER: Final = Tool(
    "get_weather",
    "The weather in a city",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
)
TIME: Final = Tool(
    "get_time",
    "The time in a zone",
    {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
)


@attrs.frozen
class Embedding:
    """What the tests have of it."""

    backend: LlamaCppBackend
    http: HttpClient
    told: Told


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Embedding]:
    embedded = Embedded(context_length=CONTEXT)
    if reason := available(embedded):
        pytest.skip(reason)
    clock, told = LoopClock(), Told()
    http = HttpClient(timeouts=Timeouts(), limits=Limits(), clock=clock)
    await http.start()
    backend = LlamaCppBackend(
        embedded=embedded, http=http, limits=Limits(), clock=clock, on_change=told
    )
    async with running(backend.run()):
        await told.wait_for("is ready")
        yield Embedding(backend, http, told)
    await http.close()


def user(content: Any) -> Message:
    return Message(role=Role.USER, content=content)


def asking(text: str, **others: Any) -> GenerateRequest:
    fields: dict[str, Any] = {"sampling": GREEDY, "max_tokens": 48, **others}
    return GenerateRequest(model=MODEL, messages=(user(text),), **fields)


async def to_the_end(stream: EventStream) -> list[Event]:
    seen: list[Event] = []
    while events := await stream.read():
        seen.extend(events)
    return seen


async def events_of(engine: Embedding, request: GenerateRequest) -> list[Event]:
    async with engine.backend.open(request) as stream:
        return await to_the_end(stream)


async def answer(engine: Embedding, request: GenerateRequest) -> Completion:
    (completion,) = fold(await events_of(engine, request))
    return completion


# --- Text -------------------------------------------------------------------------


async def test_it_answers(engine: Embedding) -> None:
    said = await answer(engine, asking("Name three colors."))
    assert "red" in said.text.lower()
    assert said.finished.reason is FinishReason.STOP
    assert said.finished.usage.prompt > 10
    assert 0 < said.finished.usage.completion < 48
    assert said.finished.timings.decode_s


async def test_it_streams_token_by_token(engine: Embedding) -> None:
    events = await events_of(engine, asking("Tell me a story.", max_tokens=16))
    assert sum(isinstance(event, TextDelta) for event in events) > 8


async def test_limits_and_stops_hold(engine: Embedding) -> None:
    short = await answer(engine, asking("Tell me a long story.", max_tokens=5))
    assert short.finished.reason is FinishReason.LENGTH
    assert short.finished.usage.completion == 5
    stopping = Sampling(temperature=0.0, stop=("\n",))
    cut = await answer(engine, asking("Name three colors.", sampling=stopping))
    assert "\n" not in cut.text
    assert cut.finished.reason is FinishReason.STOP


async def test_a_seed_draws_the_same_answer_again(engine: Embedding) -> None:
    request = asking("Invent a name.", sampling=Sampling(temperature=1.0, seed=7), max_tokens=12)
    assert (await answer(engine, request)).text == (await answer(engine, request)).text


async def test_a_banned_token_is_not_drawn(engine: Embedding) -> None:
    request = asking("Name three colors.", logprobs=0, max_tokens=3)
    first = await answer(engine, request)
    assert first.logprobs is not None
    url, key = address(engine)
    _, document = await engine.http.ask(
        "POST",
        endpoint(url, "/tokenize"),
        body=jsonio.dumps({"content": first.logprobs[0].token}),
        headers=headers({"Authorization": key, "Content-Type": "application/json"}),
    )
    (token,) = document["tokens"]
    banning = Sampling(temperature=0.0, logit_bias={str(token): -100.0})
    second = await answer(engine, attrs.evolve(request, sampling=banning))
    assert second.logprobs is not None
    assert second.logprobs[0].token != first.logprobs[0].token


async def test_all_slots_answer_at_once(engine: Embedding) -> None:
    said = await asyncio.gather(
        *(answer(engine, asking(f"Count to {number}.", max_tokens=8)) for number in range(4))
    )
    assert all(one.text for one in said)


async def test_who_leaves_early_leaves_no_slot_busy(engine: Embedding) -> None:
    for _ in range(8):
        async with engine.backend.open(asking("Tell me a long story.", max_tokens=900)) as stream:
            await stream.read()
    assert (await answer(engine, asking("Hi.", max_tokens=2))).finished.usage.completion == 2


# --- Shapes -----------------------------------------------------------------------


async def test_a_schema_is_fitted(engine: Embedding) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "warm": {"type": "boolean"}},
        "required": ["city", "warm"],
        "additionalProperties": False,
    }
    said = await answer(engine, asking("Is Rome warm?", output_format=JsonSchema(schema=schema)))
    value = jsonio.loads(said.text)
    assert set(value) == {"city", "warm"}
    assert isinstance(value["warm"], bool)


async def test_a_json_object_begins_as_one(engine: Embedding) -> None:
    said = await answer(engine, asking("Describe Rome.", output_format=JsonObject()))
    assert said.text.lstrip().startswith("{")


async def test_a_schema_that_it_cannot_read_is_the_callers_mistake(engine: Embedding) -> None:
    wrong = JsonSchema(schema={"type": "nonsense"})
    with pytest.raises(BackendRefusedRequest):
        await answer(engine, asking("Hi.", output_format=wrong))


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("seed", range(4))
async def test_a_required_call_is_made_with_arguments_that_fit(
    engine: Embedding, temperature: float, seed: int
) -> None:
    request = asking(
        "What is the weather in Paris?",
        tools=(WEATHER, TIME),
        tool_choice="required",
        parallel_tool_calls=False,
        sampling=Sampling(temperature=temperature, seed=seed),
        max_tokens=200,
    )
    said = await answer(engine, request)
    (call,) = said.tool_calls
    names = {"get_weather": {"city", "unit"}, "get_time": {"zone"}}
    assert set(jsonio.loads(call.arguments)) == names[call.name]
    assert said.text == ""
    assert said.finished.reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("tool", [WEATHER, TIME])
async def test_a_named_tool_is_called_and_no_other(engine: Embedding, tool: Tool) -> None:
    request = asking(
        "Tell me a story about a fox.",
        tools=(WEATHER, TIME),
        tool_choice=NamedTool(tool.name),
        max_tokens=200,
    )
    said = await answer(engine, request)
    assert [call.name for call in said.tool_calls] == [tool.name]


async def test_arguments_are_streamed(engine: Embedding) -> None:
    request = asking("Rome, in C.", tools=(WEATHER,), tool_choice="required", max_tokens=200)
    pieces = [
        event
        for event in await events_of(engine, request)
        if isinstance(event, ToolCallDelta) and event.index == 0
    ]
    assert len(pieces) > 3
    assert pieces[0].id
    assert pieces[0].name == "get_weather"
    assert all(piece.id is None and piece.name is None for piece in pieces[1:])


async def test_a_tools_answer_is_read(engine: Embedding) -> None:
    call = ToolCall("1", "get_weather", '{"city": "Rome", "unit": "C"}')
    request = attrs.evolve(
        asking("What is the weather in Rome?", tools=(WEATHER,)),
        messages=(
            user("What is the weather in Rome?"),
            Message(role=Role.ASSISTANT, content="", tool_calls=(call,)),
            Message(role=Role.TOOL, content="21 degrees, sunny", tool_call_id="1"),
        ),
    )
    assert (await answer(engine, request)).text


# --- The prompt -------------------------------------------------------------------


DEFAULT_SYSTEM: Final = (
    "<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
)


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([("user", "hi")], DEFAULT_SYSTEM + "<|im_start|>user\nhi<|im_end|>\n"),
        (
            [("system", "Be brief."), ("user", " a\n"), ("assistant", "b"), ("user", "c")],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n a\n<|im_end|>\n"
            "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n",
        ),
        ([("system", ""), ("user", "x")],
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"),
    ],
)  # fmt: skip
async def test_without_tools_the_prompt_is_that_of_the_models_own_template(
    engine: Embedding, messages: list[tuple[str, str]], prompt: str
) -> None:
    url, key = address(engine)
    body = {"messages": [{"role": role, "content": content} for role, content in messages]}
    _, document = await engine.http.ask(
        "POST",
        endpoint(url, "/apply-template"),
        body=jsonio.dumps(body),
        headers=headers({"Authorization": key, "Content-Type": "application/json"}),
    )
    assert document["prompt"] == prompt + "<|im_start|>assistant\n"


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(
    engine: Embedding,
) -> None:
    with pytest.raises(ContextLengthExceeded, match=rf"\d{{4}} tokens.* {CONTEXT} tokens"):
        await answer(engine, asking("word " * 1500))


async def test_it_cannot_see(engine: Embedding) -> None:
    request = attrs.evolve(
        asking(""), messages=(user((TextPart("What is it?"), ImagePart("aGk=", "image/png"))),)
    )
    with pytest.raises(BackendRefusedRequest, match="images"):
        await answer(engine, request)


async def test_no_prompt_gets_into_the_log(
    engine: Embedding, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await answer(engine, asking("canary", max_tokens=2))
        for refused in (
            asking("canary " * 1500),
            asking("canary", output_format=JsonSchema(schema={"type": "canary"})),
        ):
            with pytest.raises((ContextLengthExceeded, BackendRefusedRequest)):
                await answer(engine, refused)
    assert "canary" not in caplog.text


# --- The process ------------------------------------------------------------------


def address(engine: Embedding) -> tuple[str, str]:
    """Where it listens, and the header that opens it."""
    supervisor = engine.backend._supervisor
    assert supervisor.url is not None
    return supervisor.url, f"Bearer {json.loads(supervisor._settings)['api_key']}"


async def test_it_tells_its_real_context(engine: Embedding) -> None:
    info = await engine.backend.describe(MODEL)
    assert info.context_length == CONTEXT
    assert info.context_length_max == 8192
    assert info.capabilities == ("completion", "tools")
    assert info.loaded is True
    assert (await engine.backend.probe()).version.startswith("xllamacpp ")


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/slots", "/v1/chat/completions"])
async def test_nobody_else_on_the_machine_goes_round_the_queue(
    engine: Embedding, path: str
) -> None:
    url, _ = address(engine)
    status, _ = await engine.http.ask("GET", endpoint(url, path))
    assert status == 401


async def test_killed_midway_it_breaks_that_answer_and_comes_back(engine: Embedding) -> None:
    backend, told = engine.backend, engine.told
    starts = sum("is ready" in sentence for sentence in told.all)
    pid = backend.pid
    assert pid is not None
    async with backend.open(asking("Tell me a long story.", max_tokens=900)) as stream:
        await stream.read()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UpstreamDisconnected):
            await to_the_end(stream)
    await told.wait_for("ended (signal 9 (SIGKILL))")
    with pytest.raises(UpstreamUnreachable):
        await backend.probe()
    await told.wait_for("is ready", times=starts + 1)
    assert backend.pid != pid
    assert not is_alive(pid)
    assert (await answer(engine, asking("Name three colors."))).text
