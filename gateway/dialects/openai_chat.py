"""OpenAI's chat completions: what a request may hold, and how it becomes one of ours.

`PARAMETERS` is the whole of it: each parameter that OpenAI documents, and the
extensions we take from Ollama. What it does not know is ignored by name; none
of a caller's keys ever chooses an address, a file or a template.

Source: openai-python 3.54, types/chat/completion_create_params.py.
"""

from typing import Final

import attrs

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.dialects import fields, sampling
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    replaced_by,
    to_request,
    token_limit,
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
from gateway.dialects.openai_common import (
    EFFORT,
    LOGIT_BIAS,
    METADATA,
    PARALLEL_TOOL_CALLS,
    SERVICE_TIER,
    STREAM_OPTIONS,
    STRING,
    TOP_LOGPROBS,
)

CHOICES_MAX: Final = 8


@attrs.frozen(kw_only=True)
class ChatParsed(Parsed):
    """A chat completion as it was asked for.

    Attributes:
        include_usage: The caller wants token counts at the end of the stream.
    """

    include_usage: bool = False


# --- Parameters with rules of their own ------------------------------------------


def _logprobs(draft: Draft, value: Json, path: str) -> Fate:
    if not fields.boolean(value, path):
        return "no-op"
    draft.request.setdefault("logprobs", 0)
    return "asked"


def _top_logprobs(draft: Draft, value: Json, path: str) -> Fate:
    count = TOP_LOGPROBS(value, path)
    if draft.body.get("logprobs") is not True:
        if count == 0:
            return "no-op"
        raise InvalidRequest(f"'{path}' needs 'logprobs' to be true.", param=path)
    draft.request["logprobs"] = count
    return "asked"


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
    "stream_options": STREAM_OPTIONS,
    "max_tokens": token_limit,
    "max_completion_tokens": token_limit,
    "n": to_request("n", fields.integer(1, CHOICES_MAX), no_op=1),
    "logprobs": Parameter(_logprobs, fields.boolean.schema),
    "top_logprobs": Parameter(_top_logprobs, TOP_LOGPROBS.schema),
    "logit_bias": LOGIT_BIAS,
    "tools": TOOLS,
    "tool_choice": TOOL_CHOICE,
    "parallel_tool_calls": PARALLEL_TOOL_CALLS,
    "response_format": RESPONSE_FORMAT,
    "reasoning_effort": to_request("reasoning_effort", EFFORT),
    "service_tier": SERVICE_TIER,
    # Ollama's, besides those that `sampling` knows.
    "options": sampling.options,
    "keep_alive": sampling.keep_alive,
    # No engine of ours honours these. Named to the caller, unless they ask for nothing.
    "audio": without_effect(fields.obj),
    "metadata": without_effect(METADATA, {}),
    "modalities": without_effect(fields.strings, ["text"], []),
    "moderation": without_effect(fields.obj),
    "prediction": without_effect(fields.obj),
    "prompt_cache_key": without_effect(STRING),
    "prompt_cache_options": without_effect(fields.obj, {}),
    "prompt_cache_retention": without_effect(STRING),
    "safety_identifier": without_effect(STRING),
    "store": without_effect(fields.boolean, False),
    "user": without_effect(STRING),
    "verbosity": without_effect(STRING, "medium"),
    "web_search_options": without_effect(fields.obj),
    # Before tools.
    "functions": replaced_by("tools"),
    "function_call": replaced_by("tool_choice"),
}


class OpenAIChat(Reading):
    """POST /v1/chat/completions. See `Dialect`."""

    stream_type: Final = "text/event-stream"

    parameters = PARAMETERS
    required = _REQUIRED

    def parse(self, body: bytes | bytearray) -> ChatParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        check_tool_choice(draft)
        return ChatParsed(
            request=draft.finish(),
            ignored=draft.ignored,
            include_usage=draft.include_usage,
        )

    def encoder(self, parsed: ChatParsed, head: ReplyHead) -> ChatEncoder:
        return ChatEncoder(head, choices=parsed.request.n, include_usage=parsed.include_usage)
