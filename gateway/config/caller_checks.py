"""What types and bounds can't say of who may call: names, keys, and names that depend on keys."""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Final

from gateway.config.effective import DEFAULT_CALLER, callers
from gateway.config.keys import Key, dotted
from gateway.config.mistakes import Mistake
from gateway.config.schema import Config
from gateway.core.api_key import digest_of
from gateway.core.ticket import ANONYMOUS

API_KEY_CHARACTERS_MIN: Final = 8
API_KEY_CHARACTERS_MAX: Final = 1024

KEY_SOURCES: Final[tuple[Key, ...]] = (
    ("auth", "api_key"),
    ("auth", "api_key_file"),
    ("auth", "keys"),
    ("auth", "keys_file"),
)
"""What decides whether anybody has a key."""

_API_KEY, _API_KEY_FILE, _KEYS, _KEYS_FILE = KEY_SOURCES
_PRINTABLE: Final = re.compile(r"[!-~]+")
_CALLER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")


def name_fault(name: str) -> str | None:
    """What is wrong with a caller's name; None when nothing is.

    Names stand in logs and metrics; one of them must not look like nobody's.
    """
    if not _names_a_caller(name):
        return (
            'a name must have 1 to 32 of letters, digits, ".", "_" and "-", and not look like a key'
        )
    if name.lower() == ANONYMOUS.name:
        return "this name is what callers without a key are called"
    return None


def key_fault(secret: str) -> str | None:
    """What keeps a key from being a header's value; None when nothing does."""
    if _PRINTABLE.fullmatch(secret):
        return None
    return "the key must be printable ASCII without spaces or line breaks, and not empty."


def caller_names(config: Config) -> Iterator[Mistake]:
    """A name is one that fits into a log, and one caller's."""
    for name in config.auth.keys:
        key = (*_KEYS, name)
        if fault := name_fault(name):
            hint = "." if _names_a_caller(name) else '; write: name = "key".'
            yield Mistake(key, f"{fault}{hint}", value_shown=_names_a_caller(name))
        elif name == DEFAULT_CALLER and config.auth.api_key:
            yield Mistake(
                key,
                f"this name is the one of auth.api_key; pick a name other than {DEFAULT_CALLER}.",
                concerns=(_API_KEY, _API_KEY_FILE),
            )
        elif name in config.stored_keys:
            yield Mistake(
                key,
                f"there is a stored key of this name too; `gateway keys revoke {name}`, or pick"
                " another name here.",
                concerns=(_KEYS_FILE,),
            )
    if DEFAULT_CALLER in config.stored_keys and config.auth.api_key:
        yield Mistake(
            _API_KEY_FILE if config.auth.api_key_file else _API_KEY,
            f"a stored key has the name of this one; `gateway keys revoke {DEFAULT_CALLER}`, or"
            " leave this one out.",
            concerns=(_KEYS_FILE,),
        )


def caller_keys(config: Config) -> Iterator[Mistake]:
    """A key must fit into a header, be no guess, and tell who calls."""
    owners: dict[bytes, Key] = {}
    for key, secret in _caller_keys(config):
        digest = digest_of(secret)
        fault = key_fault(secret)
        if fault is None and not API_KEY_CHARACTERS_MIN <= len(secret) <= API_KEY_CHARACTERS_MAX:
            fault = (
                f"the key must have {API_KEY_CHARACTERS_MIN} to {API_KEY_CHARACTERS_MAX}"
                " characters; 32 random ones are right, it is the only lock on the door."
            )
        if fault is not None:
            yield Mistake(key, fault)
        elif digest in owners:
            owner = owners[digest]
            text = f"the key must be another one than that of {dotted(owner)}."
            yield Mistake(key, text, concerns=(owner,))
        owners.setdefault(digest, key)
    for name, stored in config.stored_keys.items():
        owner = owners.setdefault(stored.digest, (*_KEYS_FILE, name))
        if owner != (*_KEYS_FILE, name):
            yield Mistake(
                _KEYS_FILE,
                f"the keys of {name} and of {_owner_words(owner)} are the same;"
                f" `gateway keys rotate {name}`.",
                concerns=(owner,),
                value_shown=False,
            )


def caller_settings(config: Config) -> Iterator[Mistake]:
    """How somebody is treated who can't call has no effect, and is a slip of the pen."""
    names = callers(config)
    for name in config.callers:
        if name not in names:
            yield Mistake(
                ("callers", name),
                _why_nobody(name, names),
                concerns=KEY_SOURCES,
                value_shown=False,
            )


def _caller_keys(config: Config) -> Iterator[tuple[Key, str]]:
    if config.auth.api_key:
        yield (_API_KEY_FILE if config.auth.api_key_file else _API_KEY), config.auth.api_key
    for name, secret in config.auth.keys.items():
        if _names_a_caller(name):
            yield (*_KEYS, name), secret


def _owner_words(owner: Key) -> str:
    return owner[-1] if owner[:-1] == _KEYS_FILE else dotted(owner)


def _why_nobody(name: str, names: Collection[str]) -> str:
    """Why no caller is called so, and what was probably meant."""
    if name == ANONYMOUS.name:
        return "nobody is anonymous once an API key is set."
    if ANONYMOUS.name in names:
        return f"no API key is set; without one everybody is called {ANONYMOUS.name}."
    likely = {known.lower(): known for known in names if _names_a_caller(known)}
    close = get_close_matches(name.lower(), likely, n=1)
    hint = f"; did you mean `{likely[close[0]]}`?" if close else "."
    return f"no API key has this name{hint}"


def _names_a_caller(name: str) -> bool:
    return _CALLER_NAME.fullmatch(name) is not None and not name.startswith("sk-")
