"""What a chat completion may do besides plain text: `tools`, `tool_choice`, `response_format`."""

from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import JsonObject, JsonSchema, NamedTool, Tool, ToolChoice
from gateway.dialects import fields
from gateway.dialects.draft import Draft, Fate, Parameter, check_size

_TEXT: Final = fields.text()
_WORDS: Final[dict[str, ToolChoice]] = {"auto": "auto", "none": "none", "required": "required"}
_TOOL: Final = frozenset({"type", "function"})
_FUNCTION: Final = frozenset({"name", "description", "parameters", "strict"})
_SCHEMA: Final = frozenset({"name", "schema", "strict"})
_FORMAT_TYPE: Final = fields.one_of(
    {"text": "text", "json_object": "json_object", "json_schema": "json_schema"}
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
    if tool.get("type") != "function":
        raise fields.invalid(f"{path}.type", "function")
    path = f"{path}.function"
    function = fields.obj(tool.get("function"), path)
    draft.ignore_rest(tool, _TOOL, under="tools.")
    draft.ignore_rest(function, _FUNCTION, under="tools.function.")
    return Tool(
        name=fields.tool_name(function.get("name"), f"{path}.name"),
        description=fields.optional(function, "description", path, _TEXT),
        parameters=fields.optional(function, "parameters", path, fields.obj),
        strict=fields.optional(function, "strict", path, fields.boolean),
    )


def _tool_choice(draft: Draft, value: Json, path: str) -> Fate:
    """Reads a word or one function by name. `check_tool_choice` holds it against the tools."""
    if isinstance(value, str) and value in _WORDS:
        draft.request["tool_choice"] = _WORDS[value]
        return "no-op" if value == "auto" else "asked"
    if not isinstance(value, dict) or value.get("type") != "function":
        raise fields.invalid(
            path, 'auto, none, required or {"type": "function", "function": {"name": "..."}}'
        )
    function = fields.obj(value.get("function"), f"{path}.function")
    name = fields.tool_name(function.get("name"), f"{path}.function.name")
    draft.request["tool_choice"] = NamedTool(name)
    return "asked"


def check_tool_choice(draft: Draft) -> None:
    """After the walk: what must be called has to be there.

    Raises:
        InvalidRequest: A call is required of no tools, or of one that is not among them.
    """
    if "tool_choice" not in draft.request:
        return
    names = {tool.name for tool in draft.request.get("tools", ())}
    match draft.request["tool_choice"]:
        case "required" if not names:
            raise InvalidRequest(
                "'tool_choice' is 'required', but there are no 'tools'.", param="tool_choice"
            )
        case NamedTool(name=name) if name not in names:
            raise fields.invalid("tool_choice.function.name", "the name of one of 'tools'")


def _response_format(draft: Draft, value: Json, path: str) -> Fate:
    """Reads what the answer must be: any text, some JSON object, or JSON that fits a schema."""
    form = fields.obj(value, path)
    match _FORMAT_TYPE(form.get("type"), f"{path}.type"):
        case "json_object" if form.get("schema") is not None:
            # As llama.cpp and others have it.
            where = f"{path}.schema"
            check_size(draft, form["schema"], where)
            draft.request["output_format"] = JsonSchema(fields.obj(form["schema"], where))
        case "json_object":
            draft.request["output_format"] = JsonObject()
        case "json_schema":
            draft.request["output_format"] = _json_schema(draft, form.get("json_schema"), path)
        case _:
            return "no-op"
    return "asked"


def _json_schema(draft: Draft, value: Json, path: str) -> JsonSchema:
    path = f"{path}.json_schema"
    form = fields.obj(value, path)
    check_size(draft, form, path)
    draft.ignore_rest(form, _SCHEMA, under="response_format.json_schema.")
    schema = fields.obj(form.get("schema"), f"{path}.schema")
    strict = fields.optional(form, "strict", path, fields.boolean)
    if form.get("name") is None:
        return JsonSchema(schema, strict=strict)
    return JsonSchema(schema, fields.tool_name(form["name"], f"{path}.name"), strict)


_FUNCTION_SCHEMA: Final = fields.object_of(
    {"name": fields.tool_name.schema},
    description=_TEXT.schema,
    parameters=fields.obj.schema,
    strict=fields.boolean.schema,
)

TOOLS: Final = Parameter(
    _tools,
    {
        "type": "array",
        "items": fields.object_of({"type": {"const": "function"}, "function": _FUNCTION_SCHEMA}),
    },
)

TOOL_CHOICE: Final = Parameter(
    _tool_choice,
    {
        "anyOf": [
            {"enum": list(_WORDS)},
            fields.object_of(
                {
                    "type": {"const": "function"},
                    "function": fields.object_of({"name": fields.tool_name.schema}),
                }
            ),
        ]
    },
)

RESPONSE_FORMAT: Final = Parameter(
    _response_format,
    {
        "anyOf": [
            fields.object_of({"type": {"enum": ["text", "json_object"]}}),
            fields.object_of(
                {
                    "type": {"const": "json_schema"},
                    "json_schema": fields.object_of(
                        {"schema": fields.obj.schema},
                        name=fields.tool_name.schema,
                        strict=fields.boolean.schema,
                    ),
                }
            ),
        ]
    },
)
