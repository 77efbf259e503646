import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from gateway.backends.echo import CONTEXT_LENGTH, EchoBackend, EchoScript
from gateway.config.schema import Timeouts
from gateway.core import jsonio
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    ModelNotFound,
    RequestTimeout,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamStalled,
)
from gateway.core.messages import (
    Completion,
    EmbedRequest,
    Event,
    Finished,
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
    TokenLogprob,
    Tool,
    Usage,
    fold,
)
from tests.fakes import ManualClock

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
TOOLS = (Tool("first", parameters=PERSON), Tool("second", parameters=PERSON), Tool("bare"))


def request(text: str = "one  two\nthree", **others: Any) -> GenerateRequest:
    system = Message(role=Role.SYSTEM, content="be brief")
    return GenerateRequest(
        model="echo", messages=(system, Message(role=Role.USER, content=text)), **others
    )


@pytest.fixture
def echo(clock: ManualClock) -> EchoBackend:
    return EchoBackend(clock=clock, timeouts=Timeouts(), models=("llama3.2",))


async def reads(backend: EchoBackend, asked: GenerateRequest) -> list[Sequence[Event]]:
    """All that is handed out, read by read, without what ends it."""
    batches = []
    async with backend.open(asked) as stream:
        while events := await stream.read():
            batches.append(events)
        assert await stream.read() == ()
    return batches


async def answer(backend: EchoBackend, asked: GenerateRequest) -> Completion:
    (completion,) = fold(event for events in await reads(backend, asked) for event in events)
    return completion


async def test_it_says_again_what_it_was_told(echo: EchoBackend) -> None:
    (events,) = await reads(echo, request())
    assert events == [
        TextDelta("one  "),
        TextDelta("two\n"),
        TextDelta("three"),
        Finished(FinishReason.STOP, Usage(prompt=5, completion=3)),
    ]


async def test_the_last_user_message_is_the_one(echo: EchoBackend) -> None:
    turns = (
        Message(role=Role.USER, content="first"),
        Message(role=Role.ASSISTANT, content="second"),
        Message(role=Role.USER, content=(TextPart("third"), TextPart("part"))),
        Message(role=Role.TOOL, content="fourth", tool_call_id="1"),
    )
    said = await answer(echo, GenerateRequest(model="echo", messages=turns))
    assert said.text == "third\npart"


@pytest.mark.parametrize("text", ["", " ", "\n\n", " a", "a ", "ünï cödé \U0001f600"])
async def test_every_text_comes_back_unchanged(echo: EchoBackend, text: str) -> None:
    assert (await answer(echo, request(text))).text == text


async def test_without_a_user_there_is_nothing_to_say(echo: EchoBackend) -> None:
    system = Message(role=Role.SYSTEM, content="be brief")
    said = await answer(echo, GenerateRequest(model="echo", messages=(system,)))
    assert said.text == ""
    assert said.finished.usage == Usage(prompt=2, completion=0)


async def test_the_token_limit_holds(echo: EchoBackend) -> None:
    said = await answer(echo, request(max_tokens=2))
    assert said.text == "one  two\n"
    assert said.finished.reason is FinishReason.LENGTH
    assert said.finished.usage.completion == 2
    assert (await answer(echo, request(max_tokens=3))).finished.reason is FinishReason.STOP


async def test_the_first_stop_string_in_the_text_ends_it(echo: EchoBackend) -> None:
    said = await answer(echo, request(sampling=Sampling(stop=("thr", "wo", "absent"))))
    assert said.text == "one  t"
    assert said.finished.reason is FinishReason.STOP


async def test_logprobs_come_with_every_token(echo: EchoBackend) -> None:
    said = await answer(echo, request("a b", logprobs=1))
    assert said.logprobs == (
        TokenLogprob("a ", 0.0, b"a ", (TokenLogprob("a ", 0.0, b"a "),)),
        TokenLogprob("b", 0.0, b"b", (TokenLogprob("b", 0.0, b"b"),)),
    )


# --- Shapes ---------------------------------------------------------------------


async def test_a_json_object_holds_the_text(echo: EchoBackend) -> None:
    said = await answer(echo, request('quo"te', output_format=JsonObject()))
    assert jsonio.loads(said.text) == {"echo": 'quo"te'}


async def test_a_schema_is_fitted(echo: EchoBackend) -> None:
    said = await answer(echo, request(output_format=JsonSchema(schema=PERSON)))
    assert jsonio.loads(said.text) == {"name": "…", "age": 0}


async def test_a_schema_that_nothing_fits_is_refused(echo: EchoBackend) -> None:
    with pytest.raises(BackendRefusedRequest):
        await answer(echo, request(output_format=JsonSchema(schema={"type": "x"})))
    assert echo.running == 0


@pytest.mark.parametrize(
    ("choice", "name", "arguments"),
    [
        ("required", "first", {"name": "…", "age": 0}),
        (NamedTool("second"), "second", {"name": "…", "age": 0}),
        (NamedTool("bare"), "bare", {}),
    ],
)
async def test_a_demanded_call_is_made_in_pieces(
    echo: EchoBackend, choice: Any, name: str, arguments: Any
) -> None:
    said = await answer(echo, request(tools=TOOLS, tool_choice=choice))
    (call,) = said.tool_calls
    assert said.text == ""
    assert call.name == name
    assert jsonio.loads(call.arguments) == arguments
    assert said.finished.reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_a_call_that_nobody_demands_is_not_made(echo: EchoBackend, choice: Any) -> None:
    said = await answer(echo, request(tools=TOOLS, tool_choice=choice))
    assert said.tool_calls == ()
    assert said.text == "one  two\nthree"


async def test_two_calls_have_different_ids(echo: EchoBackend) -> None:
    demanding = request(tools=TOOLS, tool_choice="required")
    first, second = await answer(echo, demanding), await answer(echo, demanding)
    assert first.tool_calls[0].id != second.tool_calls[0].id


async def test_a_script_can_have_tools_called_by_themselves(echo: EchoBackend) -> None:
    echo.script = EchoScript(calls_tool=True)
    assert (await answer(echo, request(tools=TOOLS))).tool_calls[0].name == "first"
    assert (await answer(echo, request())).text == "one  two\nthree"


# --- Pace -------------------------------------------------------------------------


async def test_a_script_sets_how_many_tokens_there_are(echo: EchoBackend) -> None:
    echo.script = EchoScript(tokens=5)
    said = await answer(echo, request("a b"))
    assert said.text == "a b a b a"
    assert said.finished.usage.completion == 5


async def test_without_a_pace_tokens_come_in_bursts(echo: EchoBackend) -> None:
    echo.script = EchoScript(tokens=100)
    batches = await reads(echo, request())
    assert [len(events) for events in batches] == [32, 32, 32, 5]


async def test_a_pace_hands_out_one_token_at_a_time(echo: EchoBackend, clock: ManualClock) -> None:
    echo.script = EchoScript(first_s=2.0, pace_s=0.5)
    seen: list[Event] = []

    async def read() -> None:
        async with echo.open(request("a b c")) as stream:
            while events := await stream.read():
                seen.extend(events)

    reading = asyncio.ensure_future(read())
    for wait_s, count in ((1.9, 0), (0.1, 1), (0.4, 1), (0.1, 2), (0.5, 3), (0.5, 4)):
        await clock.advance(wait_s)
        assert len(seen) == count
    await reading


async def test_who_leaves_early_frees_it(echo: EchoBackend, clock: ManualClock) -> None:
    echo.script = EchoScript(pace_s=1.0)

    async def read() -> None:
        async with echo.open(request()) as stream:
            while await stream.read():
                pass

    reading = asyncio.ensure_future(read())
    await clock.advance(1.0)
    assert echo.running == 1
    reading.cancel()
    await asyncio.wait((reading,))
    assert echo.running == 0


# --- Faults -----------------------------------------------------------------------


async def test_a_script_can_refuse(echo: EchoBackend) -> None:
    echo.script = EchoScript(fail=lambda: UpstreamBusy("Too much.", retry_after_s=3.0))
    with pytest.raises(UpstreamBusy):
        await answer(echo, request())
    assert echo.running == 0


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_script_can_break_off(echo: EchoBackend, after: int) -> None:
    echo.script = EchoScript(break_after=after)
    seen: list[Event] = []

    async def read() -> None:
        async with echo.open(request()) as stream:
            while True:
                seen.extend(await stream.read())

    with pytest.raises(UpstreamDisconnected):
        await read()
    assert len(seen) == after
    assert not any(isinstance(event, Finished) for event in seen)


@pytest.mark.parametrize(
    ("after", "silent_s", "error"), [(0, 120.0, RequestTimeout), (2, 60.0, UpstreamStalled)]
)
async def test_a_script_can_stall(
    echo: EchoBackend, clock: ManualClock, after: int, silent_s: float, error: type[GatewayError]
) -> None:
    echo.script = EchoScript(stall_after=after)
    reading = asyncio.ensure_future(reads(echo, request()))
    await clock.advance(silent_s - 0.1)
    assert not reading.done()
    await clock.advance(0.1)
    with pytest.raises(error):
        await reading


async def test_a_script_can_lie_about_the_reason(echo: EchoBackend) -> None:
    echo.script = EchoScript(finish_reason=FinishReason.CONTENT_FILTER)
    said = await answer(echo, request())
    assert said.finished.reason is FinishReason.CONTENT_FILTER


async def test_a_request_keeps_the_script_that_it_began_with(echo: EchoBackend) -> None:
    async with echo.open(request()) as stream:
        echo.script = EchoScript(break_after=0)
        assert await stream.read()


# --- What it is ---------------------------------------------------------------------


async def test_it_answers_to_its_names_only(echo: EchoBackend) -> None:
    assert (await answer(echo, attrs.evolve(request(), model="llama3.2"))).text
    with pytest.raises(ModelNotFound):
        await answer(echo, attrs.evolve(request(), model="other"))
    with pytest.raises(ModelNotFound):
        await echo.describe("other")
    models = (await echo.probe()).models
    assert [info.id for info in models] == ["echo", "llama3.2"]
    assert models[0] == await echo.describe("echo")
    assert models[0].context_length == CONTEXT_LENGTH


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(
    clock: ManualClock,
) -> None:
    echo = EchoBackend(clock=clock, context_length=4)
    with pytest.raises(ContextLengthExceeded, match=r"5 tokens.* 4 tokens"):
        await answer(echo, request())


async def test_it_cannot_see(echo: EchoBackend) -> None:
    picture = Message(role=Role.USER, content=(ImagePart("aGk=", "image/png"),))
    with pytest.raises(BackendRefusedRequest):
        await answer(echo, GenerateRequest(model="echo", messages=(picture,)))


def test_it_says_what_has_no_effect(echo: EchoBackend) -> None:
    asked = request(
        extensions={"num_ctx": 9},
        params=frozenset({"num_ctx", "logit_bias", "max_tokens", "temperature"}),
    )
    assert echo.unsupported(asked) == ("logit_bias", "num_ctx")


async def test_it_has_nothing_to_load_and_nothing_to_close(echo: EchoBackend) -> None:
    await echo.load("echo")
    await echo.close()
    assert echo.canonical("Echo") == "Echo"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt("one  two"), "one  two"),
        (Prompt("one", suffix="three"), "one"),
        (Prompt(tokens=(7, 0)), "7 0"),
    ],
)
async def test_a_text_is_said_again_as_well(echo: EchoBackend, prompt: Prompt, said: str) -> None:
    asked = GenerateRequest(model="echo", prompts=(prompt,))
    completion = await answer(echo, asked)
    assert completion.text == said
    words = len(said.split())
    assert completion.finished.usage == Usage(prompt=words, completion=words)


async def test_a_text_beyond_the_context_is_refused_as_a_prompt(echo: EchoBackend) -> None:
    asked = GenerateRequest(model="echo", prompts=(Prompt("x " * (CONTEXT_LENGTH + 1)),))
    with pytest.raises(ContextLengthExceeded) as caught:
        await answer(echo, asked)
    assert caught.value.param == "prompt"


# --- Embeddings -----------------------------------------------------------------------------


def embedding(*inputs: str | tuple[int, ...], **others: Any) -> EmbedRequest:
    return EmbedRequest(model="echo", inputs=inputs, **others)


async def test_equal_texts_have_equal_vectors(echo: EchoBackend) -> None:
    found = await echo.embed(embedding("one two", "three", "one two", (7, 8)))
    assert found.vectors[0] == found.vectors[2] != found.vectors[1]
    assert [len(vector) for vector in found.vectors] == [8, 8, 8, 8]
    assert found.prompt_tokens == 7
    assert (await echo.embed(embedding("three"))).vectors[0] == found.vectors[1]
    shorter = await echo.embed(embedding("three", dimensions=3))
    assert len(shorter.vectors[0]) == 3


async def test_an_input_beyond_the_context_is_refused_or_cut(clock: ManualClock) -> None:
    echo = EchoBackend(clock=clock, context_length=2)
    with pytest.raises(ContextLengthExceeded, match=r"3 tokens.* 2 tokens") as caught:
        await echo.embed(embedding("a", "a b c"))
    assert caught.value.param == "input"
    cut = await echo.embed(embedding("a", "a b c", truncate=True))
    assert cut.vectors[1] == (await echo.embed(embedding("a b"))).vectors[0]
    assert cut.prompt_tokens == 3


async def test_vectors_take_the_time_that_the_script_says(
    echo: EchoBackend, clock: ManualClock
) -> None:
    echo.script = EchoScript(first_s=2.0, pace_s=0.5)
    asking = asyncio.ensure_future(echo.embed(embedding("a", "b", "c")))
    await clock.advance(2.9)
    assert (asking.done(), echo.running) == (False, 1)
    await clock.advance(0.2)
    assert len((await asking).vectors) == 3
    assert echo.running == 0


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (EchoScript(fail=lambda: UpstreamBusy("busy")), UpstreamBusy),
        (EchoScript(break_after=0), UpstreamDisconnected),
        (EchoScript(break_after=1), UpstreamDisconnected),
    ],
)
async def test_no_vectors_come_of_a_call_that_breaks(
    echo: EchoBackend, script: EchoScript, error: type[GatewayError]
) -> None:
    echo.script = script
    with pytest.raises(error):
        await echo.embed(embedding("a", "b"))
    assert echo.running == 0
    echo.script = EchoScript()
    with pytest.raises(ModelNotFound):
        await echo.embed(EmbedRequest(model="other", inputs=("a",)))


async def test_a_call_that_stalls_is_too_late_and_may_be_left(
    echo: EchoBackend, clock: ManualClock
) -> None:
    echo.script = EchoScript(stall_after=1)
    asking = asyncio.ensure_future(echo.embed(embedding("a", "b")))
    leaving = asyncio.ensure_future(echo.embed(embedding("a", "b")))
    await clock.advance(Timeouts().first_byte_timeout_seconds - 1)
    assert not asking.done()
    leaving.cancel()
    await clock.advance(1)
    with pytest.raises(RequestTimeout):
        await asking
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert echo.running == 0


def test_it_says_what_has_no_effect_on_vectors(echo: EchoBackend) -> None:
    asked = embedding(
        "a",
        extensions={"num_ctx": 9},
        params=frozenset({"input", "dimensions", "truncate", "num_ctx"}),
    )
    assert echo.unsupported(asked) == ("num_ctx",)
