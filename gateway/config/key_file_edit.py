"""Changes in the text of a key file: comments and order stay as whoever wrote them left them.

tomlkit keeps a document's text; the daemon, which only reads, does without it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.items import Table

from gateway.config.schema import StoredKey

_HEADER: Final = """\
# The keys of `gateway keys`: a table for each caller, with the SHA-256 of its key. The keys
# themselves are stored nowhere. What [callers.NAME] of the configuration can say, can stand
# here too. `gateway reload` (or a restart) makes a change live.
"""


def text_of(path: Path) -> str:
    """What stands in the file, or how a new one begins.

    Raises:
        OSError: It is there and can't be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return _HEADER


def with_key(text: str, name: str, key: StoredKey, settings: Mapping[str, Any]) -> str:
    """One more table at the end. There must be none of this name."""
    document = tomlkit.parse(text)
    assert name not in document
    table = tomlkit.table()
    _put(table, key)
    table.update(settings)
    if document:
        document.add(tomlkit.nl())
    document[name] = table
    return tomlkit.dumps(document)


def with_other_key(text: str, name: str, key: StoredKey) -> str:
    """Another key in the table of this name; the rest of it stays."""
    document = tomlkit.parse(text)
    table = document[name]
    assert isinstance(table, Table)
    _put(table, key)
    return tomlkit.dumps(document)


def without_key(text: str, name: str) -> str:
    """Less the table of this name."""
    document = tomlkit.parse(text)
    document.remove(name)
    return tomlkit.dumps(document)


def _put(table: Table, key: StoredKey) -> None:
    table["digest"] = key.digest.hex()
    for field, moment in (("created", key.created), ("expires", key.expires)):
        if moment is not None:
            table[field] = moment
        elif field in table:
            table.remove(field)
