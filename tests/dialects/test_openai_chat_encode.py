import functools
import json
import operator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from gateway.config.schema import Generation, Limits
from gateway.core import errors
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    fold,
)
from gateway.dialects import openai_errors
from gateway.dialects.base import ReplyHead
from gateway.dialects.openai_chat import ChatParsed, OpenAIChat
from gateway.dialects.openai_chat_encode import ChatEncoder

from .openai_stream import Stream, decode, payloads

HEAD = ReplyHead(id="0123abcd", created=1_700_000_000, model="llama3.2:latest")

NASTY = [
    "\n\ndata: [DONE]\n\n",
    "data: {}\r\n\r\n",
    "\x00",
    "\x1b[31m",
    "\u2028",
    "\u2029",
    "\x85",
    '"\\',
    "\ufffd",
    "😀",
    "\r",
    "",
]

text = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, st.none() | counts, st.none() | counts)
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
    st.builds(TextDelta, text, st.lists(logprobs, max_size=3).map(tuple)),
    st.builds(ReasoningDelta, text),
    # A call as the wire has it: the name first, without arguments, then the arguments.
    st.builds(ToolCallDelta, st.integers(0, 9), text, text, st.just("")),
    st.builds(ToolCallDelta, st.integers(0, 9), st.none(), st.none(), text),
)
answers = st.tuples(
    st.lists(deltas, max_size=8),
    st.builds(Finished, st.sampled_from(FinishReason), usages, st.just(Timings(total_s=1.5))),
)


def encoder(choices: int = 1, *, include_usage: bool = False) -> ChatEncoder:
    return ChatEncoder(HEAD, choices=choices, include_usage=include_usage)


def on_the_wire(events: list[Event]) -> list[Event]:
    """The same events without what no stream carries."""
    return [
        attrs.evolve(event, usage=Usage(), timings=Timings())
        if isinstance(event, Finished)
        else event
        for event in events
    ]


def stop(usage: Usage | None = None) -> Finished:
    return Finished(FinishReason.STOP, usage or Usage())


# --- Streams ------------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(answers, min_size=1, max_size=3), st.booleans(), st.integers(1, 5))
@settings(deadline=None)
def test_decoding_a_stream_gives_back_its_events(
    parts: list[tuple[list[Event], Finished]], include_usage: bool, batch: int
) -> None:
    events: list[Event] = [event for part, finished in parts for event in (*part, finished)]
    writer = encoder(len(parts), include_usage=include_usage)
    data = b"".join(writer.feed(events[at : at + batch]) for at in range(0, len(events), batch))
    stream = decode(data)
    assert stream.events == on_the_wire(events)
    assert stream.done
    total = functools.reduce(operator.add, (finished.usage for _, finished in parts))
    assert stream.usage == (total if include_usage else None)


def test_a_stream_is_what_openai_sends() -> None:
    data = encoder(include_usage=True).feed([TextDelta("Hi"), stop(Usage(3, 1, cached=2))])
    chunk = {
        "id": "chatcmpl-0123abcd",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "llama3.2:latest",
        "usage": None,
    }

    def choice(delta: object, reason: str | None = None) -> dict[str, object]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    *records, done = payloads(data)
    assert done == b"[DONE]"
    assert [json.loads(record) for record in records] == [
        chunk | {"choices": [choice({"role": "assistant", "content": ""})]},
        chunk | {"choices": [choice({"content": "Hi"})]},
        chunk | {"choices": [choice({}, "stop")]},
        chunk
        | {
            "choices": [],
            "usage": {
                "prompt_tokens": 3,
                "completion_tokens": 1,
                "total_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 2},
            },
        },
    ]


def test_without_include_usage_no_chunk_speaks_of_usage() -> None:
    stream = decode(encoder().feed([TextDelta("Hi"), stop(Usage(3, 1))]))
    assert not any("usage" in chunk for chunk in stream.chunks)


def test_no_events_are_no_bytes() -> None:
    assert encoder().feed([]) == b""


def test_an_answer_without_any_delta_is_still_a_whole_stream() -> None:
    stream = decode(encoder().feed([stop()]))
    assert stream.events == [stop()]
    assert stream.done


@pytest.mark.parametrize("token", NASTY)
def test_no_token_can_end_a_record(token: str) -> None:
    data = encoder().feed([TextDelta(token), ReasoningDelta(token), stop()])
    assert data.decode().splitlines().count("data: [DONE]") == 1
    assert len(data.decode().splitlines()) == 2 * 5  # role, text, reasoning, finish, [DONE]
    assert decode(data).events[:2] == [TextDelta(token), ReasoningDelta(token)]


def test_a_stream_cut_at_every_byte_reads_the_same() -> None:
    events: list[Event] = [TextDelta("größe😀\u2028"), ReasoningDelta("…"), stop()]
    data = encoder(include_usage=True).feed(events)
    for step in range(1, 40):
        assert decode(data, step).events == events


def test_a_whole_tool_call_opens_with_its_name_and_then_gives_its_arguments() -> None:
    whole = ToolCallDelta(0, "call_1", "weather", '{"city":"Oslo"}')
    stream = decode(encoder().feed([whole, Finished(FinishReason.TOOL_CALLS)]))
    assert stream.events == [
        ToolCallDelta(0, "call_1", "weather", ""),
        ToolCallDelta(0, None, None, '{"city":"Oslo"}'),
        Finished(FinishReason.TOOL_CALLS),
    ]
    assert fold(stream.events) == fold([whole, Finished(FinishReason.TOOL_CALLS)])


def test_choices_follow_each_other_and_end_once() -> None:
    usage = Usage(5, 2, reasoning=1)
    writer = encoder(3, include_usage=True)
    data = b"".join(writer.feed([TextDelta(word), stop(usage)]) for word in "abc")
    stream = decode(data)
    assert [c["index"] for chunk in stream.chunks for c in chunk["choices"]] == (  # type: ignore[attr-defined]
        [0] * 3 + [1] * 3 + [2] * 3
    )
    assert data.count(b"[DONE]") == 1
    assert stream.usage == Usage(5, 6, reasoning=3)


def test_an_event_after_the_end_is_our_own_fault() -> None:
    writer = encoder()
    writer.feed([stop()])
    with pytest.raises(AssertionError):
        writer.feed([TextDelta("late")])


@pytest.mark.parametrize("logprob", [float("-inf"), float("nan"), -1e308])
def test_an_impossible_token_has_the_lowest_logprob_that_json_can_say(logprob: float) -> None:
    event = TextDelta("a", (TokenLogprob("a", logprob),))
    (first, _) = decode(encoder().feed([event, stop()])).events
    assert first == TextDelta("a", (TokenLogprob("a", -9999.0),))


# --- Streams that break -----------------------------------------------------------


@pytest.mark.parametrize("events", [[], [TextDelta("half an ans")]])
def test_a_broken_stream_ends_with_an_error_and_without_done(events: list[Event]) -> None:
    writer = encoder()
    data = writer.feed(events) + writer.fail(errors.UpstreamDisconnected("The engine went away."))
    stream = decode(data)
    assert stream == Stream(
        events=events,
        chunks=stream.chunks,
        error={
            "message": "The engine went away.",
            "type": "api_error",
            "param": None,
            "code": "backend_error",
        },
    )
    assert b"[DONE]" not in data
    assert b'"finish_reason":"' not in data


# --- Whole replies ------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(answers, min_size=1, max_size=3))
@settings(deadline=None)
def test_a_reply_says_what_the_stream_would(parts: list[tuple[list[Event], Finished]]) -> None:
    completions = fold([event for part, finished in parts for event in (*part, finished)])
    reply = ChatCompletion.model_validate(json.loads(encoder(len(parts)).reply(completions)))
    assert reply.id == "chatcmpl-0123abcd"
    assert reply.model == HEAD.model
    assert [choice.index for choice in reply.choices] == list(range(len(parts)))
    for choice, completion in zip(reply.choices, completions, strict=True):
        assert (choice.message.content or "") == completion.text
        assert getattr(choice.message, "reasoning_content", "") == completion.reasoning
        assert choice.finish_reason == completion.finished.reason.value
        assert [
            (call.id, call.function.name, call.function.arguments)  # type: ignore[union-attr]
            for call in choice.message.tool_calls or ()
        ] == [(call.id, call.name, call.arguments) for call in completion.tool_calls]
        assert (choice.logprobs is None) == (completion.logprobs is None)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(
        completion.finished.usage.completion for completion in completions
    )


def test_a_reply_of_text_has_nothing_that_was_not_asked_for() -> None:
    reply = json.loads(encoder().reply(fold([TextDelta("Hi"), stop(Usage(3, 1))])))
    assert reply == {
        "id": "chatcmpl-0123abcd",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "llama3.2:latest",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def test_content_is_null_when_the_answer_is_all_calls() -> None:
    call = ToolCallDelta(0, "call_1", "weather", "{}")
    reply = json.loads(encoder().reply(fold([call, Finished(FinishReason.TOOL_CALLS)])))
    message = reply["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ]


def test_an_empty_answer_has_empty_content() -> None:
    reply = json.loads(encoder().reply(fold([stop()])))
    assert reply["choices"][0]["message"]["content"] == ""


def test_details_of_usage_are_shown_where_they_are_known() -> None:
    usage = Usage(10, 5, cached=4, reasoning=2)
    reply = json.loads(encoder().reply(fold([TextDelta("x"), stop(usage)])))
    assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


# --- The dialect ---------------------------------------------------------------------


def test_the_encoder_follows_what_was_asked() -> None:
    dialect = OpenAIChat(Limits(), Generation())
    request = GenerateRequest(model="m", messages=(), n=2, stream=True)
    writer = dialect.encoder(ChatParsed(request=request, include_usage=True), HEAD)
    first = writer.feed([stop(Usage(2, 1))])
    assert not decode(first).done
    stream = decode(first + writer.feed([stop(Usage(2, 1))]))
    assert stream.done
    assert stream.usage == Usage(2, 2)


def test_an_error_is_in_openais_envelope() -> None:
    error = errors.InvalidRequest("no", param="n")
    body = json.loads(openai_errors.ENVELOPE.body(error, "req-1"))
    assert openai_errors.ENVELOPE.status(error) == 422
    assert body["error"]["param"] == "n"
    assert body["error"]["type"] == "invalid_request_error"
