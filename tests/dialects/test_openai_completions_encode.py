import json
import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion as OpenAICompletion

from gateway.config.schema import Generation, Limits
from gateway.core import errors
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    fold,
)
from gateway.dialects.base import ReplyHead
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_completions_encode import CompletionsEncoder, Shape

from .openai_stream import payloads
from .test_openai_chat_encode import NASTY, text, usages

HEAD = ReplyHead(id="0123abcd", created=1_700_000_000, model="llama3.2:latest")
TOP = {
    "id": "cmpl-0123abcd",
    "object": "text_completion",
    "created": 1_700_000_000,
    "model": "llama3.2:latest",
}


def encoder(prompts: Sequence[str] = ("",), **shape: Any) -> CompletionsEncoder:
    shape.setdefault("drawn", shape.get("n", 1))
    return CompletionsEncoder(HEAD, Shape(prompts=tuple(prompts), **shape))


def stop(usage: Usage | None = None, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(reason, usage or Usage())


def token(text: str, logprob: float = -1.0, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(text, logprob, text.encode(), top)


def said(word: str, logprob: float) -> list[Event]:
    """An answer of one token."""
    return [TextDelta(word, (token(word, logprob),)), stop(Usage(3, 1))]


@attrs.define
class Seen:
    """What a client has read of a stream.

    Attributes:
        texts: By index of the choice.
        reasons: By index of the choice, in the order in which they came.
    """

    texts: dict[int, str] = attrs.field(factory=dict)
    reasons: dict[int, str] = attrs.field(factory=dict)
    usage: Any = None
    done: bool = False
    error: Any = None


def read(data: bytes, step: int | None = None) -> Seen:
    """Raises AssertionError when the stream is not as openai-python expects it."""
    seen = Seen()
    for payload in payloads(data, step):
        assert not seen.done, "a record after [DONE]"
        assert seen.error is None, "a record after the error"
        if payload == b"[DONE]":
            seen.done = True
            continue
        document = json.loads(payload)
        if "error" in document:
            seen.error = document["error"]
            continue
        assert {name: document[name] for name in TOP} == TOP
        if not document["choices"]:
            assert seen.usage is None
            seen.usage = document["usage"]
            continue
        assert seen.usage is None, "a choice after the usage"
        (choice,) = document["choices"]
        assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
        index = choice["index"]
        assert index not in seen.reasons, "a piece of a choice that has ended"
        seen.texts[index] = seen.texts.get(index, "") + choice["text"]
        if choice["finish_reason"] is not None:
            seen.reasons[index] = choice["finish_reason"]
    return seen


def whole(writer: CompletionsEncoder, events: Sequence[Event]) -> Any:
    document = json.loads(writer.reply(fold(events)))
    OpenAICompletion.model_validate(document)
    return document


# --- Streams ------------------------------------------------------------------------

answers = st.tuples(
    st.lists(st.builds(TextDelta, text), max_size=6),
    st.builds(Finished, st.sampled_from(FinishReason), usages),
)


@pytest.mark.slow
@given(
    prompts=st.lists(text, min_size=1, max_size=3),
    n=st.integers(1, 2),
    data=st.data(),
    include_usage=st.booleans(),
    batch=st.integers(1, 5),
)
@settings(deadline=None)
def test_a_stream_says_what_the_whole_answer_does(
    prompts: list[str], n: int, data: st.DataObject, include_usage: bool, batch: int
) -> None:
    count = n * len(prompts)
    parts = data.draw(st.lists(answers, min_size=count, max_size=count))
    events: list[Event] = []
    for part, finished in parts:
        events += [*part, finished]
    shape: dict[str, Any] = {"n": n, "include_usage": include_usage}
    writer = encoder(prompts, **shape)
    stream = b"".join(writer.feed(events[at : at + batch]) for at in range(0, len(events), batch))
    seen = read(stream)
    assert seen.done
    reply = whole(encoder(prompts, **shape), events)
    assert list(seen.texts.values()) == [choice["text"] for choice in reply["choices"]]
    assert list(seen.reasons.values()) == [choice["finish_reason"] for choice in reply["choices"]]
    assert [choice["index"] for choice in reply["choices"]] == list(range(count))
    assert seen.usage == (reply["usage"] if include_usage else None)
    for index, choice in enumerate(reply["choices"]):
        assert choice["text"].startswith(prompts[index // n])


def test_a_stream_is_what_openai_sends() -> None:
    data = encoder(include_usage=True).feed([TextDelta("Hi"), stop(Usage(3, 1))])
    *records, done = payloads(data)
    assert done == b"[DONE]"
    piece: dict[str, object] = {"index": 0, "logprobs": None}
    assert [json.loads(record) for record in records] == [
        TOP | {"usage": None, "choices": [piece | {"text": "Hi", "finish_reason": None}]},
        TOP | {"usage": None, "choices": [piece | {"text": "", "finish_reason": "stop"}]},
        TOP
        | {
            "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        },
    ]


def test_without_include_usage_no_chunk_speaks_of_usage() -> None:
    assert b"usage" not in encoder().feed([TextDelta("Hi"), stop(Usage(3, 1))])


def test_no_events_are_no_bytes() -> None:
    assert encoder(["echoed"]).feed([]) == b""


@pytest.mark.parametrize("nasty", NASTY)
def test_no_token_can_end_a_record(nasty: str) -> None:
    data = encoder([f"{nasty}."]).feed([TextDelta(nasty), stop()])
    assert data.decode().splitlines().count("data: [DONE]") == 1
    assert len(data.decode().splitlines()) == 2 * 4  # echo, text, finish, [DONE]
    assert read(data).texts == {0: f"{nasty}.{nasty}"}


def test_a_stream_cut_at_every_byte_reads_the_same() -> None:
    data = encoder(["Grüße "]).feed([TextDelta("größe😀\u2028"), stop()])
    for step in range(1, 40):
        assert read(data, step).texts == {0: "Grüße größe😀\u2028"}


def test_what_has_no_place_here_is_left_out() -> None:
    events: list[Event] = [ReasoningDelta("hm"), ToolCallDelta(0, "c", "f", "{}"), TextDelta("so")]
    seen = read(encoder().feed([*events, stop(reason=FinishReason.TOOL_CALLS)]))
    assert (seen.texts, seen.reasons) == ({0: "so"}, {0: "stop"})


def test_each_prompt_is_echoed_before_each_of_its_answers() -> None:
    writer = encoder(["a", "b"], n=2)
    seen = read(b"".join(writer.feed([TextDelta(word), stop()]) for word in "1234"))
    assert seen.texts == {0: "a1", 1: "a2", 2: "b3", 3: "b4"}


@pytest.mark.parametrize("events", [[], [TextDelta("half an ans")]])
def test_a_broken_stream_ends_with_an_error_and_without_done(events: list[Event]) -> None:
    writer = encoder()
    data = writer.feed(events) + writer.fail(errors.UpstreamDisconnected("The engine went away."))
    seen = read(data)
    assert seen.error["code"] == "backend_error"
    assert (seen.done, seen.reasons) == (False, {})


# --- Whole replies ------------------------------------------------------------------


def test_a_reply_is_what_openai_sends() -> None:
    assert whole(encoder(), [TextDelta("Hi"), stop(Usage(3, 1, cached=2))]) == TOP | {
        "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


def test_usage_sums_over_prompts_and_counts_each_prompt_once() -> None:
    events = [stop(usage) for usage in (Usage(3, 1), Usage(3, 2), Usage(5, 4), Usage(5, 8))]
    reply = whole(encoder(["", ""], n=2), events)
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (8, 15)


# --- The best of several ------------------------------------------------------------


def test_of_all_that_was_drawn_the_likeliest_come_back_best_first() -> None:
    events = said("bad", -5.0) + said("best", -1.0) + said("good", -2.0)
    reply = whole(encoder(n=2, drawn=3), events)
    assert [choice["text"] for choice in reply["choices"]] == ["best", "good"]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    # What was drawn has been paid for.
    assert reply["usage"]["completion_tokens"] == 3


def test_what_counts_is_the_mean_of_an_answers_tokens() -> None:
    long: list[Event] = [TextDelta("long", (token("lo", -1.0), token("ng", -1.0))), stop()]
    reply = whole(encoder(drawn=2), [*said("short", -1.5), *long])
    assert reply["choices"][0]["text"] == "long"


def test_each_prompt_has_its_own_best() -> None:
    events = said("a", -1.0) + said("b", -2.0) + said("c", -4.0) + said("d", -3.0)
    reply = whole(encoder(["1", "2"], drawn=2), events)
    assert [choice["text"] for choice in reply["choices"]] == ["1a", "2d"]


def test_where_no_logprobs_are_told_the_first_are_taken() -> None:
    events: list[Event] = [TextDelta("first"), stop(), TextDelta("second"), stop()]
    assert whole(encoder(drawn=2), events)["choices"][0]["text"] == "first"


@pytest.mark.parametrize("logprob", [math.nan, -math.inf])
def test_an_impossible_answer_is_the_worst(logprob: float) -> None:
    reply = whole(encoder(drawn=2), said("odd", logprob) + said("plain", -9.0))
    assert reply["choices"][0]["text"] == "plain"


def test_the_logprobs_that_chose_are_not_shown_unasked() -> None:
    (choice,) = whole(encoder(drawn=2), said("a", -1.0) + said("b", -2.0))["choices"]
    assert choice["logprobs"] is None


# --- Logprobs -----------------------------------------------------------------------


def test_tokens_are_told_in_four_lists_side_by_side() -> None:
    first = token(" a", -1.0, token(" a", -1.0), token(" b", -2.0), token(" c", -3.0))
    second = token(" d", -4.0, token(" e", -0.5), token(" f", -1.5))
    reply = whole(encoder(logprobs=2), [TextDelta(" a d", (first, second)), stop()])
    assert reply["choices"][0]["logprobs"] == {
        "tokens": [" a", " d"],
        "token_logprobs": [-1.0, -4.0],
        # The token itself is always among them, as OpenAI has it.
        "top_logprobs": [{" a": -1.0, " b": -2.0}, {" e": -0.5, " f": -1.5, " d": -4.0}],
        "text_offset": [0, 2],
    }


def test_none_of_the_alternatives_is_told_where_none_are_wanted() -> None:
    reply = whole(encoder(logprobs=0), [TextDelta("a", (token("a", -1.0, token("a")),)), stop()])
    assert reply["choices"][0]["logprobs"]["top_logprobs"] is None


def test_an_impossible_token_has_the_lowest_logprob_that_json_can_say() -> None:
    odd = token("a", -math.inf, token("b", math.nan))
    lists = whole(encoder(logprobs=1), [TextDelta("a", (odd,)), stop()])["choices"][0]["logprobs"]
    assert lists["token_logprobs"] == [-9999.0]
    assert lists["top_logprobs"] == [{"b": -9999.0, "a": -9999.0}]


def test_a_part_of_a_character_is_spelled_in_bytes_and_begins_where_the_character_does() -> None:
    smile = "😀".encode()
    parts = (
        TokenLogprob("x", -1.0, b"x"),
        TokenLogprob("\ufffd", -1.0, smile[:2]),
        TokenLogprob("\ufffd", -1.0, smile[2:]),
        TokenLogprob("y", -1.0, b"y"),
    )
    reply = whole(encoder(logprobs=0), [TextDelta("x😀y", parts), stop()])
    assert reply["choices"][0]["logprobs"]["tokens"] == [
        "x",
        r"bytes:\xf0\x9f",
        r"bytes:\x98\x80",
        "y",
    ]
    assert reply["choices"][0]["logprobs"]["text_offset"] == [0, 1, 1, 2]


def test_offsets_go_on_over_the_chunks_of_a_choice_and_begin_anew_with_the_next() -> None:
    writer = encoder(n=2, logprobs=0)
    data = b""
    for _ in range(2):
        data += writer.feed([TextDelta("ab", (token("ab"),))])
        data += writer.feed([TextDelta("c", (TokenLogprob("c", -1.0),)), stop()])
    offsets = [
        choice["logprobs"]["text_offset"]
        for record in payloads(data)[:-1]
        for choice in json.loads(record)["choices"]
        if choice["logprobs"]
    ]
    assert offsets == [[0], [2], [0], [2]]


# --- The dialect ---------------------------------------------------------------------


def test_the_encoder_follows_what_was_asked() -> None:
    dialect = OpenAICompletions(Limits(), Generation())
    body = {"model": "m", "prompt": ["a", "b"], "echo": True, "stream": True}
    parsed = dialect.parse(json.dumps(body).encode())
    writer = dialect.encoder(parsed, HEAD)
    first = writer.feed([TextDelta("1"), stop()])
    assert not read(first).done
    assert read(first + writer.feed([TextDelta("2"), stop()])).texts == {0: "a1", 1: "b2"}
