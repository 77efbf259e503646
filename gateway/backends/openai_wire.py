"""OpenAI's chat completions as the client of it: our request to its body, its events to ours. Pure.

For vLLM, llama.cpp's server, and whatever else speaks it. They agree on the
core and differ at the edges: where reasoning stands, who sends `[DONE]`, where
timings and limits are told. Every such field is optional here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.backends import pieces
from gateway.backends.openai_events import Choice, Chunk, EventsReader
from gateway.backends.pieces import Logprob
from gateway.core import jsonio
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import (
    INVALID_JSON,
    Event,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    OutputFormat,
    ReasoningDelta,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
)

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
_TOP_P_MIN: Final = 1e-6
"""The likeliest token alone, as 0 says; vLLM takes no 0."""

LLAMA_CPP_EXTENSIONS: Final = frozenset(
    {"typical_p", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta"}
)
_EXTENSIONS: Final = LLAMA_CPP_EXTENSIONS | {"num_ctx", "num_keep", "keep_alive", "tfs_z"}
"""What a dialect may hand on; the others are Ollama's alone."""

_NEVER_HONOURED: Final = frozenset({"suffix"})
"""llama.cpp ignores it, vLLM refuses it: neither knows how a model fills in the middle."""


def unsupported(request: GenerateRequest, extensions: frozenset[str]) -> tuple[str, ...]:
    """Names of parameters that the engine doesn't know, most of them extensions."""
    return tuple(sorted(request.params & (_NEVER_HONOURED | _EXTENSIONS - extensions)))


def chat_body(request: GenerateRequest, extensions: frozenset[str]) -> bytes:
    """The body for /v1/chat/completions, streamed; what the caller did not set is not sent."""
    body: dict[str, Json] = {
        "messages": [_message(message) for message in request.messages],
        **common_fields(request, extensions),
    }
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
        body["response_format"] = response_format(request.output_format)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.logprobs is not None:
        body["logprobs"] = True
        # llama.cpp takes 0 for none at all; the reader takes the alternative out again.
        body["top_logprobs"] = max(1, request.logprobs)
    return jsonio.dumps(body)


def common_fields(request: GenerateRequest, extensions: frozenset[str]) -> dict[str, Json]:
    """What the bodies of chats and of completions have alike."""
    sampling = request.sampling
    body: dict[str, Json] = {
        "model": request.model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for field, names in _SAMPLING.items():
        if (value := getattr(sampling, field)) is not None:
            body.update(dict.fromkeys(names, value))
    if sampling.top_p == 0:
        body["top_p"] = _TOP_P_MIN
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias is not None:
        body["logit_bias"] = sampling.logit_bias
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    for name in extensions & request.extensions.keys():
        body[name] = request.extensions[name]
    return body


def _arguments(call: ToolCall) -> str:
    """As the model wrote them, if that is an object: templates take nothing else."""
    given = call.given
    return call.arguments if given and INVALID_JSON not in given else jsonio.dumps_text(given)


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
                "function": {"name": call.name, "arguments": _arguments(call)},
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


def response_format(wanted: OutputFormat) -> Json:
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


class _Choice(Choice, gc=False):
    delta: _Delta | None = None
    logprobs: _Logprobs | None = None


# Bound once: calling a method is cheaper than calling an object, 0.1 µs a token.
_chunk = LineDecoder(Chunk[_Choice]).__call__


class ChatReader(EventsReader[_Choice]):
    """Reads the events of one answer.

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
        super().__init__(_chunk, event_bytes_max=event_bytes_max, prompt="messages")
        self._top_logprobs = top_logprobs
        self._new_id = new_id
        self._calls: dict[int, int] = {}

    def _read(self, choice: _Choice, events: list[Event]) -> None:
        delta, logprobs = choice.delta, choice.logprobs
        if delta is None:
            return
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
        self._called = True
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
