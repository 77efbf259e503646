"""A mistake in the configuration, and how the operator is told of it.

One line each: where it stands (a file, an environment variable, an option), the
key, the value unless it is a secret, and what would be right.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from gateway.config.keys import Key, dotted, quoted, setting_at
from gateway.config.lines import line_of

Document = dict[str, Any]
"""A parsed TOML document: tables are dicts, arrays lists, the rest scalars."""

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
"""The whole numbers of TOML 1.0; Python's parser reads larger ones too."""

_USERINFO: Final = re.compile(r".*@", re.DOTALL)
_QUERY: Final = re.compile(r"[?#].+", re.DOTALL)


@attrs.frozen
class Mistake:
    """What is wrong with one key.

    Attributes:
        key: The key at fault.
        text: What would be right, as the end of a sentence.
        concerns: Further keys that the judgement rests on. When one of those
            is itself wrong there is nothing to judge yet.
        value_shown: False where the value says nothing, or could be a secret
            that stands in the wrong place.
    """

    key: Key
    text: str
    concerns: tuple[Key, ...] = ()
    value_shown: bool = True

    def rests_on(self, wrong: Key) -> bool:
        """Whether this judgement falls with a key that is itself wrong."""
        return _is_in(self.key, wrong) or any(
            _is_in(key, wrong) or _is_in(wrong, key) for key in self.concerns
        )


@attrs.frozen(kw_only=True)
class Layer:
    """One file that was read."""

    path: Path
    text: str = attrs.field(repr=False)
    document: Document = attrs.field(repr=False)


@attrs.frozen
class Origin:
    """Where a value was written.

    Attributes:
        where: A file, a variable or an option, in words; "" for a default.
        line: In a file, counted from 1; None where it isn't known.
    """

    where: str = ""
    line: int | None = None


@attrs.frozen(kw_only=True)
class Sources:
    """Where each value came from.

    Attributes:
        path: The file in use, if any.
        document: All that was given, the files' and what came over it.
        overrides: Key → where a value came from that is no file's.
        layers: The files that were read, the strongest last.
    """

    path: Path | None
    document: Document
    overrides: Mapping[Key, str]
    layers: Sequence[Layer] = ()

    def tell(self, mistake: Mistake) -> str:
        """The mistake as one line."""
        # A rule about two keys is told at the one that the operator wrote.
        key = next((k for k in (mistake.key, *mistake.concerns) if self._given(k)), mistake.key)
        where = self.overrides.get(key)
        if where is None:
            layer = self._layer(key)
            where = file_words(self.path if layer is None else layer.path)
        value = f" = {_shown(key, _at(self.document, key))}" if mistake.value_shown else ""
        return f"{where}: {dotted(key)}{value}: {mistake.text}"

    def origin(self, key: Key) -> Origin:
        """Where the value of a key was written that holds one, and not a table."""
        if where := self.overrides.get(key):
            return Origin(where)
        layer = self._layer(key)
        if layer is None:
            return Origin()
        return Origin(file_words(layer.path), line_of(layer.text, key))

    def _given(self, key: Key) -> bool:
        return _at(self.document, key) is not None

    def _layer(self, key: Key) -> Layer | None:
        """The strongest file with this key in it."""
        having = (layer for layer in reversed(self.layers) if _at(layer.document, key) is not None)
        return next(having, None)


def file_words(path: Path | None) -> str:
    """A path for a line of text."""
    if path is None:
        return "defaults and environment"
    return str(path) if str(path).isprintable() else quoted(str(path), characters_max=4096)


def _is_in(key: Key, table: Key) -> bool:
    """Whether a key is this one or stands below it."""
    return key[: len(table)] == table


def _at(document: Document, key: Key) -> Any:
    """The value under a key; None where there is none, which TOML has no word for."""
    node: Any = document
    for name in key:
        if not isinstance(node, dict):
            return None
        node = node.get(name)
    return node


def _shown(key: Key, value: Any) -> str:
    setting = setting_at(key)
    if setting is not None and setting.secret:
        return "(hidden)"
    match value:
        case bool():
            return str(value).lower()
        case str() if key[-1] == "url":
            # A password may stand before the host, a token after it.
            return quoted(_QUERY.sub("?…", _USERINFO.sub("…@", value)))
        case str() if value.lstrip().startswith("sk-"):
            return "(hidden)"  # A key in the wrong place.
        case str():
            return quoted(value)
        case list():
            return "[…]"
        case dict():
            return "{…}"
        case int() if not INT_MIN <= value <= INT_MAX:
            # Python refuses to print an integer of thousands of digits.
            return "(huge)"
        case _:
            return str(value)
