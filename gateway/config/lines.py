"""On which line of a TOML text a key stands. tomllib does not tell."""

import tomllib
from typing import Any, Final

from gateway.config.keys import Key

STATEMENT_LINES_MAX: Final = 500
"""Each line of a statement is one more try to read it; what is longer has no line."""


def line_of(text: str, key: Key) -> int | None:
    """The line where the statement begins that gives this key its value, counted from 1.

    Args:
        text: Valid TOML. It is read statement by statement, since a statement, unlike most
            of its lines, is valid TOML by itself.

    Returns:
        None for a key that is not there.
    """
    table: Key = ()
    first, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
        document = _read(statement)
        if document is None:
            if number - first >= STATEMENT_LINES_MAX:
                return None
            continue
        if statement.lstrip().startswith("["):
            table = _header(document)
            if table == key:
                return first
        elif _holds(table, document, key):
            return first
        first, statement = number + 1, ""
    return None


def _read(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None


def _header(document: dict[str, Any]) -> Key:
    """`[a.b]` alone is {"a": {"b": {}}}."""
    key: Key = ()
    node: Any = document
    while isinstance(node, dict) and node:
        ((name, node),) = node.items()
        key = (*key, name)
    return key


def _holds(table: Key, document: dict[str, Any], key: Key) -> bool:
    """Whether `name = value` below a table's header, where a name may have dots, gives the key."""
    if key[: len(table)] != table:
        return False
    node: Any = document
    for name in key[len(table) :]:
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True
