"""The file of `gateway keys`: a table for each caller, with the digest of its key.

    [alice]
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    created = 2026-11-22T10:00:00Z
    expires = 2027-01-01T00:00:00Z    # if it does
    priority = "interactive"          # and whatever else [callers.NAME] can say

It is read with the configuration, and refused whole with every mistake in it: a key that
is passed over would lock somebody out, and a file without keys would let everybody in.
"""

import re
import stat
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import attrs

from gateway.config.caller_checks import name_fault
from gateway.config.files import (
    FILE_BYTES_MAX,
    TooLargeError,
    UnreadableError,
    parse_layer,
    read_bytes,
)
from gateway.config.keys import Key
from gateway.config.mistakes import Document, Mistake, Sources, file_words
from gateway.config.schema import CallerSettings, StoredKey
from gateway.config.structure import structure
from gateway.core.errors import ConfigError

DEFAULT_NAME: Final = "keys.toml"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_OWN: Final = ("digest", "created", "expires")


@attrs.frozen
class KeyFile:
    """What stands in one.

    Attributes:
        keys: By the name of the caller.
        callers: How they are treated, of those of whom it says so.
    """

    path: Path
    keys: Mapping[str, StoredKey]
    callers: Mapping[str, CallerSettings]


def place(named: str, config_path: Path | None) -> Path | None:
    """Where the file is, or would be made.

    Args:
        named: auth.keys_file.
        config_path: The configuration file in use.

    Returns:
        None where there is no configuration file that it could stand beside.
    """
    if named:
        return Path(named)
    return None if config_path is None else config_path.with_name(DEFAULT_NAME)


def find(named: str, config_path: Path | None) -> KeyFile | None:
    """The file in its place; None where nobody asked for one and there is none.

    Raises:
        ConfigError: As `read`; or it was named and is missing.
    """
    path = place(named, config_path)
    if path is None:
        return None
    try:
        return read(path)
    except FileNotFoundError:
        if not named:
            return None
        line = f"{file_words(path)}: there is no such file, and auth.keys_file names it."
        raise ConfigError([line]) from None


def read(path: Path) -> KeyFile:
    """Read one.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: With every mistake in it, a line each; or it can't be read, or is open
            to everybody on the machine.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = read_bytes(path, FILE_BYTES_MAX)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError([f"{file_words(path)}: can't be read: {error.strerror}."]) from None
    except TooLargeError:
        line = f"{file_words(path)}: is larger than {FILE_BYTES_MAX} bytes."
        raise ConfigError([line]) from None
    if mode & stat.S_IRWXO:
        raise ConfigError(
            [
                f"{file_words(path)}: is open to everybody on this machine (mode {mode:04o});"
                f" chmod o= {file_words(path)}"
            ]
        )
    return parse(path, content)


def parse(path: Path, content: bytes) -> KeyFile:
    """As `read`, of what is to be written there."""
    try:
        document = parse_layer(path, content).document
    except UnreadableError as error:
        raise ConfigError([f"{file_words(path)}: {error}"]) from None
    keys: dict[str, StoredKey] = {}
    mistakes: list[Mistake] = []
    for name, table in document.items():
        stored, wrong = _stored(name, table)
        mistakes += wrong
        if not wrong:
            keys[name] = stored
    callers, wrong = _callers(document)
    mistakes += wrong
    if mistakes:
        sources = Sources(path=path, document=document, overrides={})
        raise ConfigError([sources.tell(mistake) for mistake in mistakes])
    return KeyFile(path, keys, callers)


def _stored(name: str, table: Any) -> tuple[StoredKey, list[Mistake]]:
    """One table's key. What stands there may be a key in the wrong place: it is never shown."""
    if not isinstance(table, dict):
        return _NONE, [_wrong((name,), "must be a table; `gateway keys new NAME` makes one.")]
    mistakes = []
    if fault := name_fault(name):
        mistakes.append(_wrong((name,), f"{fault}."))
    digest = table.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        text = "must be the SHA-256 of a key, 64 hexadecimal digits: `gateway keys rotate NAME`."
        mistakes.append(_wrong((name, "digest"), text))
        digest = ""
    moments = {field: _moment(table[field]) for field in ("created", "expires") if field in table}
    for field, moment in moments.items():
        if moment is None:
            text = "must be a day or a moment, such as 2027-01-01T00:00:00Z, without quotes."
            mistakes.append(_wrong((name, field), text))
    return StoredKey(digest=bytes.fromhex(digest), **moments), mistakes


_NONE: Final = StoredKey(digest=b"")


def _callers(document: Document) -> tuple[Mapping[str, CallerSettings], list[Mistake]]:
    settings: Document = {}
    for name, table in document.items():
        if isinstance(table, dict):
            rest = {field: value for field, value in table.items() if field not in _OWN}
            if rest:
                settings[name] = rest
    config, mistakes = structure({"callers": settings})
    return config.callers, [
        attrs.evolve(mistake, key=mistake.key[1:], concerns=()) for mistake in mistakes
    ]


def _moment(value: Any) -> datetime | None:
    """A day is its beginning in UTC. A moment without an offset is nobody's: None."""
    if isinstance(value, datetime):
        return None if value.tzinfo is None else value.astimezone(UTC)
    return datetime.combine(value, time(), UTC) if isinstance(value, date) else None


def _wrong(key: Key, text: str) -> Mistake:
    return Mistake(key, text, value_shown=False)
