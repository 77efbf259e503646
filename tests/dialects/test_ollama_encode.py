import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.ollama_generate_wire import GenerateReader
from gateway.backends.ollama_wire import ChatReader
from gateway.core import errors
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    fold,
)
from gateway.dialects.base import ReplyHead
from gateway.dialects.ollama_encode import CHAT, GENERATE, OllamaEncoder, Shape

HEAD = ReplyHead(id="0123abcd", created=1_700_000_000, model="llama3.2:latest")
MOMENT = "2023-11-14T22:13:20Z"

NASTY = ['\n{"done":true}\n', "\r\n", "\x00", "\x1b[31m", "\u2028", "\u2029", "\x85", '"\\', "😀"]

text = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
counts = st.integers(1, 2**40)
seconds = st.integers(1, 10**15).map(lambda ns: ns * 1e-9)
usages = st.builds(Usage, counts, counts, st.none() | counts)
timings = st.builds(Timings, seconds, st.none() | seconds, st.none() | seconds, st.none() | seconds)
alternatives = st.builds(
    TokenLogprob, text, st.floats(-9999, 0), st.none() | st.binary(max_size=8), st.just(())
)
logprobs = st.builds(
    TokenLogprob,
    text,
    st.floats(-9999, 0),
    st.none() | st.binary(max_size=8),
    st.lists(alternatives, max_size=3).map(tuple),
)
deltas: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, text),
    st.builds(TextDelta, text, st.lists(logprobs, min_size=1, max_size=3).map(tuple)),
    st.builds(ReasoningDelta, text),
)
calls = st.builds(
    ToolCallDelta,
    st.just(0),
    st.just("call"),
    text,
    st.dictionaries(text, text, max_size=3).map(
        lambda arguments: json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    ),
)


@st.composite
def answers(draw: Callable[..., Any], *, tools: bool) -> list[Event]:
    """The events of one answer, as both a stream and its reader have them."""
    events = draw(st.lists(deltas | calls if tools else deltas, max_size=8))
    numbers = itertools.count()
    for event in events:
        if isinstance(event, ToolCallDelta):
            event.index = next(numbers)
    reasons = [FinishReason.TOOL_CALLS] if next(numbers) else [FinishReason.STOP]
    reason = draw(st.sampled_from([*reasons, FinishReason.LENGTH]))
    return [*events, Finished(reason, draw(usages), draw(timings))]


def in_pieces(events: Sequence[Event], size: int) -> list[Event]:
    """The same, the arguments of each call in pieces, as engines send them."""
    cut: list[Event] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            cut.append(ToolCallDelta(event.index, event.id, event.name, ""))
            for at in range(0, len(event.arguments), size):
                piece = event.arguments[at : at + size]
                cut.append(ToolCallDelta(event.index, None, None, piece))
        else:
            cut.append(event)
    return cut


def encoder(shape: Shape = CHAT) -> OllamaEncoder:
    return OllamaEncoder(HEAD, shape)


def lines(data: bytes) -> list[dict[str, Any]]:
    """Each line, cut wherever some reader may take a line to end."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().splitlines()]


def stop(usage: Usage | None = None) -> Finished:
    return Finished(FinishReason.STOP, usage or Usage())


# --- Streams ------------------------------------------------------------------------


@pytest.mark.slow
@given(answers(tools=True), st.integers(1, 5), st.integers(1, 4))
@settings(deadline=None)
def test_reading_a_chat_back_gives_its_events(events: list[Event], batch: int, piece: int) -> None:
    told = in_pieces(events, piece)
    writer = encoder()
    data = b"".join(writer.feed(told[at : at + batch]) for at in range(0, len(told), batch))
    lines(data)
    reader = ChatReader(line_bytes_max=1 << 24, new_id=lambda: "call")
    assert reader.feed(data) == events


@pytest.mark.slow
@given(answers(tools=False), st.integers(1, 5))
@settings(deadline=None)
def test_reading_a_completion_back_gives_its_events(events: list[Event], batch: int) -> None:
    writer = encoder(GENERATE)
    data = b"".join(writer.feed(events[at : at + batch]) for at in range(0, len(events), batch))
    lines(data)
    assert GenerateReader(line_bytes_max=1 << 24).feed(data) == events


def test_a_chat_is_what_ollama_sends() -> None:
    head = {"model": "llama3.2:latest", "created_at": MOMENT}
    end = Finished(FinishReason.LENGTH, Usage(3, 2, cached=1), Timings(1.5, 0.25, 0.5, 0.75))
    data = encoder().feed([ReasoningDelta("hm"), TextDelta("Hi"), end])
    assert lines(data) == [
        head | {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        head | {"message": {"role": "assistant", "content": "Hi"}, "done": False},
        head
        | {
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "length",
            "total_duration": 1_500_000_000,
            "load_duration": 250_000_000,
            "prompt_eval_count": 3,
            "prompt_eval_cached_count": 1,
            "prompt_eval_duration": 500_000_000,
            "eval_count": 2,
            "eval_duration": 750_000_000,
        },
    ]


def test_a_completion_is_what_ollama_sends() -> None:
    data = encoder(GENERATE).feed([ReasoningDelta("hm"), TextDelta("Hi"), stop(Usage(3, 1))])
    thought, said, end = lines(data)
    assert (thought["response"], thought["thinking"]) == ("", "hm")
    assert (said["response"], said["done"]) == ("Hi", False)
    assert (end["response"], end["done"], end["done_reason"]) == ("", True, "stop")


def test_what_the_engine_does_not_tell_is_left_out() -> None:
    (end,) = lines(encoder().feed([stop()]))
    assert set(end) == {"model", "created_at", "message", "done", "done_reason"}


def test_the_whole_time_is_the_sum_of_its_parts_where_only_these_are_told() -> None:
    timings = Timings(prefill_s=0.5, decode_s=0.25)
    (end,) = lines(encoder().feed([Finished(FinishReason.STOP, Usage(), timings)]))
    assert end["total_duration"] == 750_000_000


# --- Tool calls ---------------------------------------------------------------------


def test_a_call_comes_whole_before_what_follows_it() -> None:
    writer = encoder()
    pieces: list[Event] = [
        ToolCallDelta(0, "a", "f", '{"x"'),
        ToolCallDelta(0, None, None, ":1}"),
        ToolCallDelta(1, "b", "g", ""),
        TextDelta("so"),
        Finished(FinishReason.TOOL_CALLS),
    ]
    told = [writer.feed([piece]) for piece in pieces]
    assert [data.count(b"\n") for data in told] == [0, 0, 1, 2, 1]
    first, second, said, end = lines(b"".join(told))
    assert first["message"]["tool_calls"] == [
        {"id": "a", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    ]
    assert second["message"]["tool_calls"] == [
        {"id": "b", "function": {"index": 1, "name": "g", "arguments": {}}}
    ]
    assert said["message"]["content"] == "so"
    assert end["done_reason"] == "stop"


def test_a_call_that_was_cut_off_is_left_out() -> None:
    events: list[Event] = [
        ToolCallDelta(0, "a", "f", "{}"),
        ToolCallDelta(1, "b", "g", '{"city": "Par'),
        Finished(FinishReason.LENGTH),
    ]
    called, end = lines(encoder().feed(events))
    assert [call["function"]["name"] for call in called["message"]["tool_calls"]] == ["f"]
    assert end["done_reason"] == "length"
    whole = json.loads(encoder().reply(fold(events)))
    assert [call["id"] for call in whole["message"]["tool_calls"]] == ["a"]


@pytest.mark.parametrize("arguments", ["[1]", "yes", '{"a":', '"{}"'])
def test_arguments_that_are_no_object_break_the_answer(arguments: str) -> None:
    events: list[Event] = [ToolCallDelta(0, "a", "f", arguments), stop()]
    with pytest.raises(errors.UpstreamBadResponse):
        encoder().feed(events)
    with pytest.raises(errors.UpstreamBadResponse):
        encoder().reply(fold(events))


# --- Errors, and whole answers --------------------------------------------------------


@pytest.mark.parametrize("shape", [CHAT, GENERATE])
def test_a_broken_stream_ends_with_an_error_and_is_not_done(shape: Shape) -> None:
    writer = encoder(shape)
    data = writer.feed([TextDelta("Hi")]) + writer.fail(errors.UpstreamFailed("It\u2028broke."))
    said, broken = lines(data)
    assert broken == {"error": "It\u2028broke."}
    assert not said["done"]


@pytest.mark.parametrize("shape", [CHAT, GENERATE])
@pytest.mark.parametrize("wants", ["load", "unload"])
def test_where_nothing_was_asked_it_says_what_was_done(shape: Shape, wants: Any) -> None:
    reply = json.loads(OllamaEncoder(HEAD, shape, wants=wants).reply(fold([stop()])))
    assert (reply["done"], reply["done_reason"]) == (True, wants)
    said = reply["response"] if shape is GENERATE else reply["message"]["content"]
    assert said == ""


@pytest.mark.slow
@given(answers(tools=True))
@settings(deadline=None)
def test_a_whole_chat_is_its_lines_put_together(events: list[Event]) -> None:
    whole = json.loads(encoder().reply(fold(events)))
    told = lines(encoder().feed(events))
    messages = [line["message"] for line in told]

    def joined(name: str) -> str:
        return "".join(message.get(name, "") for message in messages)

    assert whole["message"]["content"] == joined("content")
    assert whole["message"].get("thinking", "") == joined("thinking")
    assert whole["message"].get("tool_calls", []) == functools.reduce(
        list.__add__, (message.get("tool_calls", []) for message in messages), []
    )
    assert whole.get("logprobs", []) == functools.reduce(
        list.__add__, (line.get("logprobs", []) for line in told), []
    )
    end = told[-1]
    assert {name: whole[name] for name in end if name != "message"} == {
        name: value for name, value in end.items() if name != "message"
    }


def test_a_whole_completion() -> None:
    whole = json.loads(
        encoder(GENERATE).reply(
            fold([ReasoningDelta("hm"), TextDelta("Hi"), TextDelta("!"), stop(Usage(3, 2))])
        )
    )
    assert (whole["response"], whole["thinking"], whole["eval_count"]) == ("Hi!", "hm", 2)


def test_a_logprob_that_is_no_number_is_the_lowest_there_is() -> None:
    tokens = (TokenLogprob("a", float("nan")), TokenLogprob("b", float("-inf")))
    line, _ = lines(encoder().feed([TextDelta("ab", tokens), stop()]))
    assert [token["logprob"] for token in line["logprobs"]] == [-9999.0, -9999.0]
