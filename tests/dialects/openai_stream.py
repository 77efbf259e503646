"""Reads a chat completion stream back: the inverse of the encoder.

Every record must be what openai-python's own types accept, and the stream as a
whole what OpenAI sends: one id and one `created`, a role first in each choice,
one finish reason last, nothing after `[DONE]`.
"""

import json
from collections.abc import Sequence

import attrs
from openai.types.chat import ChatCompletionChunk

from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from gateway.dialects.framing import DONE_PAYLOAD, SseSplitter


@attrs.define
class Stream:
    """What a client has seen.

    Attributes:
        events: `Finished` without usage: the wire has only the sum.
        chunks: The records before `[DONE]`, parsed.
        error: The in-band error, which has to be the last record.
    """

    events: list[Event] = attrs.field(factory=list)
    chunks: list[dict[str, object]] = attrs.field(factory=list)
    usage: Usage | None = None
    error: dict[str, object] | None = None
    done: bool = False


def payloads(data: bytes, step: int | None = None) -> list[bytes]:
    """The data of all records, fed whole or in pieces of `step` bytes."""
    splitter = SseSplitter(1 << 24)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    found = [payload for piece in pieces for payload in splitter.feed(piece)]
    assert splitter.rest == b"", "the stream ends inside a record"
    return found


def decode(data: bytes, step: int | None = None) -> Stream:
    """Raises AssertionError when the stream is not as a client expects it."""
    stream = Stream()
    begun = -1
    for payload in payloads(data, step):
        assert not stream.done, "a record after [DONE]"
        assert stream.error is None, "a record after the error"
        if payload == DONE_PAYLOAD:
            stream.done = True
            continue
        document = json.loads(payload)
        if "error" in document:
            stream.error = document["error"]
            continue
        ChatCompletionChunk.model_validate(document)
        stream.chunks.append(document)
        assert {key: document[key] for key in ("id", "created", "model", "object")} == {
            key: stream.chunks[0][key] for key in ("id", "created", "model", "object")
        }
        if not document["choices"]:
            stream.usage = _usage(document["usage"])
            continue
        (choice,) = document["choices"]
        if "role" in choice["delta"]:
            begun += 1
            assert choice["index"] == begun
            assert choice["delta"] == {"role": "assistant", "content": ""}
            continue
        assert choice["index"] == begun
        stream.events.append(_event(choice))
    return stream


def _event(choice: dict[str, object]) -> Event:
    match choice:
        case {"finish_reason": str(reason), "delta": delta}:
            assert delta == {}
            return Finished(FinishReason(reason))
        case {"delta": {"content": str(text)}, "logprobs": None}:
            return TextDelta(text)
        case {"delta": {"content": str(text)}, "logprobs": {"content": list(tokens)}}:
            return TextDelta(text, _tokens(tokens))
        case {"delta": {"reasoning_content": str(text), "reasoning": str(again)}}:
            assert text == again
            return ReasoningDelta(text)
        case {"delta": {"tool_calls": [{"id": id, "index": index, "function": function}]}}:
            assert function["arguments"] == ""
            return ToolCallDelta(index, id, function["name"], "")
        case {"delta": {"tool_calls": [{"index": index, "function": function}]}}:
            return ToolCallDelta(index, None, None, function["arguments"])
    raise AssertionError(f"no such chunk: {choice}")


def _tokens(tokens: Sequence[dict[str, object]]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=token["token"],  # type: ignore[arg-type]
            logprob=token["logprob"],  # type: ignore[arg-type]
            raw=None if token["bytes"] is None else bytes(token["bytes"]),  # type: ignore[call-overload]
            top=_tokens(token.get("top_logprobs", ())),  # type: ignore[arg-type]
        )
        for token in tokens
    )


def _usage(usage: dict[str, dict[str, int]]) -> Usage:
    counts: dict[str, int] = usage  # type: ignore[assignment]
    assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]
    return Usage(
        prompt=counts["prompt_tokens"],
        completion=counts["completion_tokens"],
        cached=usage.get("prompt_tokens_details", {}).get("cached_tokens"),
        reasoning=usage.get("completion_tokens_details", {}).get("reasoning_tokens"),
    )
