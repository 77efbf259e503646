"""The conversation: `system` and `messages`, as messages that any chat template can take.

Roles alternate (`turns.py`), and many a template wants the results of tools right after the
calls: they stand before what else a turn says.
"""

import re
from typing import Final

from gateway.core.jsonio import Json
from gateway.core.messages import Message, Role, TextPart
from gateway.dialects import fields, turns
from gateway.dialects.anthropic_content import BLOCKS, LEFT_OUT, TEXT, Turn, read_blocks
from gateway.dialects.draft import Draft, Fate, Parameter

_ROLE: Final = fields.one_of(
    {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
)
_KEYS: Final = frozenset({"role", "content"})
_SYSTEM_KEYS: Final = _KEYS | {"clear_at"}
_CLEAR_AT: Final = fields.one_of({"next_user_message": True, "never": False})

_BILLING: Final = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n*")
"""A line that coding agents put before their system prompt, for Anthropic's accounts. It is
another one with each request, so with it no engine could keep any of the prompt that follows
(anthropics/claude-code#24168)."""


def _messages(draft: Draft, value: Json, path: str) -> Fate:
    """Reads the conversation, oldest turn first; what `system` says stands before it."""
    items = fields.array(value, path, length_min=1, length_max=draft.limits.messages_max)
    messages: list[Message] = []
    if draft.body.get("system") is not None:
        turns.append(
            messages, Message(Role.SYSTEM, _system_text(draft, draft.body["system"], "system"))
        )
    last_user = max((at for at, turn in enumerate(items) if _role(turn) == "user"), default=-1)
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        turn = fields.obj(item, where)
        role = _ROLE(turn.get("role"), f"{where}.role")
        if role is Role.SYSTEM:
            _add_system(draft, messages, turn, where, over=index < last_user)
        else:
            _add_turn(draft, messages, turn, role, where)
    if all(message.role is Role.SYSTEM for message in messages):
        raise fields.invalid(path, "a conversation in which something is said")
    draft.request["messages"] = tuple(messages)
    return "asked"


def _role(turn: Json) -> Json:
    return turn.get("role") if isinstance(turn, dict) else None


def _add_turn(
    draft: Draft, messages: list[Message], turn: dict[str, Json], role: Role, path: str
) -> None:
    draft.ignore_rest(turn, _KEYS, under="messages.")
    content = turn.get("content")
    if isinstance(content, str):
        turns.append(messages, Message(role, content))
        return
    said = Turn()
    read_blocks(draft, said, content, f"{path}.content")
    if said.calls and role is not Role.ASSISTANT:
        raise fields.invalid(f"{path}.content", "without tool_use: only the assistant calls tools")
    messages += said.results
    if said.parts or said.calls or said.reasoning:
        turns.append(
            messages,
            Message(
                role=role,
                content=said.content,
                reasoning="\n".join(said.reasoning) or None,
                tool_calls=tuple(said.calls),
            ),
        )


def _add_system(
    draft: Draft, messages: list[Message], turn: dict[str, Json], path: str, *, over: bool
) -> None:
    """Adds a system message of the conversation.

    Args:
        over: The user has spoken since.
    """
    draft.ignore_rest(turn, _SYSTEM_KEYS, under="messages.")
    if fields.optional(turn, "clear_at", path, _CLEAR_AT) and over:
        return
    content = turn.get("content")
    text = "" if content is None else _system_text(draft, content, f"{path}.content")
    turns.tell(messages, text)


def _system_text(draft: Draft, value: Json, path: str) -> str:
    said = Turn()
    read_blocks(draft, said, value, path, table=_SYSTEM_BLOCKS)
    texts = (_BILLING.sub("", part.text) for part in said.parts if isinstance(part, TextPart))
    return "\n\n".join(filter(None, texts))


_SYSTEM_BLOCKS: Final = {"text": BLOCKS["text"]}


def _nothing(draft: Draft, value: Json, path: str) -> Fate:
    """It is read with the messages, before which it stands."""
    return "no-op"


_CONTENT_BLOCK: Final = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": [*BLOCKS, *LEFT_OUT]}, "text": TEXT.schema},
}

_TEXT_BLOCK: Final = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": TEXT.schema},
}

SYSTEM: Final = Parameter(
    _nothing,
    {"anyOf": [TEXT.schema, {"type": "array", "items": _TEXT_BLOCK}]},
    note="a line of Anthropic's billing is left out",
)

MESSAGES: Final = Parameter(
    _messages,
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": _ROLE.schema,
                "content": {
                    "anyOf": [TEXT.schema, {"type": "array", "items": _CONTENT_BLOCK}],
                },
            },
        },
    },
    note=(
        "images as base64 and documents as text, nothing is fetched; blocks that Anthropic's"
        " servers alone can read are left out by name"
    ),
)
"""The conversation, oldest turn first."""
