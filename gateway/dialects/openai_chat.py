"""OpenAI's chat completions: what a request may hold, and how it becomes one of ours.

`PARAMETERS` is the whole of it: each parameter that OpenAI documents, and the
extensions we take from Ollama. What it does not know is ignored by name; none
of a caller's keys ever chooses an address, a file or a template.

Source: openai-python 3.54, types/chat/completion_create_params.py.
"""

from typing import Final

import attrs

from gateway.config.schema import Generation, Limits
from gateway.core import jsonio
from gateway.core.errors import InvalidRequest, MalformedRequest
from gateway.core.jsonio import Json
from gateway.core.messages import ReasoningEffort, ServiceTier
from gateway.dialects import fields, sampling
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Table,
    replaced_by,
    schema_of,
    to_request,
    token_limit,
    walk,
    without_effect,
)
from gateway.dialects.openai_chat_encode import ChatEncoder
from gateway.dialects.openai_chat_messages import MESSAGES
from gateway.dialects.openai_chat_tools import (
    RESPONSE_FORMAT,
    TOOL_CHOICE,
    TOOLS,
    check_tool_choice,
)

CHOICES_MAX: Final = 8
LOGIT_BIASES_MAX: Final = 1024
TOP_LOGPROBS_MAX: Final = 20

_EFFORTS: Final[dict[str, ReasoningEffort]] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}

_TIERS: Final[dict[str, ServiceTier]] = {
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",  # OpenAI's own answers call it so, too.
}


@attrs.frozen(kw_only=True)
class ChatParsed(Parsed):
    """A chat completion as it was asked for.

    Attributes:
        include_usage: The caller wants token counts at the end of the stream.
    """

    include_usage: bool = False


class OpenAIChat:
    """POST /v1/chat/completions. See `Dialect`."""

    stream_type: Final = "text/event-stream"
    json_only: Final = True

    def __init__(self, limits: Limits, generation: Generation) -> None:
        self._limits = limits
        self._generation = generation
        self.parameters: Final = PARAMETERS
        self.required: Final = tuple(_REQUIRED)

    def parse(self, body: bytes | bytearray) -> ChatParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        document = jsonio.parse_body(body)
        if not isinstance(document, dict):
            raise MalformedRequest("The body must be a JSON object.")
        draft = Draft(body=document, limits=self._limits, generation=self._generation)
        for name, expected in _REQUIRED.items():
            if document.get(name) is None:
                raise InvalidRequest(f"'{name}' is required: {expected}.", param=name)
        walk(draft, PARAMETERS, document)
        check_tool_choice(draft)
        return ChatParsed(
            request=draft.finish(),
            ignored=draft.ignored,
            include_usage=draft.include_usage,
        )

    def encoder(self, parsed: ChatParsed, head: ReplyHead) -> ChatEncoder:
        return ChatEncoder(head, choices=parsed.request.n, include_usage=parsed.include_usage)


# --- Parameters with rules of their own ------------------------------------------

_STRING: Final = fields.text(0, 4096)
_TOP_LOGPROBS: Final = fields.integer(0, TOP_LOGPROBS_MAX)
_BIAS: Final = fields.number(-100, 100)


def _logprobs(draft: Draft, value: Json, path: str) -> Fate:
    if not fields.boolean(value, path):
        return "no-op"
    draft.request.setdefault("logprobs", 0)
    return "asked"


def _top_logprobs(draft: Draft, value: Json, path: str) -> Fate:
    count = _TOP_LOGPROBS(value, path)
    if draft.body.get("logprobs") is not True:
        if count == 0:
            return "no-op"
        raise InvalidRequest(f"'{path}' needs 'logprobs' to be true.", param=path)
    draft.request["logprobs"] = count
    return "asked"


def _stream_options(draft: Draft, value: Json, path: str) -> Fate:
    options = fields.obj(value, path)
    if draft.body.get("stream") is not True:
        raise InvalidRequest(f"'{path}' needs 'stream' to be true.", param=path)
    walk(draft, _STREAM_OPTIONS, options, under=f"{path}.")
    return "no-op"


def _include_usage(draft: Draft, value: Json, path: str) -> Fate:
    draft.include_usage = fields.boolean(value, path)
    return "no-op"


_STREAM_OPTIONS: Final[Table] = {
    "include_usage": Parameter(_include_usage, fields.boolean.schema),
    # Padding against guessing tokens by the size of packets: we never add any.
    "include_obfuscation": without_effect(fields.boolean, False),
}


def _logit_bias(draft: Draft, value: Json, path: str) -> Fate:
    biases = fields.obj(value, path)
    if len(biases) > LOGIT_BIASES_MAX:
        raise fields.invalid(path, f"an object of at most {LOGIT_BIASES_MAX} tokens")
    for token, bias in biases.items():
        if not (token.isascii() and token.isdecimal() and len(token) <= 9):
            raise fields.invalid(path, "an object from token ids to biases")
        _BIAS(bias, f"{path}.{token}")
    draft.sampling["logit_bias"] = biases or None
    return "asked" if biases else "no-op"


def _parallel_tool_calls(draft: Draft, value: Json, path: str) -> Fate:
    draft.request["parallel_tool_calls"] = parallel = fields.boolean(value, path)
    return "no-op" if parallel else "asked"


def _service_tier(draft: Draft, value: Json, path: str) -> Fate:
    tier = _STRING(value, path)
    if tier in ("auto", "default"):
        return "no-op"
    if tier not in _TIERS:
        return "ignored"  # Such as `scale`, which is capacity bought of OpenAI.
    draft.request["service_tier"] = _TIERS[tier]
    return "asked"


# --- Parameters without effect ----------------------------------------------------

_METADATA_MAX: Final = 16
_METADATA_KEY: Final = fields.text(1, 64)
_METADATA_VALUE: Final = fields.text(0, 512)


def _metadata(value: Json, path: str) -> dict[str, Json]:
    """OpenAI's bounds: 16 keys of 64 characters, values of 512."""
    pairs = fields.obj(value, path)
    if len(pairs) > _METADATA_MAX:
        raise fields.invalid(path, f"an object of at most {_METADATA_MAX} keys")
    for key, item in pairs.items():
        _METADATA_KEY(key, path)
        _METADATA_VALUE(item, f"{path}.{fields.shown(key)}")
    return pairs


# --- The table ---------------------------------------------------------------------

_REQUIRED: Final = {
    "model": "the name of a model, or 'default'",
    "messages": "a non-empty list of messages",
}

PARAMETERS: Final[Table] = {
    # Honoured by us, or by the engine if it can.
    **sampling.SAMPLING,
    "model": to_request("model", fields.model_name),
    "messages": MESSAGES,
    "stream": to_request("stream", fields.boolean, no_op=False),
    "stream_options": Parameter(_stream_options, schema_of(_STREAM_OPTIONS)),
    "max_tokens": token_limit,
    "max_completion_tokens": token_limit,
    "n": to_request("n", fields.integer(1, CHOICES_MAX), no_op=1),
    "logprobs": Parameter(_logprobs, fields.boolean.schema),
    "top_logprobs": Parameter(_top_logprobs, _TOP_LOGPROBS.schema),
    "logit_bias": Parameter(_logit_bias, {"type": "object", "additionalProperties": _BIAS.schema}),
    "tools": TOOLS,
    "tool_choice": TOOL_CHOICE,
    "parallel_tool_calls": Parameter(_parallel_tool_calls, fields.boolean.schema),
    "response_format": RESPONSE_FORMAT,
    "reasoning_effort": to_request("reasoning_effort", fields.one_of(_EFFORTS)),
    "service_tier": Parameter(
        _service_tier, _STRING.schema, note="flex can wait, priority can't, as far as the key may"
    ),
    # Ollama's, besides those that `sampling` knows.
    "options": sampling.options,
    "keep_alive": sampling.keep_alive,
    # No engine of ours honours these. Named to the caller, unless they ask for nothing.
    "audio": without_effect(fields.obj),
    "metadata": without_effect(_metadata, {}),
    "modalities": without_effect(fields.strings, ["text"], []),
    "moderation": without_effect(fields.obj),
    "prediction": without_effect(fields.obj),
    "prompt_cache_key": without_effect(_STRING),
    "prompt_cache_options": without_effect(fields.obj, {}),
    "prompt_cache_retention": without_effect(_STRING),
    "safety_identifier": without_effect(_STRING),
    "store": without_effect(fields.boolean, False),
    "user": without_effect(_STRING),
    "verbosity": without_effect(_STRING, "medium"),
    "web_search_options": without_effect(fields.obj),
    # Before tools.
    "functions": replaced_by("tools"),
    "function_call": replaced_by("tool_choice"),
}
