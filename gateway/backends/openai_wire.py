"""OpenAI's chat completions as the client of it: our request to its body, its events to ours. Pure.

For vLLM, llama.cpp's server, and whatever else speaks it. They agree on the
core and differ at the edges: where reasoning stands, who sends `[DONE]`, where
timings and limits are told. Every such field is optional here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.backends import pieces
from gateway.backends.pieces import Logprob
from gateway.backends.refusals import overflow
from gateway.backends.values import natural, seconds
from gateway.core import jsonio
from gateway.core.errors import UpstreamBadResponse, UpstreamDisconnected, UpstreamFailed
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    OutputFormat,
    ReasoningDelta,
    TextDelta,
    TextPart,
    Timings,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from gateway.dialects.framing import DONE_PAYLOAD, SseSplitter

# --- What is asked ------------------------------------------------------------

_SAMPLING: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "seed": ("seed",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    # llama.cpp's name and vLLM's; each skips the other's.
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
}
LLAMA_CPP_EXTENSIONS: Final = frozenset(
    {"typical_p", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta"}
)
_EXTENSIONS: Final = LLAMA_CPP_EXTENSIONS | {"num_ctx", "num_keep", "keep_alive", "tfs_z"}
"""What a dialect may hand on; the others are Ollama's alone."""


def unsupported(request: GenerateRequest, extensions: frozenset[str]) -> tuple[str, ...]:
    """Names of the extensions that the engine doesn't know."""
    return tuple(sorted(request.params & (_EXTENSIONS - extensions)))


def chat_body(request: GenerateRequest, extensions: frozenset[str]) -> bytes:
    """The body for /v1/chat/completions, streamed; what the caller did not set is not sent."""
    sampling = request.sampling
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for field, names in _SAMPLING.items():
        if (value := getattr(sampling, field)) is not None:
            body.update(dict.fromkeys(names, value))
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias is not None:
        body["logit_bias"] = sampling.logit_bias
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": _present(
                    name=tool.name,
                    description=tool.description,
                    parameters=tool.parameters,
                    strict=tool.strict,
                ),
            }
            for tool in request.tools
        ]
        if request.tool_choice != "auto":
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.output_format is not None:
        body["response_format"] = _response_format(request.output_format)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.logprobs is not None:
        body["logprobs"] = True
        # llama.cpp takes 0 for none at all; the reader takes the alternative out again.
        body["top_logprobs"] = max(1, request.logprobs)
    for name in extensions & request.extensions.keys():
        body[name] = request.extensions[name]
    return jsonio.dumps(body)


def _message(message: Message) -> Json:
    content = message.content
    entry: dict[str, Json] = {
        "role": message.role.value,
        "content": content
        if isinstance(content, str)
        else [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {
                "type": "image_url",
                "image_url": {"url": f"data:{part.media_type};base64,{part.data}"},
            }
            for part in content
        ],
    }
    if message.reasoning:
        entry["reasoning_content"] = message.reasoning
    if message.tool_calls:
        entry["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        entry["name"] = message.name
    return entry


def _tool_choice(choice: ToolChoice) -> Json:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _response_format(wanted: OutputFormat) -> Json:
    match wanted:
        case JsonObject():
            return {"type": "json_object"}
        case JsonSchema():
            return {
                "type": "json_schema",
                "json_schema": _present(
                    name=wanted.name, schema=wanted.schema, strict=wanted.strict
                ),
            }


def _present(**fields: Json) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value is not None}


# --- What is answered -----------------------------------------------------------

# gc=False: nothing here can be part of a cycle, and one is made for each token.


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Logprobs(msgspec.Struct, gc=False):
    content: list[Logprob] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    error: Any = None
    usage: Any = None
    timings: Any = None


# Bound once: calling a method is cheaper than calling an object, 0.1 µs a token.
_chunk = LineDecoder(_Chunk).__call__

_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_BROKE_OFF: Final = frozenset({"abort", "error"})
"""vLLM's words for an answer that it gave up."""

_MS: Final = 1e-3


class ChatReader:
    """Reads the events of one answer.

    `Finished` is held back until `[DONE]`: the usage comes after the reason.

    Args:
        new_id: Makes the id of a tool call that has none.
        top_logprobs: Alternatives that the caller wants of each token; None: all.
    """

    def __init__(
        self,
        *,
        event_bytes_max: int,
        new_id: Callable[[], str],
        top_logprobs: int | None = None,
    ) -> None:
        self._records = SseSplitter(event_bytes_max)
        self._top_logprobs = top_logprobs
        self._new_id = new_id
        self._any = False
        self._calls: dict[int, int] = {}
        self._reason: FinishReason | None = None
        self._usage: Any = None
        self._timings: Any = None

    def feed(self, data: bytes) -> list[Event]:
        try:
            return self._events(self._records.feed(data))
        except ValueError as error:
            raise _unreadable() from error

    def end(self) -> list[Event]:
        # Not every last record is closed by a blank line.
        events: list[Event] = []
        if rest := self._records.rest.strip():
            try:
                events = self._events([rest])
            except ValueError as error:
                raise _unreadable() from error
        if events and isinstance(events[-1], Finished):
            return events
        if self._reason is not None:
            return [*events, self._finish()]
        if not self._any:
            raise UpstreamBadResponse("The model's engine sent an empty answer.")
        raise UpstreamDisconnected("The model's engine ended its answer midway.")

    def salvage(self) -> list[Event]:
        # With its reason told an answer is whole; only `[DONE]` was still to come.
        return [] if self._reason is None else [self._finish()]

    def _events(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        decode = _chunk
        for payload in payloads:
            if payload == DONE_PAYLOAD:
                if not self._any:
                    raise ValueError("an end without a beginning")
                events.append(self._finish())
                break
            chunk = decode(payload)
            if chunk.error is not None:
                raise _broke_off(chunk.error)
            if chunk.usage is not None:
                self._usage = chunk.usage
            if chunk.timings is not None:
                self._timings = chunk.timings
            if chunk.choices is None:
                if chunk.usage is None and chunk.timings is None:
                    raise ValueError("a record without choices")
                continue
            self._any = True
            for choice in chunk.choices:
                if choice.delta is not None:
                    self._read(choice.delta, choice.logprobs, events)
                if choice.finish_reason is not None:
                    self._end_with(choice.finish_reason)
        return events

    def _read(self, delta: _Delta, logprobs: _Logprobs | None, events: list[Event]) -> None:
        if reasoning := delta.reasoning_content or delta.reasoning:
            events.append(ReasoningDelta(reasoning))
        if delta.content:
            events.append(
                TextDelta(delta.content)
                if logprobs is None
                else TextDelta(delta.content, pieces.logprobs(logprobs.content, self._top_logprobs))
            )
        elif logprobs is not None and logprobs.content and not reasoning:
            # A token that is only part of a character has no text yet.
            events.append(TextDelta("", pieces.logprobs(logprobs.content, self._top_logprobs)))
        for position, call in enumerate(delta.tool_calls or ()):
            events.append(self._call(position, call))

    def _call(self, position: int, call: _ToolCall) -> ToolCallDelta:
        said = position if call.index is None else call.index
        function = call.function or _Function()
        first = said not in self._calls
        index = self._calls.setdefault(said, len(self._calls))
        return ToolCallDelta(
            index=index,
            # Some engines repeat them with each piece.
            id=(call.id or self._new_id()) if first else None,
            name=(function.name or "") if first else None,
            arguments=(
                "" if function.arguments is None else pieces.arguments_text(function.arguments)
            ),
        )

    def _end_with(self, reason: str) -> None:
        if reason in _BROKE_OFF:
            raise UpstreamFailed("The model's engine gave the answer up.")
        self._reason = _REASONS.get(reason, FinishReason.STOP)

    def _finish(self) -> Finished:
        reason = self._reason or FinishReason.STOP
        if reason is FinishReason.STOP and self._calls:
            # What OpenAI says when a call was forced is "stop".
            reason = FinishReason.TOOL_CALLS
        usage = _object(self._usage)
        timings = _object(self._timings)
        prefill_s = seconds(timings.get("prompt_ms"), _MS)
        decode_s = seconds(timings.get("predicted_ms"), _MS)
        cached = natural(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))
        return Finished(
            reason,
            Usage(
                prompt=natural(usage.get("prompt_tokens")) or 0,
                completion=natural(usage.get("completion_tokens")) or 0,
                cached=natural(timings.get("cache_n")) if cached is None else cached,
                reasoning=natural(
                    _object(usage.get("completion_tokens_details")).get("reasoning_tokens")
                ),
            ),
            Timings(
                total_s=None if prefill_s is None or decode_s is None else prefill_s + decode_s,
                prefill_s=prefill_s,
                decode_s=decode_s,
            ),
        )


def _unreadable() -> UpstreamBadResponse:
    return UpstreamBadResponse("The answer of the model's engine can't be read.")


def _broke_off(error: Json) -> Exception:
    found = overflow(error if isinstance(error, str) else repr(error))
    return found.error() if found else UpstreamFailed("The model's engine broke off with an error.")


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
