"""What a coding agent sends that speaks Anthropic's API alone: 40 to 60 kB, the same each time.

Made after what such agents are known to send: billing as a block of the system prompt, two
dozen tools with long descriptions, calls in parallel and their results, thoughts with
signatures, reminders as system messages within the conversation, `cache_control` all over.
"""

import random
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_CACHED: Json = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}

_TEXT = (
    "file path command output search pattern directory result error line edit replace the a of"
    " when use never always absolute relative before after tool read write only must agent task"
    " test build commit branch change version default timeout background shell user asks"
)

_WORDS = _TEXT.split()

_TOOLS = {
    "Bash": {"command": "string", "timeout": "number", "run_in_background": "boolean"},
    "Read": {"file_path": "string", "offset": "number", "limit": "number"},
    "Edit": {"file_path": "string", "old_string": "string", "new_string": "string"},
    "Write": {"file_path": "string", "content": "string"},
    "Glob": {"pattern": "string", "path": "string"},
    "Grep": {"pattern": "string", "path": "string", "-i": "boolean", "multiline": "boolean"},
    "Task": {"description": "string", "prompt": "string", "subagent_type": "string"},
    "TodoWrite": {"todos": "array"},
    "WebFetch": {"url": "string", "prompt": "string"},
    "NotebookEdit": {"notebook_path": "string", "new_source": "string"},
    "mcp__issue-tracker__list_issues_with_labels_and_assignees": {"labels": "array"},
    "mcp__browser__take_screenshot": {"fullPage": "boolean"},
}

TURNS = 12


def agent_body(*, model: str = "default", stream: bool = True) -> Json:
    """The body of a request in the middle of a session."""
    dice = random.Random(2026)
    return {
        "model": model,
        "messages": list(_messages(dice)),
        "system": [
            {
                "type": "text",
                "text": "x-anthropic-billing-header: cc_version=2.1.2a; cc_entrypoint=cli; cch=1f;",
            },
            {"type": "text", "text": "You are an agent that edits code.", **_CACHED},
            {"type": "text", "text": _prose(dice, 1600), **_CACHED},
        ],
        "tools": [
            *(_tool(dice, name, members) for name, members in _TOOLS.items()),
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        ],
        "metadata": {"user_id": "user_0a1b_account__session_7c9e6679-7425-40de-944b-e07fc1f90ae7"},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "temperature": 1,
        "stream": stream,
        "some_future_field": {"a": [1, 2, 3]},
    }


def _prose(dice: random.Random, words: int) -> str:
    return " ".join(dice.choice(_WORDS) for _ in range(words)).capitalize() + "."


def _tool(dice: random.Random, name: str, members: dict[str, str]) -> Json:
    return {
        "name": name,
        "description": _prose(dice, 180),
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                member: {"type": kind, "description": _prose(dice, 15)}
                for member, kind in members.items()
            },
            "required": [next(iter(members))],
            "additionalProperties": False,
        },
        **(_CACHED if name == "Task" else {}),
    }


def _messages(dice: random.Random) -> Iterator[Json]:
    yield {
        "role": "user",
        "content": [
            {"type": "text", "text": f"<system-reminder>\n{_prose(dice, 200)}\n</system-reminder>"},
            {"type": "text", "text": "Make the tests pass.", **_CACHED},
        ],
    }
    yield {"role": "system", "content": "Available agent types: general-purpose, reviewer."}
    for turn in range(TURNS):
        first, second = f"toolu_{turn:02}a", f"toolu_{turn:02}b"
        yield {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": _prose(dice, 30), "signature": "EqoBCkYIBRgC"},
                {"type": "text", "text": _prose(dice, 12)},
                {
                    "type": "tool_use",
                    "id": first,
                    "name": "Read",
                    "input": {"file_path": f"/src/module_{turn}.py", "limit": 200},
                },
                {
                    "type": "tool_use",
                    "id": second,
                    "name": "Bash",
                    "input": {"command": f"pytest -q tests/test_{turn}.py", "timeout": 60000},
                },
            ],
        }
        yield {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": first,
                    "content": [{"type": "text", "text": f"     1→{_prose(dice, 120)}"}],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": second,
                    "content": f"Exit code 1\n{_prose(dice, 60)}",
                    "is_error": True,
                    **_CACHED,
                },
            ],
        }
