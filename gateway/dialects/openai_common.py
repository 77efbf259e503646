"""What OpenAI's dialects share: parameters, and parts of an answer."""

from typing import Final

from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import ReasoningEffort, ServiceTier, Usage
from gateway.dialects import fields
from gateway.dialects.base import ReplyHead
from gateway.dialects.draft import Draft, Fate, Parameter, Table, schema_of, walk, without_effect
from gateway.dialects.framing import one_line

# --- Parameters -----------------------------------------------------------------

LOGIT_BIASES_MAX: Final = 1024

_BIAS: Final = fields.number(-100, 100)

STRING: Final = fields.text(0, 4096)
"""A parameter of which nothing more is made."""


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

STREAM_OPTIONS: Final = Parameter(_stream_options, schema_of(_STREAM_OPTIONS))


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


LOGIT_BIAS: Final = Parameter(_logit_bias, {"type": "object", "additionalProperties": _BIAS.schema})

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

EFFORT: Final = fields.one_of(_EFFORTS)
"""How hard a model thinks before it answers."""

TOP_LOGPROBS: Final = fields.integer(0, 20)
"""How many alternatives are told of each token."""


def _parallel_tool_calls(draft: Draft, value: Json, path: str) -> Fate:
    draft.request["parallel_tool_calls"] = parallel = fields.boolean(value, path)
    return "no-op" if parallel else "asked"


PARALLEL_TOOL_CALLS: Final = Parameter(_parallel_tool_calls, fields.boolean.schema)


def _service_tier(draft: Draft, value: Json, path: str) -> Fate:
    tier = STRING(value, path)
    if tier in ("auto", "default"):
        return "no-op"
    if tier not in _TIERS:
        return "ignored"  # Such as `scale`, which is capacity bought of OpenAI.
    draft.request["service_tier"] = _TIERS[tier]
    return "asked"


SERVICE_TIER: Final = Parameter(
    _service_tier, STRING.schema, note="flex can wait, priority can't, as far as the key may"
)

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


METADATA: Final = fields.Field(
    _metadata,
    {
        "type": "object",
        "maxProperties": _METADATA_MAX,
        "additionalProperties": _METADATA_VALUE.schema,
    },
)

# --- Answers ----------------------------------------------------------------------

LOGPROB_MIN: Final = -9999.0
"""What OpenAI writes for a token that was all but impossible; JSON has no -Infinity."""


def logprob(value: float) -> float:
    """As JSON can have it."""
    # In this order NaN, too, becomes the floor.
    return max(LOGPROB_MIN, value)


def opening(head: ReplyHead, id_prefix: str, kind: str) -> bytes:
    """What opens a chunk and a reply alike: an object that is still to be closed."""
    fields = {
        "id": id_prefix + head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
    }
    return one_line(jsonio.dumps(fields))[:-1]


def usage_counts(usage: Usage) -> Json:
    """The counts; the details only where the engine gave them."""
    counts: dict[str, Json] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if usage.cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return counts
