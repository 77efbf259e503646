"""What is described of an answer is what its encoder writes, and all of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from gateway.config.schema import Config
from gateway.core import jsonio
from gateway.core.errors import QueueFull, UpstreamDisconnected
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
from gateway.dialects import anthropic_errors, ollama_errors, openai_errors
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.base import Envelope, ReplyHead
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_generate import OllamaGenerate
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.web.answers import anthropic, ollama, openai
from gateway.web.answers.words import Schema

_CONFIG: Final = Config()
_DIALECT: Final = (_CONFIG.limits, _CONFIG.generation)
_HEAD: Final = ReplyHead(id="1", created=1, model="m", request_id="r")

_MESSAGES: Final = [{"role": "user", "content": "hi"}]
_PARAMETERS: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
_TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": _PARAMETERS}}

_TOKEN: Final = TokenLogprob(
    "h", -0.1, b"h", (TokenLogprob("H", -2.0, b"H"), TokenLogprob("x", -3))
)
_END: Final = Finished(
    FinishReason.STOP,
    Usage(prompt=3, completion=4, cached=2, reasoning=1),
    Timings(total_s=1.0, load_s=0.1, prefill_s=0.2, decode_s=0.3),
)

PLAIN: Final[Sequence[Event]] = [TextDelta("h"), TextDelta("i"), _END]
CUT: Final[Sequence[Event]] = [TextDelta("h"), Finished(FinishReason.LENGTH)]
THOUGHT: Final[Sequence[Event]] = [ReasoningDelta("hm"), TextDelta("hi"), _END]
CALLED: Final[Sequence[Event]] = [
    ToolCallDelta(0, "call_1", "f", ""),
    ToolCallDelta(0, None, None, '{"a":1}'),
    ToolCallDelta(1, "call_2", "f", "{}"),
    Finished(FinishReason.TOOL_CALLS, Usage(3, 4)),
]
MEASURED: Final[Sequence[Event]] = [TextDelta("h", (_TOKEN,)), _END]

_CHAT: Final = {"model": "m", "messages": _MESSAGES}
_TALKS: Final = (
    (OpenAIChat(*_DIALECT), _CHAT | {"tools": [_TOOL]}, openai.CHAT, openai.CHAT_CHUNK),
    (
        AnthropicMessages(*_DIALECT),
        _CHAT | {"max_tokens": 9, "tools": [{"name": "f", "input_schema": _PARAMETERS}]},
        anthropic.MESSAGE,
        anthropic.MESSAGE_EVENT,
    ),
    (OllamaChat(*_DIALECT), _CHAT | {"tools": [_TOOL]}, ollama.CHAT, ollama.CHAT),
    (
        OpenAIResponses(*_DIALECT),
        {"model": "m", "input": "hi", "tools": [_TOOL | _TOOL["function"]]},  # type: ignore[operator]
        openai.RESPONSE,
        openai.RESPONSE_EVENT,
    ),
)
_TEXTS: Final = (
    (
        OpenAICompletions(*_DIALECT),
        {"model": "m", "prompt": "hi", "logprobs": 2},
        openai.COMPLETION,
        openai.COMPLETION_CHUNK,
    ),
    (
        OllamaGenerate(*_DIALECT),
        {"model": "m", "prompt": "hi"},
        ollama.GENERATE,
        ollama.GENERATE,
    ),
)


def cases() -> Iterator[Any]:
    """Each dialect with each kind of answer that it can be given."""
    for talk in _TALKS:
        for name in ("PLAIN", "CUT", "THOUGHT", "CALLED", "MEASURED"):
            yield pytest.param(*talk, globals()[name], id=f"{type(talk[0]).__name__}-{name}")
    for text in _TEXTS:
        for name in ("PLAIN", "CUT", "MEASURED"):
            yield pytest.param(*text, globals()[name], id=f"{type(text[0]).__name__}-{name}")


def closed(schema: Any) -> Any:
    """Nothing else may be in an object whose members are described."""
    if isinstance(schema, Mapping):
        inside = {name: closed(value) for name, value in schema.items()}
        return inside | ({"additionalProperties": False} if "properties" in schema else {})
    if isinstance(schema, list | tuple):
        return [closed(value) for value in schema]
    return schema


def check(document: Any, schema: Schema) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(closed(schema)).validate(document)


def records(stream: bytes) -> list[Any]:
    """The documents of a stream of either kind."""
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n")]
    return [json.loads(line) for line in lines if line.startswith("{")]


# A response repeats what was asked; its items have members of their own.
_OPEN: Final = (openai.RESPONSE, openai.RESPONSE_EVENT)


@pytest.mark.parametrize(("dialect", "body", "reply", "record", "events"), list(cases()))
def test_an_answer_is_as_described_whole_and_streamed(
    dialect: Any, body: Any, reply: Schema, record: Schema, events: Sequence[Event]
) -> None:
    for stream in (False, True):
        asked = {**body, "stream": stream}
        if stream and isinstance(dialect, OpenAIChat | OpenAICompletions):
            asked["stream_options"] = {"include_usage": True}
        parsed = dialect.parse(jsonio.dumps(asked))
        encoder = dialect.encoder(parsed, _HEAD)
        if stream:
            documents, schema = records(encoder.feed(events)), record
        else:
            documents, schema = [json.loads(encoder.reply(fold(events)))], reply
        assert documents
        for document in documents:
            if schema in _OPEN:
                Draft202012Validator(schema).validate(document)
            else:
                check(document, schema)


@pytest.mark.parametrize(("dialect", "body", "reply", "record"), [*_TALKS, *_TEXTS])
def test_a_stream_that_broke_ends_as_described(
    dialect: Any, body: Any, reply: Schema, record: Schema
) -> None:
    encoder = dialect.encoder(dialect.parse(jsonio.dumps({**body, "stream": True})), _HEAD)
    encoder.feed(PLAIN[:1])
    envelope = {
        OpenAIChat: openai_errors,
        OpenAICompletions: openai_errors,
        AnthropicMessages: anthropic_errors,
        OllamaChat: ollama_errors,
        OllamaGenerate: ollama_errors,
    }.get(type(dialect))
    for document in records(encoder.fail(UpstreamDisconnected("Gone."))):
        if envelope is None:
            Draft202012Validator(record).validate(document)
        else:
            check(document, envelope.ENVELOPE.schema)


@pytest.mark.parametrize(
    "envelope", [openai_errors.ENVELOPE, anthropic_errors.ENVELOPE, ollama_errors.ENVELOPE]
)
def test_a_refusal_is_as_described(envelope: Envelope) -> None:
    error = QueueFull("Full.", param="n", retry_after_s=1.0)
    check(json.loads(envelope.body(error, "r")), envelope.schema)


def test_a_member_that_is_not_described_is_found() -> None:
    """The check itself can fail."""
    with pytest.raises(Exception, match="surprise"):
        check({"input_tokens": 1, "surprise": 1}, anthropic.TOKEN_COUNT)
