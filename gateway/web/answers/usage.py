"""What callers have used, as JSON Schemas."""

from typing import Final, get_args

from gateway.telemetry.usage import By
from gateway.web.answers.words import COUNT, NUMBER, TEXT, Schema, fields, listed, word

_DAY: Final[Schema] = {**TEXT, "format": "date", "description": "of UTC"}

_COUNTS: Final[dict[str, Schema]] = {
    "requests": COUNT,
    "refusals": COUNT,
    "failures": COUNT,
    "prompt_tokens": COUNT,
    "cached_tokens": {**COUNT, "description": "of the prompts', found in memory"},
    "completion_tokens": COUNT,
    "slot_seconds": NUMBER,
}

USAGE: Final = fields(
    {
        "object": word("gateway.usage"),
        "since": _DAY,
        "by": word(*get_args(By)),
        "data": listed(fields({"name": TEXT, **_COUNTS})),
    },
    title="UsageReport",
)

_ALLOWANCE: Final = fields(
    {"limit": COUNT, "remaining": COUNT, "reset_ms": COUNT}, title="Allowance"
)

OWN_USAGE: Final = fields(
    {
        "object": word("gateway.caller_usage"),
        "caller": TEXT,
        "day": _DAY,
        "usage": fields(_COUNTS),
        "limits": {
            "type": "object",
            "description": "by their names in the configuration; those that there are",
            "additionalProperties": _ALLOWANCE,
        },
    },
    title="CallerUsage",
)
