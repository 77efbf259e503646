"""The schema as paths: which keys there are, what each holds, how each is written.

A key is a tuple of names, `("queue", "max_queue_size")`. Four tables, `auth.keys`,
`callers`, `models` and `upstreams`, hold names that the operator picks; where the
schema means any name, the path says NAME.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from types import NoneType
from typing import Any, Final, get_args, get_origin

import attrs

from gateway.config.schema import Config, is_setting

Key = tuple[str, ...]

NAME: Final = "*"
_PLAIN_NAME: Final = re.compile(r"(?!sk-)[A-Za-z0-9._-]{1,32}")
_SHOWN_CHARACTERS_MAX: Final = 64


@attrs.frozen(kw_only=True)
class Setting:
    """One key that holds a value and not a table.

    Attributes:
        key: Its path, with NAME where the operator picks the name.
        type: What it holds, as the schema says it, but for the None of what is unset.
        secret: Never shown. The schema marks it by `repr=False`.
        default: What it holds where nobody has set it; None where there is none, as of what
            stands under a name of the operator's.
    """

    key: Key
    type: Any
    secret: bool
    default: Any = None


def _settings_below(key: Key, type_: Any, secret: bool, default: Any = None) -> Iterator[Setting]:
    if attrs.has(type_):
        for field in filter(is_setting, attrs.fields(type_)):
            below = (*key, field.name)
            yield from _settings_below(below, field.type, secret or not field.repr, field.default)
    elif get_origin(type_) is dict:
        yield from _settings_below((*key, NAME), get_args(type_)[1], secret)
    else:
        yield Setting(key=key, type=present(type_), secret=secret, default=default)


def present(type_: Any) -> Any:
    """The type of what is there: `float` of `float | None`."""
    if NoneType not in get_args(type_):
        return type_
    (type_,) = (arg for arg in get_args(type_) if arg is not NoneType)
    return type_


SETTINGS: Final = tuple(_settings_below((), Config, secret=False))
"""Every setting, in the schema's order."""

_HOMES: Final = {
    setting.key[-1]: setting.key for setting in reversed(SETTINGS) if NAME not in setting.key
}
"""Name → the first setting called so, whatever its table: `port` alone means `server.port`."""


def setting_at(key: Key) -> Setting | None:
    """The setting that this key names; None for a table and for what isn't there."""
    return next((setting for setting in SETTINGS if _fits(setting.key, key)), None)


def names_in(table: Key) -> list[str]:
    """What may stand in a table, in the schema's order; nothing if there is no such table."""
    depth = len(table)
    below = [s.key[depth] for s in SETTINGS if len(s.key) > depth and _fits(s.key[:depth], table)]
    return list(dict.fromkeys(below))


def nearest(key: Key) -> Key | None:
    """The key or table that was probably meant by one that does not exist, if any is like it."""
    found: Key = ()
    for name in key:
        names = names_in(found)
        if name in names or NAME in names:
            found = (*found, name)
        elif name == key[-1] and name in _HOMES:
            return _HOMES[name]
        elif close := get_close_matches(name.lower(), names, n=1):
            found = (*found, close[0])
        else:
            close = get_close_matches(key[-1].lower(), _HOMES, n=1, cutoff=0.8)
            return _HOMES[close[0]] if close else None
    return found


def _fits(pattern: Key, key: Key) -> bool:
    return len(pattern) == len(key) and all(
        wanted in (NAME, name) for wanted, name in zip(pattern, key, strict=True)
    )


def dotted(key: Key) -> str:
    """A key as TOML writes it."""
    # A model's name has forms of its own, and nobody puts a key in its place.
    characters_max = _SHOWN_CHARACTERS_MAX if key[:1] == ("models",) else 8
    return ".".join(_name_words(name, characters_max) for name in key)


def _name_words(name: str, characters_max: int) -> str:
    # An API key can stand where a name belongs: of what is no plain name, no
    # more is shown than it takes to find it.
    if not _PLAIN_NAME.fullmatch(name):
        return quoted(name, characters_max)
    return quoted(name) if "." in name else name


def quoted(text: str, characters_max: int = _SHOWN_CHARACTERS_MAX) -> str:
    """Text for one line of a terminal or a log: cut, and nothing in it that acts on either."""
    shown = text if len(text) <= characters_max else f"{text[:characters_max]}…"
    return f'"{repr(shown)[1:-1]}"'
