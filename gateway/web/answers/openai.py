"""What OpenAI's answers are, as JSON Schemas: what is always there, and what may be."""

from typing import Final

from gateway.web.answers.words import (
    ANY_OBJECT,
    COUNT,
    NOTHING,
    NUMBER,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    or_nothing,
    word,
)

# --- Models ------------------------------------------------------------------------------

MODEL: Final = fields(
    {"id": TEXT, "object": word("model"), "created": COUNT, "owned_by": TEXT},
    {
        "context_length": {**COUNT, "description": "what is really allocated for one request"},
        "context_length_max": {**COUNT, "description": "what the model was trained for"},
        "loaded": YES_OR_NO,
        "size_bytes": COUNT,
        "capabilities": listed(TEXT),
        "alias_of": TEXT,
    },
    title="Model",
)

MODELS: Final = fields({"object": word("list"), "data": listed(MODEL)}, title="ModelList")

# --- Chats and completions ---------------------------------------------------------------

USAGE: Final = fields(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    {
        "prompt_tokens_details": fields({"cached_tokens": COUNT}),
        "completion_tokens_details": fields({"reasoning_tokens": COUNT}),
    },
    title="Usage",
)

_FINISH: Final = word("stop", "length", "tool_calls", "content_filter")

_TOKEN: Final = {"token": TEXT, "logprob": NUMBER, "bytes": or_nothing(listed(COUNT))}
_LOGPROBS: Final = fields(
    {
        "content": listed(fields({**_TOKEN, "top_logprobs": listed(fields(_TOKEN))})),
        "refusal": NOTHING,
    },
    title="Logprobs",
)

_CALL: Final = fields(
    {
        "id": TEXT,
        "type": word("function"),
        "function": fields({"name": TEXT, "arguments": TEXT}),
    },
    title="ToolCall",
)
_REASONING: Final = {"reasoning_content": TEXT, "reasoning": TEXT}
"""The same thing under the two names that are in use."""

_HEAD: Final = {"id": TEXT, "created": COUNT, "model": TEXT}

CHAT: Final = fields(
    {
        **_HEAD,
        "object": word("chat.completion"),
        "choices": listed(
            fields(
                {
                    "index": COUNT,
                    "message": fields(
                        {
                            "role": word("assistant"),
                            "content": or_nothing(TEXT),
                            "refusal": NOTHING,
                        },
                        {**_REASONING, "tool_calls": listed(_CALL)},
                    ),
                    "logprobs": or_nothing(_LOGPROBS),
                    "finish_reason": _FINISH,
                }
            )
        ),
        "usage": USAGE,
    },
    title="ChatCompletion",
)

_CALL_DELTA: Final = fields(
    {"index": COUNT, "function": fields({"arguments": TEXT}, {"name": or_nothing(TEXT)})},
    {"id": or_nothing(TEXT), "type": word("function")},
)

CHAT_CHUNK: Final = fields(
    {
        **_HEAD,
        "object": word("chat.completion.chunk"),
        "choices": listed(
            fields(
                {
                    "index": COUNT,
                    "delta": fields(
                        {},
                        {
                            "role": word("assistant"),
                            "content": TEXT,
                            **_REASONING,
                            "tool_calls": listed(_CALL_DELTA),
                        },
                    ),
                    "logprobs": or_nothing(_LOGPROBS),
                    "finish_reason": or_nothing(_FINISH),
                }
            )
        ),
    },
    {"usage": or_nothing(USAGE)},
    title="ChatCompletionChunk",
)

_TOKEN_LISTS: Final = fields(
    {
        "tokens": listed(TEXT),
        "token_logprobs": listed(NUMBER),
        "top_logprobs": or_nothing(listed({"type": "object", "additionalProperties": NUMBER})),
        "text_offset": listed(COUNT),
    },
    title="CompletionLogprobs",
)
_TEXT_CHOICE: Final = {"index": COUNT, "text": TEXT, "logprobs": or_nothing(_TOKEN_LISTS)}

COMPLETION: Final = fields(
    {
        **_HEAD,
        "object": word("text_completion"),
        "choices": listed(fields({**_TEXT_CHOICE, "finish_reason": _FINISH})),
        "usage": USAGE,
    },
    title="Completion",
)
COMPLETION_CHUNK: Final = fields(
    {
        **_HEAD,
        "object": word("text_completion"),
        "choices": listed(fields({**_TEXT_CHOICE, "finish_reason": or_nothing(_FINISH)})),
    },
    {"usage": or_nothing(USAGE)},
    title="CompletionChunk",
)

# --- Embeddings --------------------------------------------------------------------------

EMBEDDINGS: Final = fields(
    {
        "object": word("list"),
        "data": listed(
            fields(
                {
                    "object": word("embedding"),
                    "index": COUNT,
                    "embedding": {
                        "anyOf": [listed(NUMBER), TEXT],
                        "description": "numbers, or base64 of little-endian 32-bit floats",
                    },
                }
            )
        ),
        "model": TEXT,
        "usage": fields({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    },
    title="EmbeddingList",
)

# --- Responses ---------------------------------------------------------------------------

_STATUS: Final = word("completed", "incomplete", "in_progress", "failed")

RESPONSE: Final = fields(
    {
        "id": TEXT,
        "object": word("response"),
        "created_at": COUNT,
        "status": _STATUS,
        "error": or_nothing(fields({"code": TEXT, "message": TEXT})),
        "incomplete_details": or_nothing(fields({"reason": TEXT})),
        "model": TEXT,
        "output": listed(
            fields(
                {
                    "type": word(
                        "message",
                        "reasoning",
                        "function_call",
                        "custom_tool_call",
                        "local_shell_call",
                    ),
                    "id": TEXT,
                    "status": _STATUS,
                }
            )
        ),
        "usage": or_nothing(
            fields(
                {
                    "input_tokens": COUNT,
                    "input_tokens_details": fields(
                        {"cached_tokens": COUNT, "cache_write_tokens": COUNT}
                    ),
                    "output_tokens": COUNT,
                    "output_tokens_details": fields({"reasoning_tokens": COUNT}),
                    "total_tokens": COUNT,
                }
            )
        ),
        "tools": listed(ANY_OBJECT),
    },
    title="Response",
)
"""It also repeats what was asked, under the names of the parameters."""

RESPONSE_EVENT: Final = fields(
    {"type": TEXT, "sequence_number": COUNT}, {"response": RESPONSE}, title="ResponseEvent"
)

TOKEN_COUNT: Final[Schema] = fields(
    {"object": word("response.input_tokens"), "input_tokens": COUNT},
    {"estimated": YES_OR_NO},
    title="InputTokens",
)
