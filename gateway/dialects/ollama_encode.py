"""Events to the lines of Ollama's native answers, streamed or whole.

A stream is a JSON document on each line; the last one says `done` and tells what
the engine did. A stream that broke ends with a line that holds an `error` and
says nothing of `done`, so that it never looks finished.

Every token passes here. All that is the same in the lines of one answer is
written once, when it begins; a token is its JSON string between two ready-made
pieces, as in `openai_chat_encode.py`.

Source: ollama v0.24.0, api/types.go, `ChatResponse` and `GenerateResponse`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.errors import GatewayError, UpstreamBadResponse
from gateway.core.jsonio import Json, quote
from gateway.core.messages import (
    Completion,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)
from gateway.dialects import ollama_errors
from gateway.dialects.base import ReplyHead, Wanted, moment
from gateway.dialects.framing import one_line

LOGPROB_MIN: Final = -9999.0
"""Of a token that was all but impossible; JSON has no -Infinity."""

_NS_PER_S: Final = 1e9

_DONE_REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "stop",
    FinishReason.CONTENT_FILTER: "content_filter",
}


@attrs.frozen
class Shape:
    """Where an answer stands in a document.

    Attributes:
        before, after: What is around the text where there is nothing but text, as bytes of JSON.
        body: The same for any answer: (text, thinking, tool calls).
    """

    before: bytes
    after: bytes
    body: Callable[[str, str, list[Json]], dict[str, Json]]


def _message(text: str, thinking: str, calls: list[Json]) -> dict[str, Json]:
    message = {"role": "assistant", "content": text}
    return {"message": message | _beside(thinking, calls)}


def _response(text: str, thinking: str, calls: list[Json]) -> dict[str, Json]:
    return {"response": text, **_beside(thinking, calls)}


def _beside(thinking: str, calls: list[Json]) -> dict[str, Json]:
    return {
        **({"thinking": thinking} if thinking else {}),
        **({"tool_calls": calls} if calls else {}),
    }


CHAT: Final = Shape(b'"message":{"role":"assistant","content":', b"}", _message)
GENERATE: Final = Shape(b'"response":', b"", _response)


class OllamaEncoder:
    """Writes one answer, once. See `Encoder`.

    Args:
        wants: What the request was for, where it was not an answer.
    """

    def __init__(self, head: ReplyHead, shape: Shape, *, wants: Wanted = "answer") -> None:
        self._head: dict[str, Json] = {
            "model": head.model,
            "created_at": moment(head.created),
        }
        self._body = shape.body
        self._wants = wants
        opening = one_line(jsonio.dumps(self._head))[:-1]
        self._text = opening + b"," + shape.before
        self._text_end = shape.after + b',"done":false}\n'
        self._call: ToolCallDelta | None = None
        self._calls = 0

    def feed(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events, the closing ones included with `Finished`."""
        pieces: list[bytes] = []
        prefix, suffix = self._text, self._text_end
        for event in events:
            if type(event) is TextDelta and event.logprobs is None and self._call is None:
                text = event.text
                quoted = quote(text) if text.isascii() else one_line(quote(text))
                pieces.append(prefix + quoted + suffix)
            else:
                pieces.append(one_line(self._rare(event)))
        return b"".join(pieces)

    def fail(self, error: GatewayError) -> bytes:
        """The in-band end of a stream that broke; every client of Ollama's raises on it."""
        return one_line(ollama_errors.body(error)) + b"\n"

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer; there is exactly one."""
        (answer,) = answers
        finished = answer.finished
        calls = [
            _call(index, call)
            for index, call in enumerate(answer.tool_calls)
            if _is_whole(call, finished)
        ]
        body = self._body(answer.text, answer.reasoning, calls)
        if answer.logprobs is not None:
            body["logprobs"] = _logprobs(answer.logprobs)
        return jsonio.dumps(self._head | body | self._end(finished))

    def _rare(self, event: Event) -> bytes:
        """Everything but plain text between two tool calls."""
        if isinstance(event, ToolCallDelta):
            if self._call is not None and event.index == self._call.index:
                self._call.arguments += event.arguments
                return b""
            before = self._close_call(None)
            self._call = ToolCallDelta(event.index, event.id, event.name, event.arguments)
            return before
        if isinstance(event, Finished):
            return self._close_call(event) + self._line(self._body("", "", []) | self._end(event))
        line = self._close_call(None)
        if isinstance(event, ReasoningDelta):
            return line + self._line(self._body("", event.text, []) | {"done": False})
        body = self._body(event.text, "", [])
        if event.logprobs is not None:
            body["logprobs"] = _logprobs(event.logprobs)
        return line + self._line(body | {"done": False})

    def _close_call(self, finished: Finished | None) -> bytes:
        """The line of the call that was being written, if there is one: calls come whole."""
        if self._call is None:
            return b""
        pending, self._call = self._call, None
        call = ToolCall(pending.id or "", pending.name or "", pending.arguments)
        if not _is_whole(call, finished):
            return b""
        index, self._calls = self._calls, self._calls + 1
        return self._line(self._body("", "", [_call(index, call)]) | {"done": False})

    def _line(self, body: dict[str, Json]) -> bytes:
        return jsonio.dumps(self._head | body) + b"\n"

    def _end(self, finished: Finished) -> dict[str, Json]:
        """What the last line adds; what the engine does not tell, and zeros, are left out."""
        if self._wants != "answer":
            return {"done": True, "done_reason": self._wants}
        usage, timings = finished.usage, finished.timings
        counts = {
            "total_duration": _ns(_total_s(timings)),
            "load_duration": _ns(timings.load_s),
            "prompt_eval_count": usage.prompt,
            "prompt_eval_cached_count": usage.cached,
            "prompt_eval_duration": _ns(timings.prefill_s),
            "eval_count": usage.completion,
            "eval_duration": _ns(timings.decode_s),
        }
        end: dict[str, Json] = {"done": True, "done_reason": _DONE_REASONS[finished.reason]}
        return end | {name: count for name, count in counts.items() if count}


def _is_whole(call: ToolCall, finished: Finished | None) -> bool:
    """Whether a call can be told: one that the token limit has cut off is left out.

    Raises:
        UpstreamBadResponse: The model has written what is no object of arguments.
    """
    if _arguments(call) is not None:
        return True
    if finished is not None and finished.reason is FinishReason.LENGTH:
        return False
    raise UpstreamBadResponse("The model called a tool with arguments that are no JSON object.")


def _arguments(call: ToolCall) -> dict[str, Json] | None:
    if not call.arguments.strip():
        return {}
    try:
        arguments = jsonio.loads(call.arguments)
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _call(index: int, call: ToolCall) -> Json:
    function = {"index": index, "name": call.name, "arguments": _arguments(call)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _logprobs(tokens: Sequence[TokenLogprob]) -> list[Json]:
    return [
        _logprob(token) | ({"top_logprobs": list(map(_logprob, token.top))} if token.top else {})
        for token in tokens
    ]


def _logprob(token: TokenLogprob) -> dict[str, Json]:
    told: dict[str, Json] = {
        "token": token.token,
        # In this order NaN, too, becomes the floor.
        "logprob": max(LOGPROB_MIN, token.logprob),
    }
    return told if token.raw is None else told | {"bytes": list(token.raw)}


def _total_s(timings: Timings) -> float | None:
    """As the engine says, else the sum of the parts that it tells of."""
    if timings.total_s is not None:
        return timings.total_s
    parts = (timings.load_s, timings.prefill_s, timings.decode_s)
    return sum(part for part in parts if part is not None)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _NS_PER_S)
