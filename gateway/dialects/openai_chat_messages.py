"""The `messages` of a chat completion: roles, parts, images and earlier tool calls."""

from collections.abc import Mapping
from typing import Final

from gateway.core.jsonio import Json
from gateway.core.messages import ImagePart, Message, Part, Role, TextPart, ToolCall
from gateway.dialects import fields, images
from gateway.dialects.draft import Draft, Fate, Parameter

_NAME: Final = fields.text(1, 256)
_ID: Final = fields.text(1, 256)
_TEXT: Final = fields.text()

_ROLE: Final = fields.one_of(
    {
        "system": Role.SYSTEM,
        "developer": Role.SYSTEM,
        "user": Role.USER,
        "assistant": Role.ASSISTANT,
        "tool": Role.TOOL,
        "function": Role.TOOL,  # before tools: the answer to a `function_call`
    }
)

_COMMON: Final = frozenset({"role", "content", "name"})
_ASSISTANT: Final = _COMMON | {
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning_content",
    "reasoning",
}
_TOOL: Final = _COMMON | {"tool_call_id"}


_PARTS: Final = ("text", "image_url", "refusal")
_PART: Final = frozenset({"type", "cache_control"})
"""`cache_control` asks for what happens anyway: engines keep the prompts that they have read."""

_SOURCE: Final = frozenset({"url", "detail"})
_CALL: Final = frozenset({"id", "type", "index", "function"})
_CALLED: Final = frozenset({"name", "arguments"})

_PLAIN: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}


def _messages(draft: Draft, value: Json, path: str) -> Fate:
    """Reads the conversation, oldest turn first."""
    turns = fields.array(value, path, length_min=1, length_max=draft.limits.messages_max)
    draft.request["messages"] = tuple(
        [
            _plain(turn) or _message(draft, turn, f"{path}[{index}]")
            for index, turn in enumerate(turns)
        ]
    )
    return "asked"


def _plain(turn: Json) -> Message | None:
    """A turn that is a role and a text, as nearly all are; what `_message` would make of it."""
    if type(turn) is not dict or len(turn) != 2:
        return None
    content, role = turn.get("content"), turn.get("role")
    if type(content) is not str or type(role) is not str or role not in _PLAIN:
        return None
    return Message(_PLAIN[role], content)


def _message(draft: Draft, value: Json, path: str) -> Message:
    turn = fields.obj(value, path)
    role = _ROLE(turn.get("role"), f"{path}.role")
    if role is Role.ASSISTANT:
        return _assistant(draft, turn, path)
    tool_call_id: str | None = None
    name = None if turn.get("name") is None else _NAME(turn["name"], f"{path}.name")
    if turn["role"] == "function":
        # It has no id: the name of the function ties it to the call.
        tool_call_id = name = fields.tool_name(turn.get("name"), f"{path}.name")
    elif role is Role.TOOL:
        tool_call_id = _ID(turn.get("tool_call_id"), f"{path}.tool_call_id")
    draft.ignore_rest(turn, _TOOL if role is Role.TOOL else _COMMON, under="messages.")
    content = turn.get("content")
    if not isinstance(content, str):
        content = _content(draft, content, f"{path}.content")
    return Message(
        role=role,
        content=content,
        tool_call_id=tool_call_id,
        name=name,
    )


def _assistant(draft: Draft, turn: dict[str, Json], path: str) -> Message:
    """An earlier answer. It may be all calls, all refusal or all thought: then no content."""
    draft.ignore_rest(turn, _ASSISTANT, under="messages.")
    calls = _calls(draft, turn, path)
    refusal = _optional_text(turn, "refusal", path)
    reasoning = _optional_text(turn, "reasoning_content", path)
    if reasoning is None:
        reasoning = _optional_text(turn, "reasoning", path)
    content: str | tuple[Part, ...]
    if turn.get("content") in (None, []) and (calls or refusal or reasoning):
        content = refusal or ""
    else:
        content = _content(draft, turn.get("content"), f"{path}.content")
    return Message(
        role=Role.ASSISTANT,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        name=None if turn.get("name") is None else _NAME(turn["name"], f"{path}.name"),
    )


def _optional_text(turn: dict[str, Json], name: str, path: str) -> str | None:
    value = turn.get(name)
    return None if value is None else _TEXT(value, f"{path}.{name}")


# --- Content ------------------------------------------------------------------


def _content(draft: Draft, value: Json, path: str) -> str | tuple[Part, ...]:
    """The whole text, or the parts in order when there are images among them."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise fields.invalid(path, "a string or a non-empty list of parts")
    parts = [_part(draft, part, f"{path}[{index}]") for index, part in enumerate(value)]
    message = Message(role=Role.USER, content=tuple(parts))
    return message.content if message.images else message.text


def _part(draft: Draft, value: Json, path: str) -> Part:
    part = fields.obj(value, path)
    kind = part.get("type")
    if kind in _PARTS:
        draft.ignore_rest(part, _PART | {kind}, under=f"messages.{kind}.")
    if kind == "text":
        return TextPart(_TEXT(part.get("text"), f"{path}.text"))
    if kind == "image_url":
        return _image(draft, part.get("image_url"), f"{path}.image_url")
    if kind == "refusal":
        return TextPart(_TEXT(part.get("refusal"), f"{path}.refusal"))
    raise fields.invalid(f"{path}.type", f"one of {', '.join(_PARTS)}")


def _image(draft: Draft, value: Json, path: str) -> ImagePart:
    source = fields.obj(value, path)
    draft.ignore_rest(source, _SOURCE, under="messages.image_url.")
    if not draft.images_left:
        raise fields.invalid(path, f"one of at most {draft.limits.images_max} images")
    draft.images_left -= 1
    if source.get("detail") not in (None, "auto"):
        draft.ignore("detail", under="messages.image_url.")
    draft.params.add("image_url")
    return images.data_url(source.get("url"), f"{path}.url", bytes_max=draft.limits.image_bytes_max)


# --- Earlier calls --------------------------------------------------------------


def _calls(draft: Draft, turn: dict[str, Json], path: str) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    if turn.get("tool_calls") is not None:
        where = f"{path}.tool_calls"
        # As many calls in one turn as there may be tools: nobody needs more.
        values = fields.array(turn["tool_calls"], where, length_max=draft.limits.tools_max)
        calls = [_call(draft, value, f"{where}[{index}]") for index, value in enumerate(values)]
    if turn.get("function_call") is not None:
        where = f"{path}.function_call"
        name, arguments = _function(draft, turn["function_call"], where)
        calls.append(ToolCall(id=name, name=name, arguments=arguments))
    return tuple(calls)


def _call(draft: Draft, value: Json, path: str) -> ToolCall:
    call = fields.obj(value, path)
    draft.ignore_rest(call, _CALL, under="messages.tool_calls.")
    if call.get("type", "function") != "function":
        raise fields.invalid(f"{path}.type", "function")
    id = _ID(call.get("id"), f"{path}.id")
    name, arguments = _function(draft, call.get("function"), f"{path}.function")
    return ToolCall(id=id, name=name, arguments=arguments)


def _function(draft: Draft, value: Json, path: str) -> tuple[str, str]:
    function = fields.obj(value, path)
    draft.ignore_rest(function, _CALLED, under="messages.tool_calls.function.")
    name = fields.called_name(function.get("name"), f"{path}.name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise fields.invalid(f"{path}.arguments", "a string that holds a JSON object")
    return name, arguments


def _part_schema(kind: str, member: Mapping[str, Json]) -> dict[str, Json]:
    """A part of this type; its content is in a member of that name."""
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, kind: member},
        "required": ["type", kind],
    }


def _turn_schema(*roles: str, **needed: Mapping[str, Json]) -> dict[str, Json]:
    """A turn of one of these roles, with members that it needs."""
    return {
        "type": "object",
        "properties": {
            "role": {"enum": list(roles)},
            "name": fields.or_null(_NAME.schema),
            **needed,
        },
        "required": ["role", *needed],
    }


_IMAGE: Final = {
    "type": "object",
    "required": ["url"],
    "properties": {"url": {**_TEXT.schema, "description": "data:image/png;base64,…"}},
}
_CONTENT: Final[dict[str, Json]] = {
    "anyOf": [
        _TEXT.schema,
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    _part_schema("text", _TEXT.schema),
                    _part_schema("image_url", _IMAGE),
                    _part_schema("refusal", _TEXT.schema),
                ]
            },
        },
    ]
}
_FUNCTION: Final = {
    "type": "object",
    "required": ["name", "arguments"],
    "properties": {"name": fields.called_name.schema, "arguments": _TEXT.schema},
}
_TOOL_CALLS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "function"],
        "properties": {"id": _ID.schema, "function": _FUNCTION},
    },
}

MESSAGES: Final = Parameter(
    _messages,
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "anyOf": [
                _turn_schema("system", "developer", "user", content=_CONTENT),
                _turn_schema("assistant", content=_CONTENT),
                _turn_schema("assistant", tool_calls={**_TOOL_CALLS, "minItems": 1}),
                _turn_schema("assistant", refusal=fields.text(1).schema),
                _turn_schema("assistant", reasoning_content=fields.text(1).schema),
                _turn_schema("assistant", reasoning=fields.text(1).schema),
                _turn_schema("assistant", function_call=_FUNCTION),
                _turn_schema("tool", tool_call_id=_ID.schema, content=_CONTENT),
                _turn_schema("function", name=fields.tool_name.schema, content=_CONTENT),
            ]
        },
    },
    note="images as data: URLs; nothing is fetched",
)
"""The conversation, oldest turn first."""
