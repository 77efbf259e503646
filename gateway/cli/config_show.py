"""`gateway config show`: every setting as it holds, and where it was written.

What is printed is a configuration file again, but for the secrets, which are `***`.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from gateway.cli.output import add_json_option, print_json
from gateway.cli.settings import add_config_option, read_all
from gateway.cli.toml_words import toml_key, toml_value
from gateway.config.keys import NAME, SETTINGS, Key
from gateway.config.load import Loaded
from gateway.config.mistakes import Origin, file_words
from gateway.core import exit_codes
from gateway.core.jsonio import Json

DEFAULT: Final = Origin("default")
HIDDEN: Final = "***"

_COMMENT_COLUMN: Final = 40


@attrs.frozen
class Shown:
    """One setting.

    Attributes:
        value: As TOML and JSON have it; HIDDEN for a secret that is set.
        changed: Whether that is not what holds where nobody says anything.
    """

    key: Key
    value: Json
    origin: Origin
    changed: bool


def settings(loaded: Loaded) -> Iterator[Shown]:
    """Every setting that has a value, in the order of the schema."""
    for setting in SETTINGS:
        for key, value in _values((), setting.key, loaded.config):
            if value is None:
                continue
            shown = HIDDEN if setting.secret and value else _plain(value)
            changed = value != setting.default
            yield Shown(key, shown, _origin(key, loaded, changed=changed), changed)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser)
    parser.add_argument("--origin", action="store_true", help="say where each value was written")
    parser.add_argument(
        "--changed", action="store_true", help="leave out what has its default value"
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    loaded = read_all(arguments)
    shown = [one for one in settings(loaded) if one.changed or not arguments.changed]
    if arguments.json:
        print_json(_document(loaded, shown))
    else:
        print(_text(loaded, shown, origin=arguments.origin))
    return exit_codes.OK


# --- Looking ----------------------------------------------------------------------


def _values(found: Key, rest: Key, node: Any) -> Iterator[tuple[Key, Any]]:
    """Each value that a key of the schema stands for, with the names that were picked."""
    if not rest:
        yield found, node
    elif rest[0] == NAME:
        for name, inner in node.items():
            yield from _values((*found, name), rest[1:], inner)
    elif isinstance(node, Mapping):
        yield from _values((*found, rest[0]), rest[1:], node[rest[0]])
    else:
        yield from _values((*found, rest[0]), rest[1:], getattr(node, rest[0]))


def _plain(value: Any) -> Json:
    return list(value) if isinstance(value, tuple) else value


def _origin(key: Key, loaded: Loaded, *, changed: bool) -> Origin:
    stored = loaded.stored
    if stored is not None and key[0] == "callers" and key[1] in stored.callers:
        return Origin(file_words(stored.path)) if changed else DEFAULT
    if key == ("auth", "api_key") and loaded.config.auth.api_key_file:
        return Origin("auth.api_key_file")
    origin = loaded.sources.origin(key)
    return origin if origin.where else DEFAULT


# --- Telling ------------------------------------------------------------------------


def _text(loaded: Loaded, shown: list[Shown], *, origin: bool) -> str:
    parts = []
    for table, group in itertools.groupby(shown, key=lambda one: one.key[:-1]):
        lines = [f"[{toml_key(table)}]"]
        for one in group:
            line = f"{toml_key(one.key[-1:])} = {toml_value(one.value)}"
            if origin:
                line = f"{line:<{_COMMENT_COLUMN}}  # {origin_words(one.origin)}"
            lines.append(line)
        parts.append("\n".join(lines))
    if loaded.stored is not None:
        names = ", ".join(loaded.stored.keys)
        parts.append(f"# Stored keys, in {file_words(loaded.stored.path)}: {names or 'none'}")
    return "\n\n".join(parts)


def origin_words(origin: Origin) -> str:
    """`FILE:LINE`, or whatever else it came from."""
    return origin.where if origin.line is None else f"{origin.where}:{origin.line}"


def _document(loaded: Loaded, shown: list[Shown]) -> Json:
    stored = loaded.stored
    return {
        "files": [str(layer.path) for layer in loaded.sources.layers],
        "settings": [
            {
                "key": toml_key(one.key),
                "value": one.value,
                "origin": one.origin.where,
                "line": one.origin.line,
            }
            for one in shown
        ],
        "keys_file": None if stored is None else str(stored.path),
        "stored_keys": [] if stored is None else list(stored.keys),
    }
