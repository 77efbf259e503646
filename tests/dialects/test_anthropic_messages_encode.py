import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.schema import Generation, Limits
from gateway.core import errors
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    fold,
)
from gateway.dialects.anthropic_messages import AnthropicMessages, MessagesParsed
from gateway.dialects.anthropic_messages_encode import MessagesEncoder
from gateway.dialects.base import ReplyHead

from .anthropic_stream import Stream, decode, events

HEAD = ReplyHead(id="0123abcd", created=0, model="llama3.2:latest", request_id="req-1")

NASTY = ["\n\nevent: message_stop\ndata: {}\n\n", "\r\n", "\x00", "\u2028", "\x85", '"\\', "😀", ""]

text = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, st.none() | counts, st.none() | counts)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Text, thoughts and calls in any order; the pieces of one call come together."""
    said: list[Event] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from("ttrrc"), max_size=8)):
        if kind == "t":
            said.append(TextDelta(draw(text)))
        elif kind == "r":
            said.append(ReasoningDelta(draw(text)))
        else:
            arguments = json.dumps(draw(st.dictionaries(text, text, max_size=2)))
            cut = draw(st.integers(0, len(arguments)))
            said.append(ToolCallDelta(calls, f"call_{calls}", "f", arguments[:cut]))
            said.append(ToolCallDelta(calls, None, None, arguments[cut:]))
            calls += 1
    reason = draw(st.sampled_from(FinishReason))
    return [*said, Finished(reason, draw(usages))]


def encoder(*, prompt_tokens: int = 0, show_thinking: bool = True) -> MessagesEncoder:
    return MessagesEncoder(HEAD, prompt_tokens=prompt_tokens, show_thinking=show_thinking)


def streamed(*said: Event, batch: int = 1, **options: Any) -> Stream:
    writer = encoder(**options)
    return decode(b"".join(writer.feed(said[at : at + batch]) for at in range(0, len(said), batch)))


def replied(*said: Event, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encoder(**options).reply(fold(said)))
    return document


def stop(usage: Usage | None = None, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(reason, usage or Usage())


def call(arguments: str, index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(index, f"call_{index}", "weather", arguments)


# --- Streams ---------------------------------------------------------------------------


@pytest.mark.slow
@given(answers(), st.integers(1, 6))
@settings(deadline=None)
def test_however_it_arrives_a_stream_is_the_same_and_says_what_the_whole_reply_says(
    said: list[Event], batch: int
) -> None:
    stream = streamed(*said, batch=batch)
    once = streamed(*said, batch=len(said))
    assert stream.message == once.message
    assert stream.done
    reply = replied(*said)
    blocks = reply.pop("content")
    for kind, member in (("text", "text"), ("thinking", "thinking")):
        whole = [block[member] for block in blocks if block["type"] == kind]
        assert stream.texts(kind, member) == "".join(whole)
    calls = [block for block in stream.content if block["type"] == "tool_use"]
    for block in calls:
        block["input"] = json.loads(block.pop("json"))
    assert calls == [block for block in blocks if block["type"] == "tool_use"]
    del stream.message["content"]
    assert stream.message == reply


def test_a_stream_is_what_anthropic_sends() -> None:
    usage = Usage(prompt=10, completion=3, cached=4)
    data = encoder(prompt_tokens=12).feed([TextDelta("Hi"), TextDelta(" you"), stop(usage)])
    assert events(data) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_0123abcd",
                "type": "message",
                "role": "assistant",
                "model": "llama3.2:latest",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 12,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        },
        {"type": "ping"},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hi"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": " you"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4,
                "output_tokens": 3,
            },
        },
        {"type": "message_stop"},
    ]


def test_thoughts_text_and_calls_are_blocks_one_after_the_other() -> None:
    stream = streamed(
        ReasoningDelta("Hm"),
        ReasoningDelta("…"),
        TextDelta("Let me see."),
        call('{"city":'),
        ToolCallDelta(0, None, None, '"Oslo"}'),
        call("{}", 1),
        Finished(FinishReason.TOOL_CALLS),
    )
    assert stream.content == [
        {"type": "thinking", "thinking": "Hm…", "signature": "unsigned"},
        {"type": "text", "text": "Let me see."},
        {
            "type": "tool_use",
            "id": "call_0",
            "name": "weather",
            "input": {},
            "json": '{"city":"Oslo"}',
        },
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}, "json": "{}"},
    ]
    assert stream.message["stop_reason"] == "tool_use"


def test_an_answer_of_nothing_has_no_blocks() -> None:
    for said in ([stop()], [TextDelta(""), ReasoningDelta(""), stop()]):
        stream = streamed(*said)
        assert stream.content == []
        assert stream.done
        assert replied(*said)["content"] == []


def test_no_events_are_no_bytes() -> None:
    assert encoder().feed([]) == b""


@pytest.mark.parametrize("token", NASTY)
def test_no_token_can_end_a_record(token: str) -> None:
    data = encoder().feed([TextDelta("x"), TextDelta(token), call(token), stop()])
    assert data.decode().splitlines().count("event: message_stop") == 1
    assert decode(data).texts("text", "text") == f"x{token}"


def test_a_stop_that_is_a_call_is_told_as_one() -> None:
    # A call that was asked for by name ends with `stop` in OpenAI's API.
    assert streamed(call("{}"), stop()).message["stop_reason"] == "tool_use"
    assert replied(call("{}"), stop())["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.STOP, "end_turn"),
        (FinishReason.LENGTH, "max_tokens"),
        (FinishReason.TOOL_CALLS, "tool_use"),
        (FinishReason.CONTENT_FILTER, "refusal"),
    ],
)
def test_why_an_answer_ended(reason: FinishReason, told: str) -> None:
    assert streamed(TextDelta("x"), Finished(reason)).message["stop_reason"] == told
    assert replied(TextDelta("x"), Finished(reason))["stop_reason"] == told


def test_thoughts_that_are_not_wanted_are_not_shown_but_counted() -> None:
    said: list[Event] = [
        ReasoningDelta("Hm"),
        ReasoningDelta("…"),
        TextDelta("Yes"),
        stop(Usage(1, 9, None, 8)),
    ]
    stream = streamed(*said, show_thinking=False)
    assert stream.content == [{"type": "text", "text": "Yes"}]
    # While it thinks the client sees that it goes on.
    assert stream.names.count("ping") == 2
    reply = replied(*said, show_thinking=False)
    assert reply["content"] == [{"type": "text", "text": "Yes"}]
    assert reply["usage"]["output_tokens"] == 9
    assert reply["usage"]["output_tokens_details"] == {"thinking_tokens": 8}


def test_an_event_after_the_end_is_our_own_fault() -> None:
    writer = encoder()
    writer.feed([stop()])
    with pytest.raises(AssertionError):
        writer.feed([TextDelta("late")])


@pytest.mark.parametrize("again", [call("{}"), ToolCallDelta(0, None, None, "}")])
def test_a_call_that_goes_on_after_the_next_has_begun_breaks_the_stream(again: Event) -> None:
    writer = encoder()
    writer.feed([call("{"), call("{}", 1)])
    with pytest.raises(errors.UpstreamBadResponse):
        writer.feed([again])


# --- Streams that break -----------------------------------------------------------------


@pytest.mark.parametrize("said", [[], [TextDelta("half an ans")], [call('{"ci')]])
def test_a_broken_stream_ends_with_an_error_and_never_looks_finished(said: list[Event]) -> None:
    writer = encoder()
    data = writer.feed(said) + writer.fail(errors.UpstreamDisconnected("The engine went away."))
    stream = decode(data)
    assert stream.error == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "The engine went away.",
            "details": {"error_code": "backend_error"},
        },
        "request_id": "req-1",
    }
    assert not stream.done
    assert "message_delta" not in stream.names


# --- Whole replies ----------------------------------------------------------------------


def test_a_whole_reply_is_a_message() -> None:
    said: list[Event] = [
        ReasoningDelta("Hm"),
        TextDelta("Oslo?"),
        call('{"city":"Oslo"}'),
        stop(Usage(5, 2)),
    ]
    assert replied(*said) == {
        "id": "msg_0123abcd",
        "type": "message",
        "role": "assistant",
        "model": "llama3.2:latest",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "unsigned"},
            {"type": "text", "text": "Oslo?"},
            {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Oslo"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    }


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"city":"Os', {"INVALID_JSON": '{"city":"Os'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("null", {"INVALID_JSON": "null"}),
        ("weather(Oslo)", {"INVALID_JSON": "weather(Oslo)"}),
    ],
)
def test_an_input_is_an_object_whatever_the_model_wrote(arguments: str, input: object) -> None:
    (block,) = replied(call(arguments), stop())["content"]
    assert block["input"] == input


@pytest.mark.parametrize(
    ("usage", "fresh", "cached"),
    [(Usage(10, 1, cached=4), 6, 4), (Usage(10, 1), 10, 0), (Usage(3, 1, cached=9), 0, 3)],
)
def test_what_was_cached_is_counted_by_itself(usage: Usage, fresh: int, cached: int) -> None:
    counts = replied(stop(usage))["usage"]
    assert counts["input_tokens"] == fresh
    assert counts["cache_read_input_tokens"] == cached


# --- The dialect --------------------------------------------------------------------------


def test_the_encoder_follows_what_was_asked() -> None:
    dialect = AnthropicMessages(Limits(), Generation())
    request = GenerateRequest(model="m", stream=True)
    writer = dialect.encoder(MessagesParsed(request=request, show_thinking=False), HEAD)
    assert decode(writer.feed([ReasoningDelta("Hm"), stop()])).content == []
