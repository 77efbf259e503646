"""What a coding agent sends that speaks the Responses API alone: some 40 kB, always the same.

Made after what such agents are known to send: long instructions, a developer's
message, two dozen tools of every kind, thoughts, calls in parallel and what came
of them, and parameters that only OpenAI knows.
"""

import random
from collections.abc import Iterator
from typing import Any

from gateway.dialects.openai_responses_sealed import seal

Json = dict[str, Any]

_TEXT = """
file path command output search pattern directory result error line patch replace the a of when
use never always absolute relative before after tool read write only must agent task test build
commit branch sandbox approval plan step shell user asks workdir timeout
"""
_WORDS = _TEXT.split()

TURNS = 10


def agent_body(*, model: str = "default", stream: bool = True) -> Json:
    dice = random.Random(5)
    return {
        "model": model,
        "instructions": _prose(dice, 1200),
        "input": [
            _message("developer", _prose(dice, 300)),
            _message("user", f"<environment_context>\n{_prose(dice, 40)}\n</environment_context>"),
            _message("user", "Make the tests pass."),
            *(item for turn in range(TURNS) for item in _turn(dice, turn)),
            _message("user", "Go on."),
        ],
        "tools": _tools(dice),
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": stream,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199c1d2-aaaa-7bbb-8ccc-0123456789ab",
        "text": {"verbosity": "low"},
        "client_metadata": {"session": "0199c1d2", "sandbox": "workspace-write"},
        "service_tier": None,
    }


def _turn(dice: random.Random, turn: int) -> Iterator[Json]:
    """A thought, sometimes a word, two calls at once, and what came of them."""
    yield {
        "type": "reasoning",
        "id": f"rs_{turn}",
        "summary": [{"type": "summary_text", "text": "**Looking**"}],
        "encrypted_content": seal(_prose(dice, 20)) if turn % 2 else "gAAAAABo-of-another-server",
    }
    if turn % 3 == 0:
        yield {
            "type": "message",
            "id": f"msg_{turn}",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": _prose(dice, 12), "annotations": []}],
        }
    yield {
        "type": "function_call",
        "id": f"fc_{turn}",
        "name": "exec_command",
        "arguments": '{"cmd":"rg -n \\"def \\" src","max_output_tokens":6000}',
        "call_id": f"call_{turn}a",
        "status": "completed",
    }
    yield {
        "type": "custom_tool_call",
        "id": f"ctc_{turn}",
        "name": "apply_patch",
        "input": f"*** Begin Patch\n*** Update File: a.py\n@@\n+{turn}\n*** End Patch\n",
        "call_id": f"call_{turn}b",
        "status": "completed",
    }
    yield {
        "type": "function_call_output",
        "call_id": f"call_{turn}a",
        "output": f"Exit code: 0\nOutput:\n{_prose(dice, 150)}",
    }
    yield {
        "type": "custom_tool_call_output",
        "call_id": f"call_{turn}b",
        "output": [{"type": "input_text", "text": "Success. Updated:\nM a.py\n"}],
    }


def _tools(dice: random.Random) -> list[Json]:
    names = ("exec_command", "write_stdin", "update_plan", "view_image", "request_user_input")
    return [
        *(_function(dice, name) for name in names),
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits files. This is a FREEFORM tool: no JSON.",
            "format": {
                "type": "grammar",
                "syntax": "lark",
                "definition": 'start: "*** Begin Patch" LF hunk+ "*** End Patch" LF?\nhunk: /.+/\n',
            },
        },
        {"type": "local_shell"},
        {"type": "web_search", "external_web_access": False},
        {
            "type": "namespace",
            "name": "mcp__tracker",
            "description": "Tools of the issue tracker.",
            "tools": [_function(dice, f"{verb}_issue") for verb in ("list", "open", "close")],
        },
        *(_function(dice, f"mcp__browser__step_{number}") for number in range(12)),
    ]


def _function(dice: random.Random, name: str) -> Json:
    properties = {
        word: {"type": "string", "description": _prose(dice, 15)} for word in dice.sample(_WORDS, 4)
    }
    return {
        "type": "function",
        "name": name,
        "description": _prose(dice, 60),
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": list(properties)[:1],
            "additionalProperties": False,
        },
    }


def _message(role: str, text: str) -> Json:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": role, "content": content}


def _prose(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(_WORDS, k=words))
