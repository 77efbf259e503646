"""The conversation of Ollama's chat, and the tools that it may call."""

from collections.abc import Mapping
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.messages import ImagePart, Message, Part, Role, TextPart, Tool, ToolCall
from gateway.dialects import fields, images
from gateway.dialects.draft import Draft, Fate, Parameter, check_size

_TEXT: Final = fields.text()
_ID: Final = fields.text(0, 256)

_ROLE: Final = fields.one_of(
    {
        "system": Role.SYSTEM,
        "developer": Role.SYSTEM,
        "user": Role.USER,
        "assistant": Role.ASSISTANT,
        "tool": Role.TOOL,
    }
)

_TURN: Final = frozenset(
    {"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"}
)
_CALL: Final = frozenset({"id", "type", "function"})
_CALLED: Final = frozenset({"index", "name", "arguments"})
_TOOL: Final = frozenset({"type", "function"})
_FUNCTION: Final = frozenset({"name", "description", "parameters"})


class _Calls:
    """Which answer of a tool belongs to which call.

    Ollama's own clients name the tool alone, or nothing; others also give the call's id.
    """

    def __init__(self) -> None:
        self._made = 0
        self._open: list[ToolCall] = []

    def begin(self, id: str, name: str, arguments: str) -> ToolCall:
        """A call of the model; one without an id is given its number."""
        self._made += 1
        call = ToolCall(id=id or f"call_{self._made}", name=name, arguments=arguments)
        self._open.append(call)
        return call

    def end(self, id: str, name: str) -> str:
        """The id of the call that is answered: the oldest open one that fits."""
        for call in self._open:
            if id == call.id or (not id and name in ("", call.name)):
                self._open.remove(call)
                return call.id
        return id or name


def _messages(draft: Draft, value: Json, path: str) -> Fate:
    """Reads the conversation, oldest turn first; an empty one asks nothing."""
    turns = fields.array(value, path, length_max=draft.limits.messages_max)
    calls = _Calls()
    draft.request["messages"] = tuple(
        [_message(draft, turn, f"{path}[{index}]", calls) for index, turn in enumerate(turns)]
    )
    return "asked" if turns else "no-op"


def _message(draft: Draft, value: Json, path: str, calls: _Calls) -> Message:
    turn = fields.obj(value, path)
    draft.ignore_rest(turn, _TURN, under="messages.")
    role = turn.get("role")
    role = _ROLE(role.lower() if isinstance(role, str) else role, f"{path}.role")
    text = fields.optional(turn, "content", path, _TEXT) or ""
    name = fields.optional(turn, "tool_name", path, _ID) or ""
    answered: str | None = None
    if role is Role.TOOL:
        answered = calls.end(fields.optional(turn, "tool_call_id", path, _ID) or "", name)
    return Message(
        role=role,
        content=with_images(draft, text, turn.get("images"), f"{path}.images"),
        reasoning=fields.optional(turn, "thinking", path, _TEXT) or None,
        tool_calls=_tool_calls(draft, turn.get("tool_calls"), f"{path}.tool_calls", calls),
        tool_call_id=answered,
        name=name or None,
    )


def with_images(draft: Draft, text: str, value: Json, path: str) -> str | tuple[Part, ...]:
    """What a message holds: its text, and after it the images that came with it.

    Args:
        value: A list of images in base64, or None.
    """
    items = [] if value is None else fields.array(value, path, length_max=draft.images_left)
    if not items:
        return text
    draft.images_left -= len(items)
    draft.params.add("images")
    pictures = [_image(draft, item, f"{path}[{index}]") for index, item in enumerate(items)]
    return (TextPart(text), *pictures) if text else tuple(pictures)


def _image(draft: Draft, value: Json, path: str) -> ImagePart:
    return images.base64_image(value, path, bytes_max=draft.limits.image_bytes_max)


def _tool_calls(draft: Draft, value: Json, path: str, calls: _Calls) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    values = fields.array(value, path, length_max=draft.limits.tools_max)
    return tuple(
        _tool_call(draft, call, f"{path}[{index}]", calls) for index, call in enumerate(values)
    )


def _tool_call(draft: Draft, value: Json, path: str, calls: _Calls) -> ToolCall:
    call = fields.obj(value, path)
    draft.ignore_rest(call, _CALL, under="messages.tool_calls.")
    id = fields.optional(call, "id", path, _ID) or ""
    path = f"{path}.function"
    function = fields.obj(call.get("function"), path)
    draft.ignore_rest(function, _CALLED, under="messages.tool_calls.function.")
    arguments = fields.optional(function, "arguments", path, fields.obj) or {}
    return calls.begin(
        id,
        fields.called_name(function.get("name"), f"{path}.name"),
        jsonio.dumps_text(arguments),
    )


def _tools(draft: Draft, value: Json, path: str) -> Fate:
    """Reads the functions the model may call; an empty list is none."""
    values = fields.array(value, path, length_max=draft.limits.tools_max)
    check_size(draft, values, path)
    draft.request["tools"] = tuple(
        _tool(draft, tool, f"{path}[{index}]") for index, tool in enumerate(values)
    )
    return "asked" if values else "no-op"


def _tool(draft: Draft, value: Json, path: str) -> Tool:
    tool = fields.obj(value, path)
    draft.ignore_rest(tool, _TOOL, under="tools.")
    if tool.get("type") not in (None, "", "function"):
        raise fields.invalid(f"{path}.type", "function")
    path = f"{path}.function"
    function = fields.obj(tool.get("function"), path)
    draft.ignore_rest(function, _FUNCTION, under="tools.function.")
    return Tool(
        name=fields.tool_name(function.get("name"), f"{path}.name"),
        description=fields.optional(function, "description", path, _TEXT),
        parameters=fields.optional(function, "parameters", path, fields.obj),
    )


_IMAGES_SCHEMA: Final = {"type": "array", "items": {"type": "string"}}


def _turn_schema(*roles: str, **others: Mapping[str, Json]) -> dict[str, Json]:
    return fields.object_of(
        {"role": {"enum": list(roles)}},
        content=_TEXT.schema,
        thinking=_TEXT.schema,
        images=_IMAGES_SCHEMA,
        tool_calls={"type": "array", "items": {"type": "object"}},
        tool_name=_ID.schema,
        **others,
    )


MESSAGES: Final = Parameter(
    _messages,
    {
        "type": "array",
        "items": {
            "anyOf": [
                _turn_schema("tool", tool_call_id=_ID.schema),
                _turn_schema("system", "developer", "user", "assistant"),
            ]
        },
    },
    note="images in base64; empty: the model is loaded, or put out of memory by keep_alive 0",
)
"""The conversation, oldest turn first."""

_FUNCTION_SCHEMA: Final = fields.object_of(
    {"name": fields.tool_name.schema},
    description=_TEXT.schema,
    parameters=fields.obj.schema,
)

TOOLS: Final = Parameter(
    _tools,
    {
        "type": "array",
        "items": fields.object_of({"function": _FUNCTION_SCHEMA}, type={"enum": ["function", ""]}),
    },
)
