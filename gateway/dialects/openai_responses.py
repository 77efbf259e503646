"""OpenAI's responses: what a request may hold, and how it becomes one of ours.

`PARAMETERS` is the whole of it: each parameter that OpenAI documents, and the
extensions we take from Ollama. Nothing is stored here: a request brings its whole
conversation, and what refers to an earlier one is refused with what to do instead.
The response repeats what holds, not what was wished: `store` is false whatever was
asked.

Source: openai-python 3.54, types/responses/response_create_params.py.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from gateway.core.errors import ContextLengthExceeded, InvalidRequest
from gateway.core.jsonio import Json
from gateway.dialects import fields, sampling
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    schema_of,
    to_request,
    token_limit,
    walk,
    without_effect,
)
from gateway.dialects.openai_common import (
    EFFORT,
    METADATA,
    PARALLEL_TOOL_CALLS,
    SERVICE_TIER,
    STREAM_OPTIONS,
    STRING,
    TOP_LOGPROBS,
)
from gateway.dialects.openai_responses_choice import TEXT, TOOL_CHOICE, settle_tools
from gateway.dialects.openai_responses_encode import ResponsesEncoder
from gateway.dialects.openai_responses_input import INPUT_ITEMS, INSTRUCTIONS
from gateway.dialects.openai_responses_tools import TOOLS, Callee, offer_of


@attrs.frozen(kw_only=True)
class ResponsesParsed(Parsed):
    """A response as it was asked for.

    Attributes:
        shown: What the response repeats of the request.
        callees: Who is meant by the names that the model calls.
        summary: What the model thinks is wanted as a summary.
        sealed: It is wanted sealed, besides.
    """

    shown: Mapping[str, Json] = attrs.field(factory=dict)
    callees: Mapping[str, Callee] = attrs.field(factory=dict)
    summary: bool = False
    sealed: bool = False


def _shown(draft: Draft, max_tokens: int | None) -> dict[str, Json]:
    body = draft.body
    return {
        "background": False,
        "conversation": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": max_tokens,
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {
            "effort": draft.notes.get("effort"),
            "summary": draft.notes.get("summary"),
        },
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": draft.request.get("service_tier", "default"),
        "store": False,
        "temperature": body.get("temperature"),
        "text": {"format": draft.notes.get("format", {"type": "text"}), "verbosity": "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": offer_of(draft).shown,
        "top_logprobs": draft.request.get("logprobs") or 0,
        "top_p": body.get("top_p"),
        "truncation": "disabled",
        "user": body.get("user"),
    }


# --- What is refused ------------------------------------------------------------------


def _refused(advice: str, no_op: Json = None) -> Parameter:
    """What can't be ignored: the answer would be to another question."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        if value is no_op:
            return "no-op"
        raise InvalidRequest(f"'{path}' is not served here: {advice}.", param=path)

    takes = fields.NOTHING if no_op is None else {"const": no_op}
    return Parameter(reader, takes, how="refused", note=advice)


_STATELESS: Final = "no response is stored; send the whole conversation as 'input'"

# --- Parameters with rules of their own --------------------------------------------------


def _reasoning(draft: Draft, value: Json, path: str) -> Fate:
    walk(draft, _REASONING, fields.obj(value, path), under=f"{path}.")
    return "no-op"


def _effort(draft: Draft, value: Json, path: str) -> Fate:
    draft.request["reasoning_effort"] = EFFORT(value, path)
    draft.notes["effort"] = value
    draft.ask("reasoning_effort", written=path)
    return "no-op"


_SUMMARY: Final = fields.one_of({"auto": "auto", "concise": "concise", "detailed": "detailed"})


def _summary(draft: Draft, value: Json, path: str) -> Fate:
    draft.notes["summary"] = _SUMMARY(value, path)
    return "no-op"


_SHOWN_WHOLE: Final = "what the model thinks is shown whole, as summary parts"

_REASONING: Final[Table] = {
    "effort": Parameter(_effort, EFFORT.schema),
    "summary": Parameter(_summary, _SUMMARY.schema, note=_SHOWN_WHOLE),
    "generate_summary": Parameter(_summary, _SUMMARY.schema, note="the old name of summary"),
    "context": without_effect(STRING, "auto"),
    "mode": without_effect(STRING, "standard"),
}


def _include(draft: Draft, value: Json, path: str) -> Fate:
    for name in fields.strings(value, path):
        match name:
            case "message.output_text.logprobs":
                draft.request.setdefault("logprobs", 0)
            case "reasoning.encrypted_content":
                draft.notes["sealed"] = True
            case _:
                draft.ignore(name, under=f"{path}.")
    return "no-op"


def _top_logprobs(draft: Draft, value: Json, path: str) -> Fate:
    count = TOP_LOGPROBS(value, path)
    if count:
        draft.request["logprobs"] = count
    return "asked" if count else "no-op"


_TRUNCATION: Final = fields.one_of({"auto": "auto", "disabled": "disabled"})
_CALLS: Final = fields.integer(0, fields.INT64_MAX)


def _context(value: Json, path: str) -> list[Json]:
    return fields.array(value, path, length_max=16)


_CONTEXT: Final = fields.Field(_context, {"type": "array", "items": {"type": "object"}})


def _max_tool_calls(draft: Draft, value: Json, path: str) -> Fate:
    _CALLS(value, path)
    return "no-op"


def _metadata(draft: Draft, value: Json, path: str) -> Fate:
    METADATA(value, path)
    return "no-op"


# --- The table ------------------------------------------------------------------------------

_REQUIRED: Final = {
    "model": "the name of a model, or 'default'",
    "input": "a text, or the items of the conversation",
}

PARAMETERS: Final[Table] = {
    # Honoured by us, or by the engine if it can.
    **sampling.SAMPLING,
    "model": to_request("model", fields.model_name),
    "input": INPUT_ITEMS,
    "instructions": INSTRUCTIONS,
    "stream": to_request("stream", fields.boolean, no_op=False),
    "stream_options": STREAM_OPTIONS,
    "max_output_tokens": token_limit,
    "top_logprobs": Parameter(_top_logprobs, TOP_LOGPROBS.schema),
    "include": Parameter(
        _include,
        fields.strings.schema,
        note="message.output_text.logprobs and reasoning.encrypted_content (encoded, not secret)",
    ),
    "tools": TOOLS,
    "tool_choice": TOOL_CHOICE,
    "parallel_tool_calls": PARALLEL_TOOL_CALLS,
    "max_tool_calls": Parameter(
        _max_tool_calls, _CALLS.schema, note="counts tools that OpenAI runs; there are none here"
    ),
    "text": TEXT,
    "reasoning": Parameter(_reasoning, schema_of(_REASONING)),
    "service_tier": SERVICE_TIER,
    "metadata": Parameter(_metadata, METADATA.schema, note="is in the response again"),
    # Ollama's, besides those that `sampling` knows.
    "options": sampling.options,
    "keep_alive": sampling.keep_alive,
    # No state is kept, and no answer is written while nobody waits for it.
    "previous_response_id": _refused(_STATELESS),
    "conversation": _refused(_STATELESS),
    "prompt": _refused("no templates are stored; send the text itself as 'instructions'"),
    "background": _refused("wait for the answer, or read it as a stream", no_op=False),
    # No engine of ours honours these. Named to the caller, unless they ask for nothing.
    "access_programs": without_effect(fields.obj, {}),
    "background_options": without_effect(fields.obj, {}),
    "context_management": without_effect(_CONTEXT, []),
    "image": without_effect(fields.obj, {}),
    "moderation": without_effect(fields.obj),
    "prompt_cache_key": without_effect(STRING),
    "prompt_cache_options": without_effect(fields.obj, {}),
    "prompt_cache_retention": without_effect(STRING),
    "safety_identifier": without_effect(STRING),
    "store": without_effect(fields.boolean, False, note="nothing is stored"),
    "truncation": without_effect(
        _TRUNCATION, "disabled", note="an input that is too long is refused, never cut"
    ),
    "user": without_effect(STRING),
}


class OpenAIResponses(Reading):
    """POST /v1/responses. See `Dialect`."""

    stream_type: Final = "text/event-stream"

    parameters = PARAMETERS
    required = _REQUIRED
    # OpenAI counts the tokens when the stream has begun, and coding agents know it no other way.
    in_stream = (ContextLengthExceeded,)

    def parse(self, body: bytes | bytearray) -> ResponsesParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        settle_tools(draft)
        # Agents set no limit, and take an answer that was cut for a broken one: they
        # would ask for the same again and again.
        request = draft.finish(unlimited=self.generation.max_tokens_max)
        return ResponsesParsed(
            request=request,
            ignored=draft.ignored,
            shown=_shown(draft, request.max_tokens),
            callees=offer_of(draft).callees,
            summary="summary" in draft.notes,
            sealed="sealed" in draft.notes,
        )

    def encoder(self, parsed: ResponsesParsed, head: ReplyHead) -> ResponsesEncoder:
        return ResponsesEncoder(
            head,
            shown=parsed.shown,
            callees=parsed.callees,
            summary=parsed.summary,
            sealed=parsed.sealed,
        )
