"""A small JSON value that fits a JSON Schema. Pure; of 2020-12 the part that models are given.

Strings are `…`, numbers as near to 0 as their bounds allow, and objects have
their required properties alone. `pattern`, `format`, `not` and conditions are
not looked at.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.errors import BackendRefusedRequest
from gateway.core.jsonio import Json

DEPTH_MAX: Final = 32
STEPS_MAX: Final = 5000
"""Subschemas looked at; a few lines of references can ask for more than there is time."""

TEXT_CHARS_MAX: Final = 10_000

_TEXT: Final = "…"


def smallest(schema: Mapping[str, Any]) -> Json:
    """A value that fits.

    Raises:
        BackendRefusedRequest: The schema is none, refers to what is not in it,
            or asks for a value that is endless or large.
    """
    try:
        return _Search(schema).value(schema, DEPTH_MAX)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise BackendRefusedRequest("The schema can't be read.") from error


class _Search:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps_left = STEPS_MAX

    def value(self, schema: Any, depth_left: int) -> Json:
        if schema is True:
            return _TEXT
        schema = self._whole(schema, depth_left)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                rest = {key: schema[key] for key in schema if key != choice}
                both = self._merged([rest, schema[choice][0]], depth_left)
                return self.value(both, depth_left - 1)
        match _type(schema):
            case "object":
                properties = schema.get("properties", {})
                return {
                    name: self.value(properties.get(name, True), depth_left - 1)
                    for name in schema.get("required", ())
                }
            case "array":
                first = schema.get("prefixItems", [])
                missing = max(0, schema.get("minItems", 0) - len(first))
                if missing > STEPS_MAX:
                    raise _too_much()
                items = [*first, *[schema.get("items", True)] * missing]
                return [self.value(item, depth_left - 1) for item in items]
            case "string":
                return _text(schema)
            case "integer":
                return _number(schema, step=schema.get("multipleOf", 1))
            case "number":
                return _number(schema, step=schema.get("multipleOf"))
            case "boolean":
                return False
            case "null":
                return None
            case unknown:
                raise ValueError(unknown)

    def _whole(self, schema: Any, depth_left: int) -> Mapping[str, Any]:
        """The schema with what it refers to, and what it is all of, written into it."""
        self._steps_left -= 1
        if depth_left <= 0 or self._steps_left < 0:
            raise _too_much()
        if not isinstance(schema, Mapping):
            raise TypeError(schema)
        if "$ref" in schema:
            rest = {key: schema[key] for key in schema if key != "$ref"}
            return self._merged([self._found(schema["$ref"]), rest], depth_left - 1)
        if "allOf" in schema:
            rest = {key: schema[key] for key in schema if key != "allOf"}
            return self._merged([*schema["allOf"], rest], depth_left - 1)
        return schema

    def _merged(self, parts: Sequence[Any], depth_left: int) -> Mapping[str, Any]:
        merged: dict[str, Any] = {}
        for part in parts:
            part = self._whole(part, depth_left)
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**merged, **part}
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = required
        return merged

    def _found(self, reference: str) -> Any:
        """What `#/$defs/name` points to (RFC 6901); `#` is the whole."""
        head, *steps = reference.split("/")
        if head != "#":
            raise LookupError(reference)
        found: Any = self._root
        for step in steps:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found[int(key) if isinstance(found, list) else key]
        return found


def _type(schema: Mapping[str, Any]) -> str:
    match schema.get("type"):
        case str(kind):
            return kind
        case [str(kind), *_]:
            return kind
    # Left out, it follows from what is said of the value.
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _text(schema: Mapping[str, Any]) -> str:
    least: int = max(1, schema.get("minLength", 0))
    chars: int = min(least, schema.get("maxLength", least))
    if chars > TEXT_CHARS_MAX:
        raise _too_much()
    return _TEXT * chars


def _number(schema: Mapping[str, Any], *, step: float | None) -> float:
    """The number nearest to 0 within the bounds, a multiple of `step`."""
    low: float | None = schema.get("minimum")
    high: float | None = schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + (step or 1)
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - (step or 1)
    if low is not None and low > 0:
        return math.ceil(low / step) * step if step else low
    if high is not None and high < 0:
        return math.floor(high / step) * step if step else high
    return 0


def _too_much() -> BackendRefusedRequest:
    return BackendRefusedRequest("No JSON of a reasonable size fits the schema.")
