"""Anthropic's Messages API: what a request may hold, and how it becomes one of ours.

`PARAMETERS` is the whole of it: each parameter that Anthropic documents, those of its beta
API, and the older names that clients still send. What it does not know is ignored by name.

Source: anthropic-python 2.12, types/message_create_params.py and
types/beta/message_create_params.py.
"""

from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest
from gateway.dialects import fields, sampling
from gateway.dialects.anthropic_messages_encode import MessagesEncoder
from gateway.dialects.anthropic_tools import (
    OUTPUT_CONFIG,
    OUTPUT_FORMAT,
    THINKING,
    TOOL_CHOICE,
    TOOLS,
    check_tool_choice,
)
from gateway.dialects.anthropic_turns import MESSAGES, SYSTEM
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    schema_of,
    to_request,
    to_sampling,
    token_limit,
    walk,
    without_effect,
)

STOPS_MAX: Final = 16

_CHARS_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 6


@attrs.frozen(kw_only=True)
class MessagesParsed(Parsed):
    """A message as it was asked for.

    Attributes:
        show_thinking: The caller wants to see what the model thinks.
    """

    show_thinking: bool = True


def _guess(request: GenerateRequest) -> int:
    """About how many tokens the prompt has; a stream must say so before the engine does."""
    chars = sum(len(message.text) for message in request.messages)
    for tool in request.tools:
        chars += len(tool.name) + len(tool.description or "") + len(jsonio.dumps(tool.parameters))
    return chars // _CHARS_PER_TOKEN + _TOKENS_PER_MESSAGE * len(request.messages)


# --- Parameters with rules of their own ------------------------------------------

_STRING: Final = fields.text(0, 4096)
_STOP: Final = fields.text(1, sampling.STOP_CHARS_MAX)


def _stops(value: Json, path: str) -> tuple[str, ...]:
    stops = fields.array(value, path, length_max=STOPS_MAX)
    return tuple(_STOP(item, f"{path}[{index}]") for index, item in enumerate(stops))


def _metadata(draft: Draft, value: Json, path: str) -> Fate:
    walk(draft, _METADATA, fields.obj(value, path), under=f"{path}.")
    return "no-op"


def _anything(value: Json, path: str) -> Json:
    return value


def _cache_control(draft: Draft, value: Json, path: str) -> Fate:
    fields.obj(value, path)
    return "no-op"


def _needs_a_memory(note: str) -> Parameter:
    """Refused and not ignored: the answer would be one to another question."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        raise InvalidRequest(f"'{path}' is not served here: {note}.", param=path)

    return Parameter(reader, fields.NOTHING, how="refused", note=note)


_METADATA: Final[Table] = {"user_id": without_effect(_STRING)}

# --- The table ---------------------------------------------------------------------

_REQUIRED: Final = {
    "model": "the name of a model, or 'default'",
    "max_tokens": "the most tokens that the answer may have",
    "messages": "a non-empty list of messages",
}
_COUNTED: Final = {name: _REQUIRED[name] for name in ("model", "messages")}

PARAMETERS: Final[Table] = {
    # Honoured by us, or by the engine if it can.
    "model": to_request("model", fields.model_name),
    "messages": MESSAGES,
    "system": SYSTEM,
    "max_tokens": attrs.evolve(
        token_limit, note="at least 1: filling a cache without an answer is not served"
    ),
    "stream": to_request("stream", fields.boolean, no_op=False),
    "stop_sequences": attrs.evolve(
        to_sampling(
            "stop",
            _stops,
            {"type": "array", "items": _STOP.schema, "maxItems": STOPS_MAX},
        ),
        note="engines don't tell that one of them ended the answer: its stop_reason is end_turn",
    ),
    "tools": TOOLS,
    "tool_choice": TOOL_CHOICE,
    "thinking": THINKING,
    "output_config": OUTPUT_CONFIG,
    "output_format": OUTPUT_FORMAT,
    "cache_control": Parameter(
        _cache_control,
        fields.obj.schema,
        note="wherever it stands, it asks for what engines do by themselves: keep prompts",
    ),
    # The current SDKs have dropped them, but not the clients that are in use.
    "temperature": sampling.SAMPLING["temperature"],
    "top_p": sampling.SAMPLING["top_p"],
    "top_k": sampling.SAMPLING["top_k"],
    # Nobody but Anthropic can honour these. Named to the caller, unless they ask for nothing.
    "container": without_effect(_anything),
    "context_management": without_effect(fields.obj, {}, {"edits": []}),
    "diagnostics": without_effect(fields.obj, {}, {"previous_message_id": None}),
    "inference_geo": without_effect(_STRING),
    "mcp_servers": without_effect(_anything, []),
    "metadata": Parameter(_metadata, schema_of(_METADATA), how="ignored"),
    "service_tier": without_effect(_STRING, "auto", "standard_only"),
    "speed": without_effect(_STRING, "standard"),
    "user_profile_id": without_effect(_STRING),
    "workspace_id": without_effect(_STRING),
    "betas": without_effect(fields.strings, []),
    "billing_policy": without_effect(fields.obj),
    "fallback_credit_token": without_effect(_anything),
    "fallbacks": without_effect(_anything, [], "default"),
    "compaction": _needs_a_memory("a summary is asked for as any other answer is"),
    "thread": _needs_a_memory("no conversations are kept; send all of its messages"),
}


class AnthropicMessages(Reading):
    """POST /v1/messages. See `Dialect`."""

    stream_type: Final = "text/event-stream"

    parameters = PARAMETERS
    required = _REQUIRED

    def parse(self, body: bytes | bytearray) -> MessagesParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        check_tool_choice(draft)
        return MessagesParsed(
            request=draft.finish(),
            ignored=draft.ignored,
            show_thinking=draft.notes.get("show_thinking", True),
        )

    def encoder(self, parsed: MessagesParsed, head: ReplyHead) -> MessagesEncoder:
        request = parsed.request
        return MessagesEncoder(
            head,
            prompt_tokens=_guess(request) if request.stream else 0,
            show_thinking=parsed.show_thinking,
        )


class CountedMessages(AnthropicMessages):
    """POST /v1/messages/count_tokens: there will be no answer, and it needs no bound."""

    required = _COUNTED
