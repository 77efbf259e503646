"""Keys and values as TOML writes them."""

import re
from typing import Any, Final

from gateway.config.keys import Key

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(key: Key) -> str:
    """A path of names, each in quotes where it needs them."""
    return ".".join(name if _BARE.fullmatch(name) else toml_value(name) for name in key)


def toml_value(value: Any) -> str:
    import tomlkit  # Only here: the daemon has no use for it.

    text: str = tomlkit.item(value).as_string()
    return text
