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
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamUnreachable,
)
from gateway.core.messages import (
    Completion,
    Embeddings,
    EmbedRequest,
    Event,
    FinishReason,
    GenerateRequest,
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    Prompt,
    Role,
    Sampling,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Vector,
    fold,
)
from gateway.core.tokens import Spelling
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
class Engine:
    """What the tests have of it."""

    backend: LlamaCppBackend
    http: HttpClient
    told: Told


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
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
        yield Engine(backend, http, told)
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


async def events_of(engine: Engine, request: GenerateRequest) -> list[Event]:
    async with engine.backend.open(request) as stream:
        return await to_the_end(stream)


async def answer(engine: Engine, request: GenerateRequest) -> Completion:
    (completion,) = fold(await events_of(engine, request))
    return completion


# --- Text -------------------------------------------------------------------------


async def test_it_answers(engine: Engine) -> None:
    said = await answer(engine, asking("Name three colors."))
    assert "red" in said.text.lower()
    assert said.finished.reason is FinishReason.STOP
    assert said.finished.usage.prompt > 10
    assert 0 < said.finished.usage.completion < 48
    assert said.finished.timings.decode_s


async def test_it_streams_token_by_token(engine: Engine) -> None:
    events = await events_of(engine, asking("Tell me a story.", max_tokens=16))
    assert sum(isinstance(event, TextDelta) for event in events) > 8


async def test_limits_and_stops_hold(engine: Engine) -> None:
    short = await answer(engine, asking("Tell me a long story.", max_tokens=5))
    assert short.finished.reason is FinishReason.LENGTH
    assert short.finished.usage.completion == 5
    stopping = Sampling(temperature=0.0, stop=("\n",))
    cut = await answer(engine, asking("Name three colors.", sampling=stopping))
    assert "\n" not in cut.text
    assert cut.finished.reason is FinishReason.STOP


async def test_a_seed_draws_the_same_answer_again(engine: Engine) -> None:
    request = asking("Invent a name.", sampling=Sampling(temperature=1.0, seed=7), max_tokens=12)
    assert (await answer(engine, request)).text == (await answer(engine, request)).text


async def test_a_banned_token_is_not_drawn(engine: Engine) -> None:
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


async def test_all_slots_answer_at_once(engine: Engine) -> None:
    said = await asyncio.gather(
        *(answer(engine, asking(f"Count to {number}.", max_tokens=8)) for number in range(4))
    )
    assert all(one.text for one in said)


async def test_who_leaves_early_leaves_no_slot_busy(engine: Engine) -> None:
    for _ in range(8):
        async with engine.backend.open(asking("Tell me a long story.", max_tokens=900)) as stream:
            await stream.read()
    assert (await answer(engine, asking("Hi.", max_tokens=2))).finished.usage.completion == 2


# --- Shapes -----------------------------------------------------------------------


async def test_a_schema_is_fitted(engine: Engine) -> None:
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


async def test_a_json_object_begins_as_one(engine: Engine) -> None:
    said = await answer(engine, asking("Describe Rome.", output_format=JsonObject()))
    assert said.text.lstrip().startswith("{")


async def test_a_schema_that_it_cannot_read_is_the_callers_mistake(engine: Engine) -> None:
    wrong = JsonSchema(schema={"type": "nonsense"})
    with pytest.raises(BackendRefusedRequest):
        await answer(engine, asking("Hi.", output_format=wrong))


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("seed", range(4))
async def test_a_required_call_is_made_with_arguments_that_fit(
    engine: Engine, temperature: float, seed: int
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
async def test_a_named_tool_is_called_and_no_other(engine: Engine, tool: Tool) -> None:
    request = asking(
        "Tell me a story about a fox.",
        tools=(WEATHER, TIME),
        tool_choice=NamedTool(tool.name),
        max_tokens=200,
    )
    said = await answer(engine, request)
    assert [call.name for call in said.tool_calls] == [tool.name]


async def test_arguments_are_streamed(engine: Engine) -> None:
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


async def test_a_tools_answer_is_read(engine: Engine) -> None:
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
    engine: Engine, messages: list[tuple[str, str]], prompt: str
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
    engine: Engine,
) -> None:
    with pytest.raises(ContextLengthExceeded, match=rf"\d{{4}} tokens.* {CONTEXT} tokens"):
        await answer(engine, asking("word " * 1500))


async def test_it_cannot_see(engine: Engine) -> None:
    request = attrs.evolve(
        asking(""), messages=(user((TextPart("What is it?"), ImagePart("aGk=", "image/png"))),)
    )
    with pytest.raises(BackendRefusedRequest, match="images"):
        await answer(engine, request)


async def test_no_prompt_gets_into_the_log(
    engine: Engine, caplog: pytest.LogCaptureFixture
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


# --- Embeddings -----------------------------------------------------------------------


CAT: Final = "a cat sleeps on the sofa"
TEXTS: Final = (CAT, "a kitten naps on the couch", "stock markets fell sharply today", "hello")
LONG: Final = "The quick brown fox jumps over the lazy dog. " * 150


async def vectors(engine: Engine, *inputs: str | tuple[int, ...], **others: Any) -> Embeddings:
    return await engine.backend.embed(EmbedRequest(model=MODEL, inputs=inputs, **others))


def nearness(one: Vector, other: Vector) -> float:
    """Of vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_what_means_the_same_is_nearer(engine: Engine) -> None:
    found = await vectors(engine, *TEXTS)
    cat, kitten, market, _ = found.vectors
    assert len(cat) == 576
    assert nearness(cat, cat) == pytest.approx(1.0, abs=1e-5)
    assert nearness(cat, kitten) > nearness(cat, market) + 0.1
    assert found.prompt_tokens > len(TEXTS)


async def test_a_vector_does_not_depend_on_its_company(engine: Engine) -> None:
    """Computed together, those of unequal length would spoil each other but for our settings."""
    inputs = (*TEXTS, LONG[:1500], CAT + " and dreams of mice", *TEXTS * 5)
    together = await vectors(engine, *inputs)
    for text, vector in zip(inputs[:6], together.vectors, strict=False):
        (alone,) = (await vectors(engine, text)).vectors
        assert nearness(alone, vector) > 0.998


async def test_more_than_fits_the_context_together_is_embedded_all_the_same(engine: Engine) -> None:
    long = LONG[: 4 * CONTEXT]  # Nearly fills it.
    asked = [("short", long, CAT), (long, long), TEXTS * 8, (CAT,), (long,)]
    found = await asyncio.gather(*(vectors(engine, *inputs) for inputs in asked))
    assert [len(each.vectors) for each in found] == [3, 2, 32, 1, 1]
    assert nearness(found[0].vectors[1], found[4].vectors[0]) > 0.998


async def test_tokens_have_the_vector_of_their_text(engine: Engine) -> None:
    asked = GenerateRequest(model=MODEL, prompts=(Prompt(CAT),))
    tokens = await engine.backend.tokenizer.tokenize(asked, Spelling(add_special=True))
    (of_text,) = (await vectors(engine, CAT)).vectors
    (of_tokens,) = (await vectors(engine, tuple(tokens.ids))).vectors
    assert nearness(of_text, of_tokens) > 0.999
    with pytest.raises(InvalidRequest, match="vocabulary"):
        await vectors(engine, (10**6,))


async def test_an_input_that_is_too_long_is_refused_with_both_numbers_or_cut(
    engine: Engine,
) -> None:
    with pytest.raises(ContextLengthExceeded, match=rf"1501 tokens.* {CONTEXT} tokens"):
        await vectors(engine, CAT, LONG)
    cut = await vectors(engine, CAT, LONG, truncate=True)
    assert len(cut.vectors) == 2
    assert CONTEXT < cut.prompt_tokens < CONTEXT + 10


async def test_texts_are_embedded_while_answers_run(engine: Engine) -> None:
    """One server for both would let them wait for the last of the answers."""
    asked = asking("Tell me a long story.", max_tokens=800)
    async with engine.backend.open(asked) as stream:
        await stream.read()
        assert len((await vectors(engine, *TEXTS)).vectors) == len(TEXTS)
        assert not stream.ends
        await stream.read()
        assert not stream.ends


async def test_a_prompt_is_still_evaluated_once(engine: Engine) -> None:
    story = asking(LONG[:2000], max_tokens=1)
    await answer(engine, story)
    await vectors(engine, *TEXTS)
    again = await answer(engine, story)
    assert again.finished.usage.cached is not None
    assert again.finished.usage.cached >= again.finished.usage.prompt - 2


# --- The process ------------------------------------------------------------------


def address(engine: Engine) -> tuple[str, str]:
    """Where it listens, and the header that opens it."""
    supervisor = engine.backend._supervisor
    assert supervisor.url is not None
    return supervisor.url, f"Bearer {json.loads(supervisor._settings)['api_key']}"


async def test_it_tells_its_real_context(engine: Engine) -> None:
    info = await engine.backend.describe(MODEL)
    assert info.context_length == CONTEXT
    assert info.context_length_max == 8192
    assert info.capabilities == ("completion", "tools", "embedding")
    assert info.loaded is True
    assert (await engine.backend.probe()).version.startswith("xllamacpp ")


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/slots", "/v1/chat/completions"])
async def test_nobody_else_on_the_machine_goes_round_the_queue(engine: Engine, path: str) -> None:
    for url in (address(engine)[0], engine.backend._embedder._base):
        status, _ = await engine.http.ask("GET", endpoint(url, path))
        assert status == 401


async def test_killed_midway_it_breaks_that_answer_and_comes_back(engine: Engine) -> None:
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
