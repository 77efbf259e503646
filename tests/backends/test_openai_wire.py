import json
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.openai_wire import (
    LLAMA_CPP_EXTENSIONS,
    ChatReader,
    chat_body,
    unsupported,
)
from gateway.core.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    ReasoningDelta,
    Role,
    Sampling,
    TextDelta,
    TextPart,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    fold,
)

DATA = Path(__file__).parent.parent / "data"
HELLO = Message(Role.USER, "hello")
DONE = b"data: [DONE]\n\n"


def body(messages: tuple[Message, ...] = (HELLO,), **fields: Any) -> dict[str, Any]:
    request = GenerateRequest(model="m", messages=messages, **fields)
    document: dict[str, Any] = json.loads(chat_body(request, LLAMA_CPP_EXTENSIONS))
    return document


def reader() -> ChatReader:
    ids = iter(range(100))
    return ChatReader(event_bytes_max=1000, new_id=lambda: f"made_{next(ids)}")


def events_of(*pieces: bytes) -> list[Event]:
    """All events of an answer that comes in these pieces and then ends."""
    chat = reader()
    events: list[Event] = []
    for piece in pieces:
        events += chat.feed(piece)
        if events and isinstance(events[-1], Finished):
            return events
    return events + chat.end()


def record(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def delta(finish_reason: str | None = None, logprobs: object = None, **fields: Any) -> bytes:
    return record(
        {
            "choices": [
                {
                    "index": 0,
                    "delta": fields,
                    "finish_reason": finish_reason,
                    "logprobs": logprobs,
                }
            ]
        }
    )


def text(content: str) -> bytes:
    return delta(content=content)


STOP = delta("stop")

# --- What is asked ------------------------------------------------------------------


def test_what_the_caller_did_not_set_is_not_sent() -> None:
    assert body() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_parameter_is_sent() -> None:
    sent = body(
        sampling=Sampling(
            temperature=0.0,
            top_p=0.9,
            top_k=4,
            min_p=0.1,
            seed=0,
            stop=("a",),
            presence_penalty=0.5,
            frequency_penalty=1.0,
            repeat_penalty=1.1,
            logit_bias={"1": 2.0},
        ),
        max_tokens=7,
        n=3,
        logprobs=0,
        reasoning_effort="low",
        extensions={"mirostat": 1, "keep_alive": "1m", "num_ctx": 5},
    )
    for name in ("messages", "model", "stream", "stream_options"):
        del sent[name]
    assert sent == {
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "seed": 0,
        "stop": ["a"],
        "presence_penalty": 0.5,
        "frequency_penalty": 1.0,
        "repeat_penalty": 1.1,
        "repetition_penalty": 1.1,
        "logit_bias": {"1": 2.0},
        "max_tokens": 7,
        "logprobs": True,
        "top_logprobs": 1,
        "reasoning_effort": "low",
        "mirostat": 1,
    }


def test_tools_are_sent_with_what_is_wanted_of_them() -> None:
    tools = (Tool("f", "does f", {"type": "object"}, strict=True), Tool("g"))
    sent = body(tools=tools, tool_choice=NamedTool("f"), parallel_tool_calls=False)
    assert sent["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "does f",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert sent["parallel_tool_calls"] is False
    assert body(tools=tools, tool_choice="required")["tool_choice"] == "required"
    assert "tool_choice" not in body(tools=tools)


def test_an_output_format_is_sent_as_openai_writes_it() -> None:
    assert body(output_format=JsonObject())["response_format"] == {"type": "json_object"}
    schema = JsonSchema({"type": "object"}, name="thing", strict=False)
    assert body(output_format=schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "thing", "schema": {"type": "object"}, "strict": False},
    }


def test_a_conversation_with_tools_and_images_is_sent_whole() -> None:
    messages = (
        Message(Role.USER, (TextPart("see"), ImagePart("aGk=", "image/png")), name="ann"),
        Message(Role.ASSISTANT, reasoning="hm", tool_calls=(ToolCall("c1", "f", '{"a":1}'),)),
        Message(Role.TOOL, "7", tool_call_id="c1"),
    )
    assert body(messages)["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
            "name": "ann",
        },
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            ],
        },
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
    ]


def test_what_only_ollama_knows_is_named() -> None:
    params = frozenset({"temperature", "num_ctx", "keep_alive", "mirostat"})
    request = GenerateRequest(model="m", messages=(HELLO,), params=params)
    assert unsupported(request, LLAMA_CPP_EXTENSIONS) == ("keep_alive", "num_ctx")
    assert unsupported(request, frozenset()) == ("keep_alive", "mirostat", "num_ctx")


# --- What is answered -----------------------------------------------------------------


def test_a_recorded_answer_of_llama_cpp_is_read() -> None:
    (answer,) = fold(events_of((DATA / "llamacpp_logprobs.sse").read_bytes()))
    assert answer.text == "Hello there! I"
    assert answer.logprobs is not None
    assert answer.logprobs[0] == TokenLogprob(
        "Hello",
        -2.081272840499878,
        b"Hello",
        (
            TokenLogprob("Hello", -2.081272840499878, b"Hello"),
            TokenLogprob("I", -2.2841155529022217, b"I"),
        ),
    )
    finished = answer.finished
    assert finished.reason is FinishReason.LENGTH
    assert (finished.usage.prompt, finished.usage.completion) == (33, 4)
    assert finished.usage.cached is not None
    assert finished.timings.prefill_s
    assert finished.timings.decode_s
    assert finished.timings.total_s == finished.timings.prefill_s + finished.timings.decode_s


@pytest.mark.parametrize(("wanted", "told"), [(0, 0), (1, 1), (5, 2), (None, 2)])
def test_no_more_alternatives_are_told_than_wanted(wanted: int | None, told: int) -> None:
    recorded = (DATA / "llamacpp_logprobs.sse").read_bytes()
    chat = ChatReader(event_bytes_max=10_000, new_id=str, top_logprobs=wanted)
    (answer,) = fold(chat.feed(recorded))
    assert answer.logprobs is not None
    assert {len(token.top) for token in answer.logprobs} == {told}


def test_an_answer_may_be_cut_anywhere() -> None:
    records = (DATA / "llamacpp_chat.sse").read_bytes().split(b"\n\n")
    stream = b"\n\n".join([*records[:3], text("Grüße 😀").strip(), *records[-4:]])
    expected = events_of(stream)
    assert TextDelta("Grüße 😀") in expected
    for cut in range(1, len(stream)):
        assert events_of(stream[:cut], stream[cut:]) == expected
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == expected


@pytest.mark.parametrize(
    "said", ["\n\ndata: [DONE]\n\n", "a\rb", "nul\0", "\x1b[31m", "\u2028\u2029\u0085"]
)
def test_text_is_not_changed(said: str) -> None:
    assert events_of(text(said), STOP, DONE)[0] == TextDelta(said)


def test_half_a_character_becomes_the_replacement_character() -> None:
    half = b'data: {"choices":[{"delta":{"content":"a\\ud83dz"}}]}\n\n'
    assert events_of(half, STOP, DONE)[0] == TextDelta("a\ufffdz")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thought_is_read_by_either_name(name: str) -> None:
    assert events_of(delta(**{name: "hm"}), text("so"), STOP, DONE)[:2] == [
        ReasoningDelta("hm"),
        TextDelta("so"),
    ]


def test_logprobs_without_text_are_kept() -> None:
    logprobs = {"content": [{"token": "\ufffd", "logprob": -1.0, "bytes": [240]}]}
    event = events_of(delta(content="", logprobs=logprobs), STOP, DONE)[0]
    assert event == TextDelta("", (TokenLogprob("\ufffd", -1.0, b"\xf0"),))


def test_pieces_of_tool_calls_are_numbered_and_named_once() -> None:
    def piece(index: int | None, **fields: Any) -> bytes:
        return delta(tool_calls=[{"index": index, **fields}])

    events = events_of(
        piece(4, id="c1", function={"name": "f", "arguments": ""}),
        piece(4, function={"arguments": '{"a"'}),
        piece(4, id="c1", function={"name": "f", "arguments": ":1}"}),
        piece(9, function={"name": "g", "arguments": {"b": 2}}),
        delta("tool_calls"),
        DONE,
    )
    assert events[:-1] == [
        ToolCallDelta(0, "c1", "f", ""),
        ToolCallDelta(0, None, None, '{"a"'),
        ToolCallDelta(0, None, None, ":1}"),
        ToolCallDelta(1, "made_0", "g", '{"b":2}'),
    ]
    assert events[-1] == Finished(FinishReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("something new", FinishReason.STOP),
    ],
)
def test_each_reason_has_its_word(said: str, reason: FinishReason) -> None:
    assert events_of(delta(said), DONE) == [Finished(reason)]


def test_a_call_ends_an_answer_as_such_although_the_engine_says_stop() -> None:
    call = delta(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}])
    assert events_of(call, STOP, DONE)[-1] == Finished(FinishReason.TOOL_CALLS)


def test_usage_that_comes_after_the_reason_is_in_the_end() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    chat = reader()
    assert chat.feed(text("x") + STOP) == [TextDelta("x")]
    assert chat.feed(record({"choices": [], "usage": usage})) == []
    assert chat.feed(DONE) == [Finished(FinishReason.STOP, Usage(3, 4, cached=2, reasoning=1))]


def test_usage_may_come_without_choices() -> None:
    tail = record({"usage": {"completion_tokens": 4}})
    assert events_of(text("x"), STOP, tail, DONE)[-1] == Finished(FinishReason.STOP, Usage(0, 4))


@pytest.mark.parametrize("odd", [None, "12", -1, 1e308, {}, [1]], ids=repr)
def test_odd_counts_are_no_error(odd: object) -> None:
    usage = {"prompt_tokens": odd, "completion_tokens": odd, "prompt_tokens_details": odd}
    timings = {"prompt_ms": odd, "predicted_ms": odd, "cache_n": odd}
    tail = record({"choices": [], "usage": usage, "timings": timings})
    finished = events_of(text("x"), STOP, tail, DONE)[-1]
    assert finished == Finished(FinishReason.STOP, Usage(0, 0), Timings())


def test_what_comes_after_the_end_is_ignored() -> None:
    assert events_of(text("x") + STOP + DONE + DONE + text("y") + b"data: junk\n\n") == [
        TextDelta("x"),
        Finished(FinishReason.STOP),
    ]


def test_comments_other_fields_and_unknown_ones_are_ignored() -> None:
    odd = record({"choices": [{"delta": {"content": "x", "new": 1}}], "created": "yesterday"})
    events = events_of(b": ping\n\n", b"event: message\nid: 7\n", odd, STOP, DONE)
    assert events == [TextDelta("x"), Finished(FinishReason.STOP)]


@pytest.mark.parametrize(
    "pieces",
    [
        [text("x"), STOP],  # The reason is a sign of the end, too.
        [text("x"), DONE],  # So is the mark alone.
        [text("x"), STOP, b"data: [DONE]\n"],
        [text("x"), STOP, b"data: [DONE]"],
        [text("x"), STOP.rstrip(b"\n")],
    ],
)
def test_either_sign_ends_an_answer(pieces: list[bytes]) -> None:
    assert events_of(*pieces) == [TextDelta("x"), Finished(FinishReason.STOP)]


def test_an_answer_whose_connection_breaks_after_its_reason_is_whole() -> None:
    chat = reader()
    chat.feed(text("x"))
    assert chat.salvage() == []
    chat.feed(STOP)
    assert chat.salvage() == [Finished(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([text("x")], UpstreamDisconnected),
        ([], UpstreamBadResponse),
        ([b"\n\n: ping\n\n"], UpstreamBadResponse),
        ([b"<html><body>502</body></html>\n"], UpstreamBadResponse),
        ([b'{"choices":[{"message":{"content":"whole"}}]}'], UpstreamBadResponse),
        ([DONE], UpstreamBadResponse),
        ([text("x"), b"data: junk\n\n", STOP, DONE], UpstreamBadResponse),
        ([text("x"), b'data: {"choices":[{"del'], UpstreamBadResponse),
        ([b"data: []\n\n"], UpstreamBadResponse),
        ([b"data: {}\n\n"], UpstreamBadResponse),
        ([record({"choices": [{"delta": {"content": 7}}]})], UpstreamBadResponse),
        ([text("x" * 2000)], UpstreamBadResponse),
        ([b"data: " + b"x" * 600, b"x" * 600], UpstreamBadResponse),
        ([text("x"), record({"error": {"message": "at /root/x", "code": 500}})], UpstreamFailed),
        ([record({"error": "x"})], UpstreamFailed),
        ([record({"error": {"message": "x"}}), DONE], UpstreamFailed),
        ([record({"error": {"type": "exceed_context_size_error"}})], ContextLengthExceeded),
        ([text("x"), delta("abort"), DONE], UpstreamFailed),
    ],
)
def test_a_broken_answer_is_never_whole(pieces: list[bytes], error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        events_of(*pieces)
    assert type(caught.value) is error
    assert "root" not in caught.value.message


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        (" ", "{}"),
        ('{"a":', '{"INVALID_JSON":"{\\"a\\":"}'),
        ("[1]", '{"INVALID_JSON":"[1]"}'),
    ],
)
def test_arguments_are_sent_as_written_where_they_are_an_object(written: str, sent: str) -> None:
    message = Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "f", written),))
    (call,) = body((HELLO, message))["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == sent


def test_the_likeliest_token_alone_is_asked_for_in_words_that_every_engine_takes() -> None:
    sent = body(sampling=Sampling(top_p=0.0))
    assert 0 < sent["top_p"] < 0.001
