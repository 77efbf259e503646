"""The `input` of a response: a text, or the items of the conversation so far.

What an assistant said in several items (its thoughts, a message, calls) is one
turn to a model, so items are gathered until somebody else speaks. The answer of
a tool is a turn of its own. Items of tools that nobody runs here are left out,
by name; what was left out of a store can't be had, and is refused.
"""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import ImagePart, Message, Part, Role, TextPart, ToolCall
from gateway.dialects import fields, images, turns
from gateway.dialects.draft import Draft, Fate, Parameter
from gateway.dialects.openai_responses_sealed import unseal
from gateway.dialects.openai_responses_tools import (
    INPUT,
    LOCAL_SHELL,
    NAME,
    function_name,
    read_tools,
)

_ID: Final = fields.text(1, 256)
_TEXT: Final = fields.text()
_ROLE: Final = fields.one_of(
    {
        "user": Role.USER,
        "assistant": Role.ASSISTANT,
        "system": Role.SYSTEM,
        "developer": Role.SYSTEM,
    }
)

_TEXT_PART: Final = frozenset({"type", "text", "annotations", "logprobs"})
_PARTS_KNOWN: Final = {
    "input_text": _TEXT_PART,
    "output_text": _TEXT_PART,
    "text": _TEXT_PART,
    "refusal": frozenset({"type", "refusal"}),
    "input_image": frozenset({"type", "image_url", "detail"}),
}
"""By type: what a part may hold that is read, or that makes no difference to a model."""

_COMMON: Final = frozenset({"type", "id", "status", "phase", "caller"})
"""What an item may hold besides, and what makes no difference to a model."""


@attrs.define(eq=False)
class Turns:
    """The conversation, so far. The last turn of the assistant may still grow."""

    done: list[Message] = attrs.field(factory=list)
    _text: list[str] = attrs.field(init=False, factory=list)
    _thoughts: list[str] = attrs.field(init=False, factory=list)
    _calls: list[ToolCall] = attrs.field(init=False, factory=list)

    def add(self, message: Message) -> None:
        """Somebody else's turn, or the answer of a tool."""
        self.close()
        if message.role is Role.TOOL:
            self.done.append(message)
        elif message.role is Role.SYSTEM:
            turns.tell(self.done, message.text)
        else:
            turns.append(self.done, message)

    def say(self, text: str) -> None:
        if self._text or self._calls:
            self.close()
        self._text.append(text)

    def think(self, text: str) -> None:
        if self._text or self._calls:
            self.close()
        self._thoughts.append(text)

    def call(self, call: ToolCall) -> None:
        self._calls.append(call)

    def close(self) -> None:
        """The assistant's turn is over, if there was one."""
        if self._text or self._thoughts or self._calls:
            turn = Message(
                Role.ASSISTANT,
                "".join(self._text),
                reasoning="\n".join(self._thoughts) or None,
                tool_calls=tuple(self._calls),
            )
            self.done.append(turn)
            self._text, self._thoughts, self._calls = [], [], []


def turns_of(draft: Draft) -> Turns:
    """What the draft has of them."""
    said: Turns = draft.notes.setdefault("turns", Turns())
    return said


def _input(draft: Draft, value: Json, path: str) -> Fate:
    said = turns_of(draft)
    instructions = draft.body.get("instructions")
    if isinstance(instructions, str) and instructions:
        said.add(Message(Role.SYSTEM, instructions))
    if isinstance(value, str):
        said.add(Message(Role.USER, value))
    elif isinstance(value, list) and 1 <= len(value) <= draft.limits.messages_max:
        for index, item in enumerate(value):
            _item(draft, fields.obj(item, f"{path}[{index}]"), f"{path}[{index}]")
        said.close()
    else:
        most = draft.limits.messages_max
        raise fields.invalid(path, f"a string or a list of 1 to {most} items")
    draft.request["messages"] = tuple(said.done)
    return "asked"


def _instructions(draft: Draft, value: Json, path: str) -> Fate:
    """Checked here; `_input` puts it before all else."""
    _TEXT(value, path)
    return "asked"


def _item(draft: Draft, item: dict[str, Json], path: str) -> None:
    # A message needs no type, and neither does a reference.
    untyped = "item_reference" if "id" in item and "role" not in item else "message"
    kind = _TEXT(item.get("type") or untyped, f"{path}.type")
    if kind not in _ITEMS:
        draft.ignore(kind, under="input.")
        return
    read, known = _ITEMS[kind]
    draft.ignore_rest(item, _COMMON | known, under=f"input.{kind}.")
    read(draft, item, path)


# --- Messages -------------------------------------------------------------------------


def _message(draft: Draft, item: dict[str, Json], path: str) -> None:
    role = _ROLE(item.get("role"), f"{path}.role")
    content = _content(draft, item.get("content"), f"{path}.content")
    message = Message(role, content)
    if role is Role.ASSISTANT and isinstance(content, str):
        turns_of(draft).say(content)
    elif message.images and role is not Role.USER:
        raise fields.invalid(f"{path}.content", "text: only a user shows images")
    else:
        turns_of(draft).add(message)


def _content(draft: Draft, value: Json, path: str) -> str | tuple[Part, ...]:
    """The whole text, or the parts in order when there are images among them."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.invalid(path, "a string or a list of parts")
    parts = [_part(draft, part, f"{path}[{index}]") for index, part in enumerate(value)]
    message = Message(Role.USER, tuple(parts))
    return message.content if message.images else message.text


def _part(draft: Draft, value: Json, path: str) -> Part:
    part = fields.obj(value, path)
    kind = part.get("type")
    if isinstance(kind, str) and kind in _PARTS_KNOWN:
        draft.ignore_rest(part, _PARTS_KNOWN[kind], under=f"input.{kind}.")
    match kind:
        case "input_text" | "output_text" | "text":
            return TextPart(_TEXT(part.get("text"), f"{path}.text"))
        case "refusal":
            return TextPart(_TEXT(part.get("refusal"), f"{path}.refusal"))
        case "input_image":
            return _image(draft, part, path)
    raise InvalidRequest(
        f"'{path}.type' must be one of input_text, output_text, refusal, input_image:"
        " files and audio are not read here.",
        param=f"{path}.type",
    )


def _image(draft: Draft, part: dict[str, Json], path: str) -> ImagePart:
    if not draft.images_left:
        raise fields.invalid(path, f"one of at most {draft.limits.images_max} images")
    draft.images_left -= 1
    if part.get("detail") not in (None, "auto"):
        draft.ignore("detail", under="input.input_image.")
    draft.params.add("input_image")
    where = f"{path}.image_url"
    return images.data_url(part.get("image_url"), where, bytes_max=draft.limits.image_bytes_max)


# --- Thoughts ----------------------------------------------------------------------------


def _reasoning(draft: Draft, item: dict[str, Json], path: str) -> None:
    """In the clear, sealed, or summed up: the first of them that there is."""
    text = _thought(item, "content", path)
    sealed = fields.optional(item, "encrypted_content", path, _TEXT)
    if not text and sealed:
        text = unseal(sealed) or ""
        if not text:
            # Of another server, which alone can read it.
            draft.ignore("encrypted_content", under="input.reasoning.")
    text = text or _thought(item, "summary", path)
    if text:
        turns_of(draft).think(text)


def _thought(item: dict[str, Json], name: str, path: str) -> str:
    value = item.get(name) or []
    if not isinstance(value, list):
        raise fields.invalid(f"{path}.{name}", "a list of parts")
    texts: list[str] = []
    for index, part in enumerate(value):
        where = f"{path}.{name}[{index}]"
        texts.append(_TEXT(fields.obj(part, where).get("text"), f"{where}.text"))
    return "\n\n".join(texts)


# --- Calls, and what came of them ----------------------------------------------------------


def _function_call(draft: Draft, item: dict[str, Json], path: str) -> None:
    arguments = _TEXT(item.get("arguments"), f"{path}.arguments")
    turns_of(draft).call(ToolCall(_call_id(item, path), _called(item, path), arguments))


def _custom_call(draft: Draft, item: dict[str, Json], path: str) -> None:
    given = _TEXT(item.get("input"), f"{path}.input")
    arguments = jsonio.dumps_text({INPUT: given})
    turns_of(draft).call(ToolCall(_call_id(item, path), _called(item, path), arguments))


def _shell_call(draft: Draft, item: dict[str, Json], path: str) -> None:
    action = fields.obj(item.get("action"), f"{path}.action")
    arguments = jsonio.dumps_text({k: v for k, v in action.items() if k != "type" and v})
    turns_of(draft).call(ToolCall(_call_id(item, path), LOCAL_SHELL, arguments))


def _output(draft: Draft, item: dict[str, Json], path: str) -> None:
    content = _content(draft, item.get("output"), f"{path}.output")
    call_id = _call_id(item, path)
    turns_of(draft).add(Message(Role.TOOL, content, tool_call_id=call_id))


def _shell_output(draft: Draft, item: dict[str, Json], path: str) -> None:
    """OpenAI's types have the call's id in `id`; some clients keep to `call_id`."""
    _output(draft, {**item, "call_id": item.get("call_id") or item.get("id")}, path)


def _call_id(item: dict[str, Json], path: str) -> str:
    return _ID(item.get("call_id"), f"{path}.call_id")


def _called(item: dict[str, Json], path: str) -> str:
    name = fields.called_name(item.get("name"), f"{path}.name")
    return function_name(name, fields.optional(item, "namespace", path, NAME))


# --- Others -----------------------------------------------------------------------------------


def _tools(draft: Draft, item: dict[str, Json], path: str) -> None:
    read_tools(draft, item.get("tools"), f"{path}.tools")


def _reference(draft: Draft, item: dict[str, Json], path: str) -> None:
    raise InvalidRequest(
        f"'{path}' refers to an item by its id, but nothing is stored here: send the item itself."
        " Clients that refer by themselves stop when 'store' is false.",
        param=path,
    )


_Read = Callable[[Draft, dict[str, Json], str], None]

_CALL: Final = frozenset({"call_id", "name", "namespace"})

_ITEMS: Final[dict[str, tuple[_Read, frozenset[str]]]] = {
    "message": (_message, frozenset({"role", "content"})),
    "reasoning": (_reasoning, frozenset({"content", "summary", "encrypted_content"})),
    "function_call": (_function_call, _CALL | {"arguments"}),
    "function_call_output": (_output, _CALL | {"output"}),
    "custom_tool_call": (_custom_call, _CALL | {"input"}),
    "custom_tool_call_output": (_output, _CALL | {"output"}),
    "local_shell_call": (_shell_call, frozenset({"call_id", "action"})),
    "local_shell_call_output": (_shell_output, frozenset({"call_id", "output"})),
    "additional_tools": (_tools, frozenset({"role", "tools"})),
    "item_reference": (_reference, frozenset()),
}
"""By type: how it is read, and what it may hold besides `_COMMON`."""

_CALLS_AND_OUTPUTS: Final = (
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
)
_PARTS: Final = {"anyOf": [_TEXT.schema, {"type": "array", "items": {"type": "object"}}]}


def _an_item(*kinds: str | None, **members: Mapping[str, Json]) -> Json:
    """One of these types, with members that it needs."""
    return {
        "properties": {"type": {"enum": list(kinds)}, **members},
        "required": [*([] if None in kinds else ["type"]), *members],
    }


_CALLED: Final = {"call_id": _ID.schema, "name": fields.called_name.schema}

INPUT_ITEMS: Final = Parameter(
    _input,
    {
        "anyOf": [
            _TEXT.schema,
            {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "anyOf": [
                        _an_item("message", "", None, role=_ROLE.schema, content=_PARTS),
                        _an_item("function_call", **_CALLED, arguments=_TEXT.schema),
                        _an_item("custom_tool_call", **_CALLED, input=_TEXT.schema),
                        _an_item(
                            "function_call_output",
                            "custom_tool_call_output",
                            call_id=_ID.schema,
                            output=_PARTS,
                        ),
                        # Of any other type: its members are its own affair, or it is ignored.
                        {
                            "properties": {
                                "type": {
                                    "type": "string",
                                    "minLength": 1,
                                    "not": {"enum": ["message", *_CALLS_AND_OUTPUTS]},
                                }
                            },
                            "required": ["type"],
                        },
                    ],
                },
            },
        ]
    },
    note="the whole conversation; images as data: URLs; nothing is fetched, nothing is stored",
)
INSTRUCTIONS: Final = Parameter(_instructions, _TEXT.schema, note="what stands before all else")
