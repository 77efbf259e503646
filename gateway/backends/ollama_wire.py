"""Ollama's native chat API: our request to its body, its lines to our events. Pure.

Its own `/v1` is not used: it drops parameters, overrides the Modelfile's
sampling, and hides errors midway. Shapes from ollama v0.24.0, `api/types.go`;
every field that an older or newer one may lack is optional.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.backends.ollama_lines import LinesReader, broke_off, finished, unreadable
from gateway.backends.pieces import Logprob, arguments_text, logprobs
from gateway.core import jsonio
from gateway.core.errors import UpstreamFailed
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import (
    Event,
    GenerateRequest,
    JsonSchema,
    Message,
    NamedTool,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCallDelta,
)

# --- What is asked ------------------------------------------------------------

_SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
)
_OPTION_EXTENSIONS: Final = ("num_ctx", "num_keep", "typical_p", "repeat_last_n")
_TOP_EXTENSIONS: Final = ("keep_alive",)

_NEVER_HONOURED: Final = frozenset(
    # The last four were options of Ollama once; it has dropped them.
    {"logit_bias", "mirostat", "mirostat_tau", "mirostat_eta", "tfs_z"}
)

_THINK: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}


def canonical(model: str) -> str:
    """The name with its tag: Ollama means `:latest` where there is none."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def unsupported(request: GenerateRequest) -> tuple[str, ...]:
    """Names of parameters that Ollama drops: it can't force a tool, nor keep to one call."""
    names = set(_NEVER_HONOURED)
    if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
        names.add("tool_choice")
    if request.parallel_tool_calls is False:
        names.add("parallel_tool_calls")
    return tuple(sorted(names & request.params))


def chat_body(request: GenerateRequest, model: str) -> bytes:
    """The body for /api/chat."""
    body: dict[str, Json] = {
        "model": model,
        "messages": _messages(request.messages),
        **common_fields(request),
    }
    if request.tools and request.tool_choice != "none":
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.parameters or {"type": "object", "properties": {}},
                },
            }
            for tool in request.tools
        ]
    return jsonio.dumps(body)


def common_fields(request: GenerateRequest) -> dict[str, Json]:
    """What the bodies of chats and of completions have alike.

    Always streamed: that is how silence and a caller who left are noticed. What
    the caller did not set is not sent, so that the Modelfile's value holds.
    """
    body: dict[str, Json] = {
        "stream": True,
        # By default Ollama drops the oldest messages of a long prompt, and goes
        # on doing so while the answer grows (ollama#4967, #2208).
        "truncate": False,
        "shift": False,
    }
    if options := _options(request):
        body["options"] = options
    for name in _TOP_EXTENSIONS:
        if name in request.extensions:
            body[name] = request.extensions[name]
    if request.output_format is not None:
        body["format"] = (
            request.output_format.schema
            if isinstance(request.output_format, JsonSchema)
            else "json"
        )
    if request.reasoning_effort is not None:
        # Said as Ollama's own clients say it: not every model knows of levels.
        body["think"] = request.extensions.get("think", _THINK[request.reasoning_effort])
    if request.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = request.logprobs
    return body


def load_body(model: str, *, num_ctx: int | None = None) -> bytes:
    """The body for /api/generate that brings the model into memory and asks for no answer."""
    body: dict[str, Json] = {"model": model, "stream": False}
    if num_ctx is not None:
        body["options"] = {"num_ctx": num_ctx}
    return jsonio.dumps(body)


def unload_body(model: str) -> bytes:
    """The body for /api/generate that puts the model out of memory."""
    return jsonio.dumps({"model": model, "keep_alive": 0, "stream": False})


def _options(request: GenerateRequest) -> dict[str, Json]:
    sampling = request.sampling
    options = {name: value for name in _SAMPLING if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    for name in _OPTION_EXTENSIONS:
        if name in request.extensions:
            options[name] = request.extensions[name]
    return options


def _messages(messages: tuple[Message, ...]) -> list[Json]:
    tool_names: dict[str, str] = {}
    wire: list[Json] = []
    for message in messages:
        content = message.content
        entry: dict[str, Json] = {"role": message.role.value, "content": message.text}
        if not isinstance(content, str) and (images := message.images):
            entry["images"] = [image.data for image in images]
        if message.reasoning:
            entry["thinking"] = message.reasoning
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "id": call.id,
                    "function": {
                        "index": number,
                        "name": call.name,
                        "arguments": {**call.given},
                    },
                }
                for number, call in enumerate(message.tool_calls)
            ]
            tool_names.update((call.id, call.name) for call in message.tool_calls)
        if message.role is Role.TOOL:
            call_id = message.tool_call_id or ""
            if name := tool_names.get(call_id) or message.name:
                entry["tool_name"] = name
            entry["tool_call_id"] = call_id
        wire.append(entry)
    return wire


# --- What is answered -----------------------------------------------------------

# gc=False: nothing here can be part of a cycle, and one is made for each token.


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(msgspec.Struct, gc=False):
    message: _Message | None = None
    done: bool = False
    error: Any = None
    logprobs: list[Logprob] | None = None


_line = LineDecoder(_Line)


class ChatReader(LinesReader):
    """Reads the NDJSON of one answer.

    Args:
        new_id: Makes the id of a tool call; Ollama's own are not unique.
    """

    def __init__(self, *, line_bytes_max: int, new_id: Callable[[], str]) -> None:
        super().__init__(line_bytes_max=line_bytes_max)
        self._new_id = new_id
        self._calls = 0

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        record = None
        for index, record in enumerate(_line.many(lines)):
            message = record.message
            if (
                message is not None
                and message.content
                and message.thinking is None
                and message.tool_calls is None
                and record.logprobs is None
                and record.error is None
                and not record.done
            ):
                # All but a few lines of an answer: one piece of text.
                events.append(TextDelta(message.content))
                continue
            self._read(record, events)
            if record.done:
                line = [line for line in lines if line][index]
                events.append(finished(line, called=self._calls > 0))
                break
        if record is not None:
            self._any = True
        return events

    def _read(self, record: _Line, events: list[Event]) -> None:
        if record.error is not None:
            raise broke_off(record.error)
        message = record.message
        if message is None:
            if not record.done:
                raise ValueError("a line without a message")
            return
        if message.thinking:
            events.append(ReasoningDelta(message.thinking))
        if message.content or (record.logprobs and not message.thinking):
            events.append(TextDelta(message.content or "", logprobs(record.logprobs)))
        for call in message.tool_calls or ():
            arguments = call.function.arguments
            events.append(
                ToolCallDelta(
                    index=self._calls,
                    id=self._new_id(),
                    name=call.function.name,
                    arguments="{}" if arguments is None else arguments_text(arguments),
                )
            )
            self._calls += 1


def read_loaded(answer: bytes) -> None:
    """The answer to `load_body`.

    Raises:
        UpstreamFailed: The model could not be loaded.
        UpstreamBadResponse: It is no such answer.
    """
    try:
        line = _line(answer)
    except ValueError as error:
        raise unreadable() from error
    if line.error is not None:
        raise UpstreamFailed("The model's engine could not load the model.")
    if not line.done:
        raise unreadable()
