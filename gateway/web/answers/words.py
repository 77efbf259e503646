"""What the schemas of answers are made of."""

from collections.abc import Mapping
from typing import Final

from gateway.core.jsonio import Json

Schema = Mapping[str, Json]
"""A JSON Schema, as OpenAPI 3.1 has it: draft 2020-12."""

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
YES_OR_NO: Final[Schema] = {"type": "boolean"}
NOTHING: Final[Schema] = {"type": "null"}
ANY_OBJECT: Final[Schema] = {"type": "object"}


def word(*words: str) -> Schema:
    """One of these."""
    return {"type": "string", "enum": list(words)}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def or_nothing(schema: Schema) -> Schema:
    """It, or `null`."""
    return {"anyOf": [schema, NOTHING]}


def fields(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, *, title: str = ""
) -> Schema:
    """An object with these members.

    Args:
        title: Under which it stands among the components; without, it stands in its place.
    """
    named = {"title": title} if title else {}
    properties = {**required, **(optional or {})}
    required_names = {"required": list(required)} if required else {}
    return {**named, "type": "object", "properties": properties, **required_names}
