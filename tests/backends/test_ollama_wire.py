import json
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.ollama_wire import ChatReader, canonical, chat_body, unsupported
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


def body(messages: tuple[Message, ...] = (HELLO,), **fields: Any) -> dict[str, Any]:
    request = GenerateRequest(model="m", messages=messages, **fields)
    document: dict[str, Any] = json.loads(chat_body(request, "m:latest"))
    return document


def reader() -> ChatReader:
    ids = iter(range(100))
    return ChatReader(line_bytes_max=1000, new_id=lambda: f"call_{next(ids)}")


def events_of(*pieces: bytes) -> list[Event]:
    """All events of an answer that comes in these pieces and then ends."""
    chat = reader()
    events: list[Event] = []
    for piece in pieces:
        events += chat.feed(piece)
        if events and isinstance(events[-1], Finished):
            return events
    return events + chat.end()


def line(content: str = "", **more: Any) -> bytes:
    return json.dumps({"message": {"content": content}, "done": False, **more}).encode() + b"\n"


def done(**more: Any) -> bytes:
    return line(done=True, **{"done_reason": "stop", **more})


# --- Names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("hf.co/a/b", "hf.co/a/b:latest"),
        ("hf.co/a/b:Q4", "hf.co/a/b:Q4"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
    ],
)
def test_a_model_without_a_tag_is_the_latest(model: str, name: str) -> None:
    assert canonical(model) == name


# --- What is asked ------------------------------------------------------------------


def test_what_the_caller_did_not_set_is_not_sent() -> None:
    assert body() == {
        "model": "m:latest",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
        "shift": False,
    }


def test_every_sampling_parameter_has_its_option() -> None:
    sampling = Sampling(
        temperature=0.0,
        top_p=0.9,
        top_k=0,
        min_p=0.1,
        seed=0,
        stop=("a", "b"),
        presence_penalty=0.0,
        frequency_penalty=1.0,
        repeat_penalty=1.1,
        logit_bias={"1": 2.0},
    )
    extensions = {"num_ctx": 512, "typical_p": 0.5, "repeat_last_n": 3, "mirostat": 1}
    assert body(sampling=sampling, max_tokens=7, extensions=extensions)["options"] == {
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.1,
        "seed": 0,
        "stop": ["a", "b"],
        "presence_penalty": 0.0,
        "frequency_penalty": 1.0,
        "repeat_penalty": 1.1,
        "num_predict": 7,
        "num_ctx": 512,
        "typical_p": 0.5,
        "repeat_last_n": 3,
    }


def test_keep_alive_stands_at_the_top() -> None:
    assert body(extensions={"keep_alive": "10m"})["keep_alive"] == "10m"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [(JsonObject(), "json"), (JsonSchema({"type": "object"}), {"type": "object"})],
)
def test_an_output_format_is_a_word_or_a_schema(
    wanted: JsonObject | JsonSchema, sent: object
) -> None:
    assert body(output_format=wanted)["format"] == sent


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("high", "high"), ("max", "max")],
)
def test_a_reasoning_effort_is_how_much_to_think(effort: str, think: object) -> None:
    assert body(reasoning_effort=effort)["think"] == think


def test_who_wants_it_to_think_without_saying_how_much_is_passed_on_so() -> None:
    assert body(reasoning_effort="medium", extensions={"think": True})["think"] is True


@pytest.mark.parametrize("count", [0, 5])
def test_logprobs_are_asked_for_with_their_count(count: int) -> None:
    sent = body(logprobs=count)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, count)


def test_tools_are_sent_unless_none_may_be_called() -> None:
    tools = (Tool("f", "does f", {"type": "object"}), Tool("g"))
    assert body(tools=tools)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "does f",
                "parameters": {"type": "object"},
            },
        },
        {
            "type": "function",
            "function": {
                "name": "g",
                "description": "",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    ]
    assert "tools" not in body(tools=tools, tool_choice="none")


def test_a_conversation_with_tools_and_images_is_sent_whole() -> None:
    messages = (
        Message(Role.SYSTEM, "be brief"),
        Message(Role.USER, (TextPart("see"), ImagePart("aGk=", "image/png"), TextPart("it"))),
        Message(
            Role.ASSISTANT,
            reasoning="hm",
            tool_calls=(ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", "")),
        ),
        Message(Role.TOOL, "7", tool_call_id="c2"),
        Message(Role.TOOL, "8", tool_call_id="unknown", name="h"),
    )
    assert body(messages)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "see\nit", "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
                {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "7", "tool_name": "g", "tool_call_id": "c2"},
        {"role": "tool", "content": "8", "tool_name": "h", "tool_call_id": "unknown"},
    ]


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "null", '{"a":'])
def test_arguments_that_are_no_object_are_said_as_they_are(arguments: str) -> None:
    message = Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "f", arguments),))
    (call,) = body((HELLO, message))["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == {"INVALID_JSON": arguments}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ()),
        ({"tool_choice": "required"}, ("tool_choice",)),
        ({"tool_choice": NamedTool("f")}, ("tool_choice",)),
        ({"tool_choice": "none"}, ()),
        ({"parallel_tool_calls": False}, ("parallel_tool_calls",)),
        ({"parallel_tool_calls": True}, ()),
        ({"sampling": Sampling(logit_bias={"1": 1.0})}, ("logit_bias",)),
        ({"extensions": {"mirostat": 1, "num_ctx": 5}}, ("mirostat",)),
    ],
)
def test_what_ollama_would_drop_is_named(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    inner = fields.get("extensions", {}) or ({"logit_bias"} if "sampling" in fields else set())
    params = frozenset({*fields, *inner, "temperature"})
    request = GenerateRequest(model="m", messages=(HELLO,), params=params, **fields)
    assert unsupported(request) == names


# --- What is answered: recorded -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "reason", "usage"),
    [
        ("ollama_chat.ndjson", None, FinishReason.LENGTH, Usage(13, 24)),
        ("ollama_schema.ndjson", None, FinishReason.STOP, Usage(14, 18)),
        ("ollama_load.json", "", FinishReason.STOP, Usage(0, 0)),
    ],
)
def test_recorded_answers_are_read(
    name: str, text: str | None, reason: FinishReason, usage: Usage
) -> None:
    (answer,) = fold(events_of((DATA / name).read_bytes()))
    assert answer.finished.reason is reason
    assert answer.finished.usage == usage
    if text is not None:
        assert answer.text == text


def test_a_recorded_json_answer_fits_its_schema() -> None:
    (answer,) = fold(events_of((DATA / "ollama_schema.ndjson").read_bytes()))
    assert set(json.loads(answer.text)) == {"name", "age"}


def test_recorded_logprobs_are_read() -> None:
    (answer,) = fold(events_of((DATA / "ollama_logprobs.ndjson").read_bytes()))
    assert answer.text == "Hello there, welcome"
    assert answer.logprobs is not None
    assert [token.token for token in answer.logprobs] == ["Hello", " there", ",", " welcome"]
    assert answer.logprobs[0] == TokenLogprob(
        "Hello",
        -1.8529607057571411,
        b"Hello",
        (
            TokenLogprob("Hello", -1.8529607057571411, b"Hello"),
            TokenLogprob("I", -2.070026397705078, b"I"),
        ),
    )


def test_recorded_timings_are_seconds() -> None:
    finished = events_of((DATA / "ollama_chat.ndjson").read_bytes())[-1]
    assert isinstance(finished, Finished)
    assert finished.timings == Timings(
        total_s=4425906414 * 1e-9,
        load_s=72573970 * 1e-9,
        prefill_s=951143350 * 1e-9,
        decode_s=3385056389 * 1e-9,
    )


def test_an_answer_may_be_cut_anywhere() -> None:
    lines = (DATA / "ollama_unicode.ndjson").read_bytes().splitlines(keepends=True)
    stream = b"".join([*lines[:3], lines[-1]])
    expected = events_of(stream)
    assert len(expected) == 4
    for cut in range(1, len(stream)):
        assert events_of(stream[:cut], stream[cut:]) == expected
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == expected


# --- What is answered: odd --------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["\n\ndata: [DONE]\n\n", "a\rb", "nul\0", "\x1b[31m", "\u2028\u2029\u0085", "\ufeff"]
)
def test_text_is_not_changed(text: str) -> None:
    assert events_of(line(text), done())[0] == TextDelta(text)


def test_half_a_character_becomes_the_replacement_character() -> None:
    events = events_of(b'{"message":{"content":"a\\ud83dz"},"done":false}\n', done())
    assert events[0] == TextDelta("a\ufffdz")


def test_bytes_that_are_no_utf_8_become_the_replacement_character() -> None:
    events = events_of(b'{"message":{"content":"a\xffz"},"done":false}\n', done())
    assert events[0] == TextDelta("a\ufffdz")


def test_thought_comes_before_text() -> None:
    message = {"content": "so", "thinking": "hm"}
    assert events_of(line(message=message), done())[:2] == [ReasoningDelta("hm"), TextDelta("so")]


def test_logprobs_without_text_are_kept_and_those_of_thoughts_are_not() -> None:
    logprobs = [{"token": "\ufffd", "logprob": -1.0, "bytes": [240]}]
    token = TokenLogprob("\ufffd", -1.0, b"\xf0")
    thought = line(message={"thinking": "hm"}, logprobs=logprobs)
    assert events_of(thought, line(logprobs=logprobs), done())[:2] == [
        ReasoningDelta("hm"),
        TextDelta("", (token,)),
    ]


def test_tool_calls_are_numbered_and_end_the_answer_as_such() -> None:
    def call(name: str, arguments: object) -> dict[str, Any]:
        return {"id": "same", "function": {"index": 0, "name": name, "arguments": arguments}}

    two = line(message={"content": "", "tool_calls": [call("f", {"a": "ü"}), call("g", None)]})
    one = line(message={"content": "", "tool_calls": [call("h", '{"text": 1}')]})
    events = events_of(two, one, done())
    assert events[:3] == [
        ToolCallDelta(0, "call_0", "f", '{"a":"ü"}'),
        ToolCallDelta(1, "call_1", "g", "{}"),
        ToolCallDelta(2, "call_2", "h", '{"text": 1}'),
    ]
    assert isinstance(events[3], Finished)
    assert events[3].reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("load", FinishReason.STOP),
        ("unload", FinishReason.STOP),
        (None, FinishReason.STOP),
        (7, FinishReason.STOP),
    ],
)
def test_each_reason_has_its_word(said: object, reason: FinishReason) -> None:
    (finished,) = events_of(done(done_reason=said))
    assert isinstance(finished, Finished)
    assert finished.reason is reason


@pytest.mark.parametrize("count", ["12", "null", "-1", "1e308", "1e999", "9" * 100, "{}", "true"])
def test_odd_counts_are_no_error(count: str) -> None:
    names = ("prompt_eval_count", "eval_count", "prompt_eval_cached_count", "total_duration")
    fields = ",".join(f'"{name}":{count}' for name in names)
    events = events_of(line("x"), b'{"message":{"content":""},"done":true,%b}\n' % fields.encode())
    finished = events[-1]
    assert isinstance(finished, Finished)
    if count == "12":
        assert finished.usage == Usage(12, 12, cached=12)
    else:
        assert finished.usage == Usage(0, 0)
        assert finished.timings == Timings()


def test_a_count_in_quotes_is_none() -> None:
    (finished,) = events_of(done(eval_count="12"))
    assert finished == Finished(FinishReason.STOP)


def test_lines_after_the_end_are_ignored() -> None:
    events = events_of(line("x") + done() + done() + line("y") + b"garbage\n")
    assert events == [TextDelta("x"), Finished(FinishReason.STOP)]


def test_what_the_last_line_says_comes_before_the_end() -> None:
    events = events_of(line("whole", done=True, done_reason="stop"))
    assert events == [TextDelta("whole"), Finished(FinishReason.STOP)]


def test_odd_moments_unknown_fields_and_blank_lines_are_ignored() -> None:
    odd = line("x", created_at="yesterday", model=None, new={"a": [1]})
    assert events_of(b"\n\r\n", odd, b"\n", done(created_at=-1))[0] == TextDelta("x")


def test_an_end_of_lines_as_on_windows_is_read() -> None:
    stream = (line("x") + done()).replace(b"\n", b"\r\n")
    assert events_of(stream) == [TextDelta("x"), Finished(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        # The end without its sign.
        ([line("x")], UpstreamDisconnected),
        ([line("")], UpstreamDisconnected),
        ([], UpstreamBadResponse),
        ([b"\n"], UpstreamBadResponse),
        # What can't be read.
        ([b"<html><body>502</body></html>\n"], UpstreamBadResponse),
        ([line("x"), b'{"message":{"content":"cu'], UpstreamBadResponse),
        ([line("x"), b"junk\n", done()], UpstreamBadResponse),
        ([b"\xff\xfe\x00garbage\x80\n"], UpstreamBadResponse),
        ([b"[]\n"], UpstreamBadResponse),
        ([b"{}\n"], UpstreamBadResponse),
        ([b'{"message":{"content":7}}\n'], UpstreamBadResponse),
        ([b"[" * 900 + b"\n"], UpstreamBadResponse),
        ([line("x", logprobs=[{"token": "x", "logprob": 0, "bytes": [256]}])], UpstreamBadResponse),
        ([line("x" * 2000)], UpstreamBadResponse),
        ([b"x" * 600, b"x" * 600], UpstreamBadResponse),
        # What the engine says itself.
        ([line("x"), b'{"error":"an error was encountered at /root/x"}\n'], UpstreamFailed),
        ([b'{"error":{"message":"x"}}\n'], UpstreamFailed),
        ([b'{"error":"the input length exceeds the context length"}'], ContextLengthExceeded),
    ],
)
def test_a_broken_answer_is_never_whole(pieces: list[bytes], error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        events_of(*pieces)
    assert type(caught.value) is error
    assert "root" not in caught.value.message
