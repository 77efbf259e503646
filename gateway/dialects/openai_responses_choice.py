"""Who is called and what is said in a response: `tool_choice` and `text`."""

from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import JsonObject, JsonSchema, NamedTool, ToolChoice
from gateway.dialects import fields
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Table,
    check_size,
    schema_of,
    walk,
    without_effect,
)
from gateway.dialects.openai_common import STRING
from gateway.dialects.openai_responses_tools import INNER, LOCAL_SHELL, NAME, offer_of

_TEXT: Final = fields.text()
_WORDS: Final[dict[str, ToolChoice]] = {"auto": "auto", "none": "none", "required": "required"}
_MODE: Final = fields.one_of({"auto": "auto", "required": "required"})

# --- Who is called --------------------------------------------------------


def _tool_choice(draft: Draft, value: Json, path: str) -> Fate:
    """Reads who is called. `settle_tools` holds it against the tools."""
    if isinstance(value, str) and value in _WORDS:
        draft.request["tool_choice"] = _WORDS[value]
        return "no-op" if value == "auto" else "asked"
    if not isinstance(value, dict):
        raise fields.invalid(path, "auto, none, required or an object with a 'type'")
    match _TEXT(value.get("type"), f"{path}.type"):
        case "function" | "custom":
            draft.request["tool_choice"] = NamedTool(NAME(value.get("name"), f"{path}.name"))
        case "local_shell":
            draft.request["tool_choice"] = NamedTool(LOCAL_SHELL)
        case "allowed_tools":
            return _allowed_tools(draft, value, path)
        case kind:
            raise InvalidRequest(
                f"'{path}' asks for a tool of the type '{fields.shown(kind)}', which nobody runs"
                " here: name a function, a custom tool or local_shell.",
                param=f"{path}.type",
            )
    return "asked"


def _allowed_tools(draft: Draft, choice: dict[str, Json], path: str) -> Fate:
    mode = _MODE(choice.get("mode", "auto"), f"{path}.mode")
    where = f"{path}.tools"
    tools = fields.array(choice.get("tools"), where, length_max=draft.limits.tools_max)
    allowed = offer_of(draft).allowed = []
    for index, value in enumerate(tools):
        tool = fields.obj(value, f"{where}[{index}]")
        kind = _TEXT(tool.get("type"), f"{where}[{index}].type")
        if kind in INNER:
            allowed.append(NAME(tool.get("name"), f"{where}[{index}].name"))
        elif kind == LOCAL_SHELL:
            allowed.append(LOCAL_SHELL)
        else:
            draft.ignore(kind, under=f"{path}.")
    draft.request["tool_choice"] = mode
    return "no-op" if mode == "auto" else "asked"


def settle_tools(draft: Draft) -> None:
    """After the walk: the tools of the request, and who of them must be called.

    Raises:
        InvalidRequest: A call is required of no tools, or of one that is not among them.
    """
    offer = offer_of(draft)
    tools = offer.tools
    if offer.allowed is not None:
        functions = {offer.named(name) for name in offer.allowed}
        tools = [tool for tool in tools if tool.name in functions]
    draft.request["tools"] = tuple(tools)
    match draft.request.get("tool_choice"):
        case "required" if not tools:
            raise InvalidRequest(
                "'tool_choice' requires a call, but there is no tool that could be called.",
                param="tool_choice",
            )
        case NamedTool(name=name):
            function = offer.named(name)
            if function is None:
                raise fields.invalid("tool_choice.name", "the name of one of 'tools'")
            draft.request["tool_choice"] = NamedTool(function)


# --- What the text is ------------------------------------------------------------------

_FORMAT_TYPE: Final = fields.one_of(
    {"text": "text", "json_object": "json_object", "json_schema": "json_schema"}
)
_SCHEMA: Final = frozenset({"type", "name", "schema", "strict"})


def _format(draft: Draft, value: Json, path: str) -> Fate:
    """Reads what the answer must be: any text, some JSON object, or JSON that fits a schema."""
    form = fields.obj(value, path)
    kind = _FORMAT_TYPE(form.get("type"), f"{path}.type")
    draft.notes["format"] = {"type": kind}
    if kind == "text":
        return "no-op"
    if kind == "json_object":
        draft.request["output_format"] = JsonObject()
        return "asked"
    check_size(draft, form, path)
    draft.ignore_rest(form, _SCHEMA, under=f"{path}.")
    asked = JsonSchema(
        fields.obj(form.get("schema"), f"{path}.schema"),
        fields.optional(form, "name", path, NAME) or "answer",
        fields.optional(form, "strict", path, fields.boolean),
    )
    draft.request["output_format"] = asked
    draft.notes["format"] |= {"name": asked.name, "schema": asked.schema, "strict": asked.strict}
    return "asked"


def _text(draft: Draft, value: Json, path: str) -> Fate:
    walk(draft, _TEXT_TABLE, fields.obj(value, path), under=f"{path}.")
    return "no-op"


# --- The parameters -----------------------------------------------------------------------

_TEXT_TABLE: Final[Table] = {
    "format": Parameter(
        _format,
        {
            "anyOf": [
                fields.object_of({"type": {"enum": ["text", "json_object"]}}),
                fields.object_of(
                    {"type": {"const": "json_schema"}, "schema": fields.obj.schema},
                    name=NAME.schema,
                    strict=fields.boolean.schema,
                ),
            ]
        },
    ),
    "verbosity": without_effect(STRING, "medium"),
}

TEXT: Final = Parameter(_text, schema_of(_TEXT_TABLE))

TOOL_CHOICE: Final = Parameter(
    _tool_choice,
    {
        "anyOf": [
            {"enum": list(_WORDS)},
            fields.object_of({"type": {"enum": ["function", "custom"]}, "name": NAME.schema}),
            fields.object_of({"type": {"const": LOCAL_SHELL}}),
            {
                "type": "object",
                "required": ["type", "tools"],
                "properties": {
                    "type": {"const": "allowed_tools"},
                    "mode": _MODE.schema,
                    "tools": {"type": "array", "items": {"type": "object"}},
                },
            },
        ]
    },
)
