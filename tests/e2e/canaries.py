"""Texts that must not be seen again, and requests that have them wherever a request can.

Each canary is another one, so that what leaked says where it came from. They are
searched for in every spelling that a leak is likely to have.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from tests.e2e.ollama import MODEL

CANARIES: Final[Mapping[str, str]] = {
    name: f"kq{hashlib.sha256(name.encode()).hexdigest()[:14]}"
    for name in (
        *("prompt", "system", "tool", "argument", "result", "schema", "image", "input", "suffix"),
        *("metadata", "user", "stop", "answer", "engine-error", "junk"),
        *("key", "new-key", "engine-key", "collector-key", "wrong-key", "misplaced-key"),
        *("session", "end-user", "cookie", "agent", "header", "query", "path", "model"),
    )
}

KEY: Final = f"sk-{CANARIES['key']}-0123456789"
NEW_KEY: Final = f"sk-{CANARIES['new-key']}-0123456789"
MISPLACED_KEY: Final = f"sk-{CANARIES['misplaced-key']}-0123456789"
BOSS_KEY: Final = f"sk-boss-{CANARIES['key']}-0123456789"
LIMITED_KEY: Final = f"sk-limited-{CANARIES['key']}-0123456789"

OF_THE_ENGINE: Final = ("answer", "engine-error", "junk")
"""What an engine said; the rest is what callers or the operator said."""

IMAGE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + CANARIES["image"].encode() * 8).decode()

HEADERS: Final[Mapping[str, str]] = {
    "x-session-id": CANARIES["session"],
    "x-user": CANARIES["end-user"],
    "cookie": f"session={CANARIES['cookie']}",
    "user-agent": f"curl/{CANARIES['agent']}",
    "x-custom": CANARIES["header"],
    "referer": f"https://{CANARIES['header']}.example/",
    "baggage": f"user={CANARIES['header']}",
}


def spellings(canary: str) -> Iterator[str]:
    """The ways in which it may stand somewhere."""
    yield canary
    yield canary.upper()
    yield canary.encode().hex()
    yield hashlib.sha256(canary.encode()).hexdigest()
    for before in ("", " ", "  "):  # base64 has three alignments
        encoded = base64.b64encode(f"{before}{canary}".encode()).decode()
        yield encoded[4:-4]
    yield quote(canary)
    # A part of it is a leak too.
    yield canary[: len(canary) // 2 + 1]
    yield canary[len(canary) // 2 - 1 :]


def found_in(data: bytes) -> set[str]:
    """The names of those that are there in any spelling."""
    return {
        name
        for name, canary in CANARIES.items()
        if any(spelling.encode() in data for spelling in spellings(canary))
    }


def conversation(*, image: bool = False) -> list[dict[str, Any]]:
    """OpenAI's, with an earlier call of a tool."""
    text = f"my secret is {CANARIES['prompt']}"
    content: Any = text
    if image:
        url = f"data:image/png;base64,{IMAGE}"
        content = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": url}},
        ]
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": f'{{"where": "{CANARIES["argument"]}"}}'},
    }
    return [
        {"role": "system", "content": CANARIES["system"]},
        {"role": "user", "content": content},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": CANARIES["result"]},
    ]


PARAMETERS: Final = {
    "type": "object",
    "properties": {"where": {"type": "string", "description": CANARIES["schema"]}},
}
FUNCTION: Final[dict[str, Any]] = {
    "name": "look",
    "description": CANARIES["tool"],
    "parameters": PARAMETERS,
}


def generations(model: str, *, image: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """A valid request for text in each dialect: path and body."""
    messages = conversation(image=image)
    yield (
        "/v1/chat/completions",
        {
            "model": model,
            "messages": messages,
            "tools": [{"type": "function", "function": FUNCTION}],
            "stop": [CANARIES["stop"]],
            "user": CANARIES["user"],
            "metadata": {"note": CANARIES["metadata"]},
        },
    )
    yield (
        "/v1/completions",
        {
            "model": model,
            "prompt": CANARIES["prompt"],
            "stop": CANARIES["stop"],
            "user": CANARIES["user"],
        },
    )
    yield (
        "/v1/responses",
        {
            "model": model,
            "instructions": CANARIES["system"],
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": CANARIES["prompt"]}]},
                {
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "look",
                    "arguments": f'{{"where": "{CANARIES["argument"]}"}}',
                },
                {"type": "function_call_output", "call_id": "call_1", "output": CANARIES["result"]},
            ],
            "tools": [{"type": "function", **FUNCTION, "strict": False}],
            "metadata": {"note": CANARIES["metadata"]},
        },
    )
    yield (
        "/v1/messages",
        {
            "model": model,
            "max_tokens": 64,
            "system": CANARIES["system"],
            "messages": [
                {"role": "user", "content": CANARIES["prompt"]},
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "call_1",
                            "name": "look",
                            "input": {"where": CANARIES["argument"]},
                        }
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "call_1",
                            "content": CANARIES["result"],
                        }
                    ],
                },
            ],
            "tools": [
                {"name": "look", "description": CANARIES["tool"], "input_schema": PARAMETERS}
            ],
            "stop_sequences": [CANARIES["stop"]],
            "metadata": {"user_id": CANARIES["user"]},
        },
    )
    native: list[dict[str, Any]] = [
        {"role": "system", "content": CANARIES["system"]},
        {"role": "user", "content": CANARIES["prompt"]},
    ]
    if image:
        native[1]["images"] = [IMAGE]
    yield "/api/chat", {"model": model, "messages": native, "options": {"stop": [CANARIES["stop"]]}}
    yield (
        "/api/generate",
        {
            "model": model,
            "prompt": CANARIES["prompt"],
            "system": CANARIES["system"],
        },
    )


def other_questions(model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A valid request for anything but text."""
    texts = [f"{CANARIES['input']} one", "two"]
    yield "/v1/embeddings", {"model": model, "input": texts, "user": CANARIES["user"]}
    yield "/api/embed", {"model": model, "input": texts}
    yield "/api/embeddings", {"model": model, "prompt": texts[0]}
    yield "/tokenize", {"model": model, "prompt": CANARIES["prompt"]}
    yield "/v1/chat/completions/input_tokens", {"model": model, "messages": conversation()}
    yield (
        "/v1/messages/count_tokens",
        {
            "model": model,
            "messages": [{"role": "user", "content": CANARIES["prompt"]}],
        },
    )
    yield "/api/show", {"model": model}
    yield "/v1/chat/completions?dry_run=1", {"model": model, "messages": conversation()}


def unfit() -> Iterator[bytes]:
    """Bodies that no dialect takes, with a canary where the fault is."""
    prompt, input_ = CANARIES["prompt"], CANARIES["input"]
    yield prompt.encode()
    yield f'{{"messages": "{prompt}'.encode()
    yield f'["{prompt}"]'.encode()
    yield f'{{"model": {{"{prompt}": "{input_}"}}}}'.encode()
    yield f'{{"messages": [{{"role": "{prompt}", "content": "{prompt}"}}]}}'.encode()
    yield f'{{"messages": "{prompt}", "input": {{"a": "{input_}"}}}}'.encode()
    yield f'{{"model": "{MODEL}", "prompt": [["{prompt}"]], "content": ["{prompt}"]}}'.encode()
    yield f'{{"temperature": "{prompt}", "max_tokens": "{prompt}", "stream": "{prompt}"}}'.encode()
    yield b'{"prompt": "\xff' + prompt.encode() + b'"}'
    yield b'{"a":' * 200 + f'"{prompt}"'.encode() + b"}" * 200
    yield b'{"input": "' + input_.encode() * 5000 + b'"}'
