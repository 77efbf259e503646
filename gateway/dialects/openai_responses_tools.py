"""The `tools` of a response, and what a model is told of each.

A model calls functions and nothing else. So each tool is offered to it as a
function, and what it calls is written back as what the caller knows:

    function     as it is
    custom       a function of one string; a grammar for it is told, not enforced
    namespace    each tool in it, as `namespace__name`
    local_shell  a function of a command, which the caller runs

All others run on OpenAI's own machines (`web_search`, `mcp`…). They are left out
by name, so that an agent that lists them still works.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import attrs

from gateway.core.jsonio import Json
from gateway.core.messages import Tool
from gateway.dialects import fields
from gateway.dialects.draft import Draft, Fate, Parameter, check_size

LOCAL_SHELL: Final = "local_shell"
"""The kind of tool, and the function's name."""

INPUT: Final = "input"
"""The one parameter of a function that stands for a custom tool."""

NAME: Final = fields.matching(r"[A-Za-z0-9_.-]+", 128, "1 to 128 letters, digits, '_', '.' or '-'")
_TEXT: Final = fields.text()


@attrs.frozen
class Callee:
    """What the caller knows a function by."""

    kind: Literal["function", "custom", "local_shell"]
    name: str
    namespace: str | None = None

    @property
    def function(self) -> str:
        """The name that the model knows."""
        return function_name(self.name, self.namespace)


def function_name(name: str, namespace: str | None) -> str:
    return name if namespace is None else f"{namespace}__{name}"


@attrs.define(eq=False)
class Offer:
    """The tools of one request, so far.

    Attributes:
        callees: By the names that the model knows.
        shown: The tools as the answer repeats them.
        allowed: Those that may be called, as the caller names them; None: all.
    """

    tools: list[Tool] = attrs.field(factory=list)
    callees: dict[str, Callee] = attrs.field(factory=dict)
    shown: list[Json] = attrs.field(factory=list)
    allowed: list[str] | None = None

    def add(self, callee: Callee, description: str | None, **more: Any) -> None:
        self.tools.append(Tool(callee.function, description, **more))
        self.callees[callee.function] = callee

    def named(self, name: str) -> str | None:
        """The function that the caller means, who may leave the namespace out."""
        if name in self.callees:
            return name
        meant = (known for known, callee in self.callees.items() if callee.name == name)
        return next(meant, None)


def offer_of(draft: Draft) -> Offer:
    """What the draft has of it."""
    offer: Offer = draft.notes.setdefault("offer", Offer())
    return offer


# --- Tools ----------------------------------------------------------------------


def _tools(draft: Draft, value: Json, path: str) -> Fate:
    read_tools(draft, value, path)
    return "asked" if value else "no-op"


def read_tools(draft: Draft, value: Json, path: str) -> None:
    """Reads tools into the offer; those that nobody runs here are noted by name."""
    values = fields.array(value, path, length_max=draft.limits.tools_max)
    check_size(draft, values, path)
    offer = offer_of(draft)
    offer.shown += _read(draft, values, path, _READERS, None)
    if len(offer.tools) > draft.limits.tools_max:
        raise fields.invalid(path, f"a list of at most {draft.limits.tools_max} tools in all")


def _read(
    draft: Draft,
    values: list[Json],
    path: str,
    readers: "Mapping[str, _Reader]",
    namespace: str | None,
) -> list[Json]:
    """What the answer repeats of them."""
    shown: list[Json] = []
    for index, value in enumerate(values):
        where = f"{path}[{index}]"
        tool = fields.obj(value, where)
        kind = _TEXT(tool.get("type"), f"{where}.type")
        if kind in readers:
            shown.append(readers[kind](draft, tool, where, namespace))
        else:
            draft.ignore(kind, under="tools.")
    return shown


def _function(draft: Draft, tool: dict[str, Json], path: str, namespace: str | None) -> Json:
    draft.ignore_rest(tool, _FUNCTION, under="tools.")
    name = NAME(tool.get("name"), f"{path}.name")
    parts: dict[str, Any] = {
        "description": fields.optional(tool, "description", path, _TEXT),
        "parameters": fields.optional(tool, "parameters", path, fields.obj),
        "strict": fields.optional(tool, "strict", path, fields.boolean),
    }
    offer_of(draft).add(Callee("function", name, namespace), **parts)
    return {"type": "function", "name": name, **parts}


def _custom(draft: Draft, tool: dict[str, Json], path: str, namespace: str | None) -> Json:
    draft.ignore_rest(tool, _CUSTOM, under="tools.custom.")
    name = NAME(tool.get("name"), f"{path}.name")
    description = fields.optional(tool, "description", path, _TEXT)
    form = fields.optional(tool, "format", path, fields.obj) or {"type": "text"}
    told = description or ""
    if form.get("type") == "grammar":
        where = f"{path}.format"
        syntax = _SYNTAX(form.get("syntax"), f"{where}.syntax")
        definition = _TEXT(form.get("definition"), f"{where}.definition")
        told += f"\n\nThe input must fit this {syntax} grammar:\n{definition}"
        draft.ignore("format", under="tools.custom.")
    elif form.get("type") != "text":
        raise fields.invalid(f"{path}.format.type", "text or grammar")
    offer_of(draft).add(Callee("custom", name, namespace), told.strip(), parameters=_ONE_STRING)
    return {"type": "custom", "name": name, "description": description, "format": form}


def _namespace(draft: Draft, tool: dict[str, Json], path: str, outer: str | None) -> Json:
    draft.ignore_rest(tool, _NAMESPACE, under="tools.namespace.")
    name = NAME(tool.get("name"), f"{path}.name")
    where = f"{path}.tools"
    values = fields.array(tool.get("tools"), where, length_max=draft.limits.tools_max)
    return {
        "type": "namespace",
        "name": name,
        "description": fields.optional(tool, "description", path, _TEXT) or "",
        "tools": _read(draft, values, where, INNER, name),
    }


def _local_shell(draft: Draft, tool: dict[str, Json], path: str, namespace: str | None) -> Json:
    offer_of(draft).add(
        Callee(LOCAL_SHELL, LOCAL_SHELL),
        "Runs a command on the user's machine and returns its output.",
        parameters=_COMMAND,
    )
    return {"type": LOCAL_SHELL}


_Reader = Callable[[Draft, dict[str, Json], str, str | None], Json]
"""(draft, tool, path, namespace) to what the answer repeats of it."""

INNER: Final[dict[str, _Reader]] = {"function": _function, "custom": _custom}
_READERS: Final[dict[str, _Reader]] = {
    **INNER,
    "namespace": _namespace,
    LOCAL_SHELL: _local_shell,
}
_SYNTAX: Final = fields.one_of({"lark": "lark", "regex": "regex"})

_FUNCTION: Final = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM: Final = frozenset({"type", "name", "description", "format"})
_NAMESPACE: Final = frozenset({"type", "name", "tools"})

_ONE_STRING: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {INPUT: {"type": "string", "description": "The whole input, as plain text."}},
    "required": [INPUT],
    "additionalProperties": False,
}
_COMMAND: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "The program and its arguments.",
        },
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer", "minimum": 1},
    },
    "required": ["command"],
    "additionalProperties": False,
}

TOOLS: Final = Parameter(
    _tools,
    {
        "type": "array",
        "items": {
            "anyOf": [
                fields.object_of(
                    {"type": {"const": "function"}, "name": NAME.schema},
                    description=_TEXT.schema,
                    parameters=fields.obj.schema,
                    strict=fields.boolean.schema,
                ),
                fields.object_of({"type": {**_TEXT.schema, "not": {"const": "function"}}}),
            ]
        },
    },
    note="function, custom, namespace and local_shell; others are left out by name",
)
