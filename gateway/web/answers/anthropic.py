"""What Anthropic's answers are, as JSON Schemas."""

from typing import Final

from gateway.web.answers.words import (
    ANY_OBJECT,
    COUNT,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    or_nothing,
    word,
)

_USAGE: Final = fields(
    {
        "input_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "cache_read_input_tokens": COUNT,
        "output_tokens": COUNT,
    },
    {"output_tokens_details": fields({"thinking_tokens": COUNT})},
    title="MessageUsage",
)

_BLOCK: Final[Schema] = {
    "title": "ContentBlock",
    "type": "object",
    "anyOf": [
        fields({"type": word("text"), "text": TEXT}),
        fields({"type": word("thinking"), "thinking": TEXT, "signature": TEXT}),
        fields({"type": word("tool_use"), "id": TEXT, "name": TEXT, "input": ANY_OBJECT}),
    ],
}

_STOP: Final = {
    "stop_reason": or_nothing(
        word("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal")
    ),
    "stop_sequence": or_nothing(TEXT),
}

MESSAGE: Final = fields(
    {
        "id": TEXT,
        "type": word("message"),
        "role": word("assistant"),
        "model": TEXT,
        "content": listed(_BLOCK),
        **_STOP,
        "usage": _USAGE,
    },
    title="Message",
)

_DELTA: Final[Schema] = {
    "anyOf": [
        fields({"type": word("text_delta"), "text": TEXT}),
        fields({"type": word("thinking_delta"), "thinking": TEXT}),
        fields({"type": word("signature_delta"), "signature": TEXT}),
        fields({"type": word("input_json_delta"), "partial_json": TEXT}),
    ]
}

MESSAGE_EVENT: Final[Schema] = {
    "title": "MessageEvent",
    "type": "object",
    "anyOf": [
        fields({"type": word("message_start"), "message": MESSAGE}),
        fields({"type": word("ping")}),
        fields({"type": word("content_block_start"), "index": COUNT, "content_block": _BLOCK}),
        fields({"type": word("content_block_delta"), "index": COUNT, "delta": _DELTA}),
        fields({"type": word("content_block_stop"), "index": COUNT}),
        fields({"type": word("message_delta"), "delta": fields(_STOP), "usage": _USAGE}),
        fields({"type": word("message_stop")}),
    ],
}

TOKEN_COUNT: Final = fields(
    {"input_tokens": COUNT}, {"estimated": YES_OR_NO}, title="MessageTokens"
)
