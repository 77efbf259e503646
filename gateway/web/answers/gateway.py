"""What the gateway's own documents are, as JSON Schemas."""

from typing import Final, get_args

from gateway.core.ticket import Outcome, State
from gateway.web.answers.words import COUNT, TEXT, YES_OR_NO, Schema, fields, listed, word

_MS: Final[Schema] = {**COUNT, "description": "milliseconds"}

FORECAST: Final = fields(
    {
        "object": word("gateway.forecast"),
        "accepted": YES_OR_NO,
        "code": {"type": ["string", "null"], "description": "what it would be refused with"},
        "estimated_wait_ms": _MS,
        "estimated_service_ms": _MS,
        "queue_position": COUNT,
        "deadline_ms": _MS,
    },
    {"retry_after_ms": _MS},
    title="Forecast",
)
"""Of a dry run."""

PROGRESS: Final = fields(
    {
        "object": word("gateway.request"),
        "id": TEXT,
        "model": TEXT,
        "state": word(*get_args(State)),
        "elapsed_ms": _MS,
        "queue_ms": _MS,
        "load_ms": _MS,
        "prefill_ms": _MS,
        "decode_ms": _MS,
        "estimated_service_ms": _MS,
    },
    {
        "estimated_wait_ms": {
            **_MS,
            "description": "milliseconds; this and the next until it ends",
        },
        "queue_position": COUNT,
        "waits_for": TEXT,
        "outcome": {**word(*get_args(Outcome)), "description": "this and the next once it ended"},
        "status": {"type": "integer"},
        "reason": TEXT,
        "truncated": YES_OR_NO,
        "rejoined": YES_OR_NO,
        "usage": fields({"prompt_tokens": COUNT, "completion_tokens": COUNT}),
    },
    title="RequestProgress",
)

HEALTH: Final = fields({"status": word("ok")}, title="Health")

READY: Final = fields({"ready": YES_OR_NO}, title="Ready")

NOT_READY: Final = fields({"ready": YES_OR_NO, "reason": TEXT, "detail": TEXT}, title="NotReady")

_BYTES: Final[Schema] = {
    **listed({**COUNT, "maximum": 255}),
    "description": "of a token that is only a part of a character",
}

TOKENIZED: Final = fields(
    {
        "count": COUNT,
        "tokens": listed(
            {
                "anyOf": [
                    COUNT,
                    {
                        **fields({"id": COUNT, "piece": {"anyOf": [TEXT, _BYTES]}}),
                        "description": "with `with_pieces`",
                    },
                ]
            }
        ),
    },
    {
        "token_strs": {**listed(TEXT), "description": "with `return_token_strs`"},
        "max_model_len": {**COUNT, "description": "tokens that the model can read, if known"},
    },
    title="Tokenized",
)

DETOKENIZED: Final = fields(
    {
        "content": TEXT,
        "prompt": {**TEXT, "description": "the same, by the name that vLLM has for it"},
    },
    title="Detokenized",
)
