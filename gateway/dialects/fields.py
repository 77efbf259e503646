"""Readers of single JSON values: each knows what it expects and says where it was not so.

A reader takes a value and its path (`messages[2].content`) and gives the value,
typed, or raises `InvalidRequest` with the path as `param`. Paths are made of our
own names and of indices; a name that the caller made up goes through `shown`.
A bool is never a number here, although Python says it is. What a reader expects
it also tells as a JSON Schema, for the description of the API.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeGuard, TypeVar

import attrs

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json

T = TypeVar("T")

Read = Callable[[Json, str], T]


@attrs.frozen
class Field(Generic[T]):
    """A reader that tells what it reads.

    Attributes:
        schema: What it takes, as a JSON Schema.
    """

    read: Read[T]
    schema: Mapping[str, Json]

    def __call__(self, value: Json, path: str) -> T:
        return self.read(value, path)


def schema_of(read: Read[T]) -> Mapping[str, Json]:
    """What a reader takes; anything, where it doesn't say."""
    return read.schema if isinstance(read, Field) else {}


TOKEN_MAX: Final = 2**31 - 1


def is_tokens(value: Json) -> TypeGuard[list[int]]:
    """Whether it is a list of ids, maybe an empty one, in a model's own vocabulary."""
    return isinstance(value, list) and all(
        type(token) is int and 0 <= token <= TOKEN_MAX for token in value
    )


TOKENS: Final[Mapping[str, Json]] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": TOKEN_MAX},
}
"""At least one of them, as a JSON Schema."""

NOTHING: Final[Mapping[str, Json]] = {"type": "null"}
"""No value but that of a parameter that is absent."""


def or_null(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """A schema that takes `null` besides."""
    match schema:
        case {"enum": list(values)} if None not in values:
            schema = {**schema, "enum": [*values, None]}
        case {"const": value}:
            return {"enum": [value, None]}
        case {"anyOf": list(options)} if NOTHING not in options:
            return {**schema, "anyOf": [*options, NOTHING]}
    match schema.get("type"):
        case str(kind) if kind != "null":
            return {**schema, "type": [kind, "null"]}
        case list(kinds) if "null" not in kinds:
            return {**schema, "type": [*kinds, "null"]}
    return schema


def object_of(
    needed: Mapping[str, Mapping[str, Json]], **others: Mapping[str, Json]
) -> dict[str, Json]:
    """The schema of an object with these members; `null` stands for one that need not be there."""
    may = {name: or_null(schema) for name, schema in others.items()}
    return {"type": "object", "required": list(needed), "properties": {**needed, **may}}


NAME_CHARS_MAX: Final = 64
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:@/$-]")


def invalid(path: str, expected: str) -> InvalidRequest:
    """The error to raise; `expected` completes the sentence "… must be …"."""
    return InvalidRequest(f"'{path}' must be {expected}.", param=path)


def shown(name: str) -> str:
    """A name that a caller made up, fit for a header, a message and a log line."""
    if not name:
        return "(empty)"
    return _UNSAFE.sub(_escape, name[:NAME_CHARS_MAX])[:NAME_CHARS_MAX]


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _boolean(value: Json, path: str) -> bool:
    if value is True or value is False:
        return value
    raise invalid(path, "true or false")


boolean: Final = Field(_boolean, {"type": "boolean"})


def integer(low: int, high: int) -> Field[int]:
    """Reads an integer from `low` to `high`, both included; 1.0 is none."""
    if high == INT64_MAX:
        expected = "a 64-bit integer" if low == INT64_MIN else f"an integer, {low} or more"
    else:
        expected = f"an integer from {low} to {high}"

    def read(value: Json, path: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise invalid(path, expected)
        return value

    return Field(read, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, *, above_low: bool = False) -> Field[float]:
    """Reads a number from `low` to `high`, `low` itself excluded by `above_low`."""
    expected = f"a number {f'above {low:g} and up' if above_low else f'from {low:g}'} to {high:g}"

    def read(value: Json, path: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise invalid(path, expected)
        if above_low and value == low:
            raise invalid(path, expected)
        return float(value)

    least = "exclusiveMinimum" if above_low else "minimum"
    return Field(read, {"type": "number", least: low, "maximum": high})


def text(chars_min: int = 0, chars_max: int | None = None) -> Field[str]:
    """Reads a string of so many characters."""
    if chars_max is None:
        expected = "a string" if chars_min == 0 else "a non-empty string"
    else:
        expected = f"a string of {chars_min} to {chars_max} characters"

    def read(value: Json, path: str) -> str:
        if not isinstance(value, str) or len(value) < chars_min:
            raise invalid(path, expected)
        if chars_max is not None and len(value) > chars_max:
            raise invalid(path, expected)
        return value

    bounds = {} if chars_max is None else {"maxLength": chars_max}
    return Field(read, {"type": "string", "minLength": chars_min, **bounds})


def matching(pattern: str, chars_max: int, expected: str) -> Field[str]:
    """Reads a string that is the pattern from end to end."""
    compiled = re.compile(pattern)

    def read(value: Json, path: str) -> str:
        # The length first: no expression ever runs over an unbounded string.
        if not isinstance(value, str) or len(value) > chars_max or not compiled.fullmatch(value):
            raise invalid(path, expected)
        return value

    return Field(read, {"type": "string", "maxLength": chars_max, "pattern": f"^{pattern}$"})


def one_of(words: Mapping[str, T]) -> Field[T]:
    """Reads one of a few words and gives what it stands for."""
    expected = "one of " + ", ".join(words)

    def read(value: Json, path: str) -> T:
        if not isinstance(value, str) or value not in words:
            raise invalid(path, expected)
        return words[value]

    return Field(read, {"type": "string", "enum": list(words)})


def _obj(value: Json, path: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise invalid(path, "an object")
    return value


obj: Final = Field(_obj, {"type": "object"})


def optional(values: Mapping[str, Json], name: str, path: str, read: Read[T]) -> T | None:
    """Reads one member of an object that may lack it; `path` is the object's own."""
    value = values.get(name)
    return None if value is None else read(value, f"{path}.{name}")


def array(value: Json, path: str, *, length_min: int = 0, length_max: int) -> list[Json]:
    if not isinstance(value, list) or not length_min <= len(value) <= length_max:
        raise invalid(path, f"a list of {length_min} to {length_max} items")
    return value


def _strings(value: Json, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid(path, "a list of strings")
    return value


strings: Final = Field(_strings, {"type": "array", "items": {"type": "string"}})
"""Reads a list of strings, for parameters of which nothing more is made."""


tool_name: Final = matching(
    r"[A-Za-z0-9_.-]+", NAME_CHARS_MAX, "1 to 64 letters, digits, '_', '.' or '-'"
)

called_name: Final = text(0, 256)
"""The name in an earlier call: a model may have made it up, and the client says it again."""

# A name, never an address: `..` and `//` lead elsewhere. vLLM names a model by its folder.
model_name: Final = matching(
    r"(?!.*(?:\.\.|//))/?[A-Za-z0-9@][A-Za-z0-9._/:@+ -]*",
    256,
    "the name of a model: 1 to 256 letters, digits, blanks or any of . _ / : @ + -, and no URL",
)
