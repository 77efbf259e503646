"""What an answer may be besides plain text: `tools`, `tool_choice`, `output_config`."""

from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import JsonSchema, NamedTool, ReasoningEffort, Tool, ToolChoice
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

TOOL_NAME: Final = fields.matching(
    r"[A-Za-z0-9_.-]+", 128, "1 to 128 letters, digits, '_', '.' or '-'"
)
"""Anthropic's own bound; tools of an MCP server carry the names of both."""

_TEXT: Final = fields.text()

# --- Tools ------------------------------------------------------------------------------

_TOOL: Final = frozenset(
    {
        "type",
        "name",
        "description",
        "input_schema",
        "strict",
        "cache_control",
        # Arguments are streamed as they are generated, always.
        "eager_input_streaming",
    }
)


def _tools(draft: Draft, value: Json, path: str) -> Fate:
    """Reads the functions that the client runs. The others are left out by name.

    Those run at Anthropic, or have their schema there.
    """
    values = fields.array(value, path, length_max=draft.limits.tools_max)
    check_size(draft, values, path)
    tools = [_tool(draft, tool, f"{path}[{index}]") for index, tool in enumerate(values)]
    draft.request["tools"] = tuple(tool for tool in tools if tool is not None)
    return "asked" if values else "no-op"


def _tool(draft: Draft, value: Json, path: str) -> Tool | None:
    tool = fields.obj(value, path)
    kind = fields.optional(tool, "type", path, _TEXT) or "custom"
    if kind != "custom" and tool.get("input_schema") is None:
        draft.ignore(kind, under="tools.")
        return None
    draft.ignore_rest(tool, _TOOL, under="tools.")
    return Tool(
        name=TOOL_NAME(tool.get("name"), f"{path}.name"),
        description=fields.optional(tool, "description", path, _TEXT),
        parameters=fields.obj(tool.get("input_schema"), f"{path}.input_schema"),
        strict=fields.optional(tool, "strict", path, fields.boolean),
    )


# --- Which of them is called --------------------------------------------------------------

_CHOICES: Final[dict[str, ToolChoice | None]] = {
    "auto": "auto",
    "any": "required",
    "none": "none",
    "tool": None,  # the one that `name` says
}
_CHOICE: Final = fields.one_of(_CHOICES)
_CHOICE_KEYS: Final = frozenset({"type", "name", "disable_parallel_tool_use"})


def _tool_choice(draft: Draft, value: Json, path: str) -> Fate:
    """Reads what must be called. `check_tool_choice` holds it against the tools."""
    choice = fields.obj(value, path)
    draft.ignore_rest(choice, _CHOICE_KEYS, under="tool_choice.")
    wanted = _CHOICE(choice.get("type"), f"{path}.type")
    if wanted is None:
        wanted = NamedTool(TOOL_NAME(choice.get("name"), f"{path}.name"))
    draft.request["tool_choice"] = wanted
    if fields.optional(choice, "disable_parallel_tool_use", path, fields.boolean):
        draft.request["parallel_tool_calls"] = False
        draft.ask("parallel_tool_calls", written=f"{path}.disable_parallel_tool_use")
    return "no-op" if wanted == "auto" else "asked"


def check_tool_choice(draft: Draft) -> None:
    """After the walk: what must be called has to be there.

    Raises:
        InvalidRequest: A call is required of no tools, or of one that is not among them.
    """
    names = {tool.name for tool in draft.request.get("tools", ())}
    match draft.request.get("tool_choice"):
        case "required" if not names:
            raise InvalidRequest(
                "'tool_choice' asks for a call, but no 'tools' can be called here.",
                param="tool_choice",
            )
        case NamedTool(name=name) if name not in names:
            raise InvalidRequest(
                "'tool_choice.name' must be the name of one of 'tools' that has an input_schema.",
                param="tool_choice.name",
            )


# --- What it must look like, and how long to think about it ---------------------------------

_EFFORTS: Final[dict[str, ReasoningEffort]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_EFFORT: Final = fields.one_of(_EFFORTS)
_JSON_SCHEMA: Final = fields.one_of({"json_schema": None})
_FORMAT_KEYS: Final = frozenset({"type", "schema"})

_BUDGETS: Final[tuple[tuple[int, ReasoningEffort], ...]] = ((4096, "low"), (16384, "medium"))
"""Thinking tokens below which an effort is meant; `high` beyond them."""

_THINKING: Final = fields.one_of(
    {kind: kind for kind in ("enabled", "adaptive", "disabled", "between_tools")}
)
_THINKING_KEYS: Final = frozenset({"type", "budget_tokens", "display"})
_BUDGET: Final = fields.integer(1, fields.INT64_MAX)
_DISPLAY: Final = fields.one_of({"summarized": True, "omitted": False})


def _thinking(draft: Draft, value: Json, path: str) -> Fate:
    """Reads whether to think first. Engines know degrees of it, not budgets.

    `adaptive` leaves it to the model, as engines do by themselves.
    """
    wish = fields.obj(value, path)
    draft.ignore_rest(wish, _THINKING_KEYS, under="thinking.")
    draft.notes["show_thinking"] = fields.optional(wish, "display", path, _DISPLAY) is not False
    match _THINKING(wish.get("type"), f"{path}.type"):
        case "disabled":
            _set_effort(draft, "none", path)
        case "enabled":
            budget = _BUDGET(wish.get("budget_tokens"), f"{path}.budget_tokens")
            # What `output_config` says is nearer to what engines know.
            if "reasoning_effort" not in draft.request:
                default: ReasoningEffort = "high"
                effort = next((to for below, to in _BUDGETS if budget < below), default)
                _set_effort(draft, effort, path)
        case "between_tools":
            return "ignored"
    return "no-op"


def _effort(draft: Draft, value: Json, path: str) -> Fate:
    effort = _EFFORT(value, path)
    if draft.request.get("reasoning_effort") != "none":
        _set_effort(draft, effort, path)
    return "no-op"


def _set_effort(draft: Draft, effort: ReasoningEffort, path: str) -> None:
    draft.request["reasoning_effort"] = effort
    draft.request["reasoning_optional"] = True
    draft.ask("reasoning_effort", written=path)


def _format(draft: Draft, value: Json, path: str) -> Fate:
    form = fields.obj(value, path)
    _JSON_SCHEMA(form.get("type"), f"{path}.type")
    check_size(draft, form, path)
    draft.ignore_rest(form, _FORMAT_KEYS, under=f"{path}.")
    draft.request["output_format"] = JsonSchema(fields.obj(form.get("schema"), f"{path}.schema"))
    return "asked"


OUTPUT_FORMAT: Final = Parameter(
    _format,
    {
        "type": "object",
        "required": ["type", "schema"],
        "properties": {"type": _JSON_SCHEMA.schema, "schema": fields.obj.schema},
    },
)
"""JSON that fits a schema; as a parameter of its own it is the older name."""

_OUTPUT_CONFIG: Final[Table] = {
    "effort": Parameter(
        _effort,
        _EFFORT.schema,
        note="how long a model that can reason does so",
    ),
    "format": OUTPUT_FORMAT,
    "task_budget": without_effect(fields.obj),
}


def _output_config(draft: Draft, value: Json, path: str) -> Fate:
    walk(draft, _OUTPUT_CONFIG, fields.obj(value, path), under=f"{path}.")
    return "no-op"


OUTPUT_CONFIG: Final = Parameter(_output_config, schema_of(_OUTPUT_CONFIG))

THINKING: Final = Parameter(
    _thinking,
    {
        "anyOf": [
            fields.object_of(
                {"type": {"const": "enabled"}, "budget_tokens": _BUDGET.schema},
                display=_DISPLAY.schema,
            ),
            fields.object_of(
                {"type": {"enum": ["adaptive", "disabled", "between_tools"]}},
                display=_DISPLAY.schema,
            ),
        ]
    },
    note=(
        "a budget below 4096 is low effort, below 16384 medium, else high; adaptive and absent:"
        " as the model does by itself; a model that can't reason answers without"
    ),
)

_TOOL_SCHEMA: Final[dict[str, Json]] = {
    "anyOf": [
        fields.object_of(
            {"name": TOOL_NAME.schema, "input_schema": fields.obj.schema},
            type=_TEXT.schema,
            description=_TEXT.schema,
            strict=fields.boolean.schema,
        ),
        # Of Anthropic's own: left out.
        {
            **fields.object_of(
                {"type": {**_TEXT.schema, "minLength": 1, "not": {"const": "custom"}}}
            ),
            "not": {"required": ["input_schema"]},
        },
    ]
}

TOOLS: Final = Parameter(
    _tools,
    {"type": "array", "items": _TOOL_SCHEMA},
    note="those without an input_schema, such as web_search, are left out by name",
)

TOOL_CHOICE: Final = Parameter(
    _tool_choice,
    {
        "anyOf": [
            fields.object_of(
                {"type": {"enum": ["auto", "any", "none"]}},
                disable_parallel_tool_use=fields.boolean.schema,
            ),
            fields.object_of(
                {"type": {"const": "tool"}, "name": TOOL_NAME.schema},
                disable_parallel_tool_use=fields.boolean.schema,
            ),
        ]
    },
)
