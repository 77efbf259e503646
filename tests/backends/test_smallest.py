from typing import Any

import pytest

from gateway.backends.smallest import smallest
from gateway.core.errors import BackendRefusedRequest


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "…"),
        ({"type": "string"}, "…"),
        ({"type": "string", "minLength": 3}, "………"),
        ({"type": "string", "maxLength": 0}, ""),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["integer", "null"]}, 0),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "minimum": 0.5}, 0.5),
        ({"type": "number", "minimum": -1, "maximum": 1}, 0),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"type": "string", "enum": ["C", "F"]}, "C"),
        ({"type": "array"}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"prefixItems": [{"type": "integer"}, {"const": 1}]}, [0, 1]),
        ({"type": "object"}, {}),
        (
            {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a", "c"]},
            {"a": 0, "c": "…"},
        ),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"oneOf": [{"minimum": 3}], "type": "integer"}, 3),
        (
            {
                "allOf": [
                    {"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"type": "integer"}}}, 0),
        (
            {
                "properties": {"next": {"$ref": "#"}, "id": {"type": "integer"}},
                "required": ["id"],
            },
            {"id": 0},
        ),
    ],
)
def test_it_fits(schema: dict[str, Any], value: Any) -> None:
    assert smallest(schema) == value


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {
            "$defs": {"a": {"type": "array", "minItems": 500, "items": {"$ref": "#/$defs/b"}},
                      "b": {"type": "array", "minItems": 500, "items": {}}},
            "$ref": "#/$defs/a",
        },
    ],
)  # fmt: skip
def test_what_is_endless_or_large_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BackendRefusedRequest, match="reasonable size"):
        smallest(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "string", "minLength": "3"},
        {"properties": 3, "required": ["a"]},
        {"required": 3},
        {"enum": []},
        {"anyOf": 3},
        {"items": 3, "minItems": 1},
        {"type": "integer", "minimum": 1, "multipleOf": 0, "allOf": [3]},
        {"type": "integer", "minimum": "1"},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://example.com/schema"},
        {"$ref": 3},
    ],
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BackendRefusedRequest, match="can't be read"):
        smallest(schema)
