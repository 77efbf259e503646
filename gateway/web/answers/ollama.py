"""What Ollama's answers are, as JSON Schemas.

What an Ollama tells itself is passed on, and may hold more.
"""

from typing import Final

from gateway.web.answers.words import (
    ANY_OBJECT,
    COUNT,
    NUMBER,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    word,
)

_TOKEN: Final = {"token": TEXT, "logprob": NUMBER}
_BYTES: Final = {"bytes": listed(COUNT)}

_HEAD: Final = {"model": TEXT, "created_at": TEXT, "done": YES_OR_NO}
_REST: Final = {
    "logprobs": listed(fields(_TOKEN, {**_BYTES, "top_logprobs": listed(fields(_TOKEN, _BYTES))})),
    "done_reason": TEXT,
    "total_duration": {**COUNT, "description": "nanoseconds"},
    "load_duration": COUNT,
    "prompt_eval_count": COUNT,
    "prompt_eval_cached_count": COUNT,
    "prompt_eval_duration": COUNT,
    "eval_count": COUNT,
    "eval_duration": COUNT,
}
_BESIDE: Final = {
    "thinking": TEXT,
    "tool_calls": listed(
        fields(
            {"function": fields({"index": COUNT, "name": TEXT, "arguments": ANY_OBJECT})},
            {"id": TEXT},
        )
    ),
}

CHAT: Final = fields(
    {
        **_HEAD,
        "message": fields({"role": word("assistant"), "content": TEXT}, _BESIDE),
    },
    _REST,
    title="OllamaChat",
)
"""A whole answer and a line of one are the same."""

GENERATE: Final = fields({**_HEAD, "response": TEXT}, {**_BESIDE, **_REST}, title="OllamaGenerate")

_VECTOR: Final = listed(NUMBER)

EMBED: Final = fields(
    {"model": TEXT, "embeddings": listed(_VECTOR)},
    {"total_duration": COUNT, "load_duration": COUNT, "prompt_eval_count": COUNT},
    title="OllamaEmbed",
)
EMBEDDINGS: Final = fields({"embedding": _VECTOR}, title="OllamaEmbeddings")

_ENTRY: Final = {"name": TEXT, "model": TEXT}
TAGS: Final = fields({"models": listed(fields(_ENTRY))}, title="OllamaTags")
PS: Final = fields({"models": listed(fields(_ENTRY))}, title="OllamaPs")
SHOW: Final[Schema] = {"title": "OllamaShow", **ANY_OBJECT}
VERSION: Final = fields({"version": TEXT}, title="OllamaVersion")
PROGRESS: Final[Schema] = {"title": "OllamaProgress", **ANY_OBJECT}
"""Of pull, push and create: a line for each step."""
