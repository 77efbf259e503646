"""What `gateway keys` does. Each action is handed the time."""

import argparse
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import attrs

from gateway.cli.client import NotRunning, connect
from gateway.cli.command import CommandError
from gateway.cli.expiry import ExpiryError, moment_words, parse_expiry
from gateway.cli.key_editing import editing
from gateway.cli.key_options import settings_of
from gateway.cli.output import columns, note, print_json
from gateway.cli.settings import read_all
from gateway.config import key_file_edit
from gateway.config.caller_checks import name_fault
from gateway.config.effective import api_keys
from gateway.config.keys import quoted
from gateway.config.mistakes import file_words
from gateway.config.schema import CallerSettings, Config, StoredKey
from gateway.core import exit_codes
from gateway.core.api_key import digest_of, new_key
from gateway.core.jsonio import Json

RELOAD_TIMEOUT_S: Final = 60.0


def _new(arguments: argparse.Namespace, now: datetime) -> None:
    name: str = arguments.name
    if fault := name_fault(name):
        raise CommandError(f"{quoted(name)}: {fault}.", exit_code=exit_codes.USAGE)
    settings = settings_of(arguments)
    key = new_key(secrets.token_bytes)
    expires = None if arguments.expires is None else _expiry(arguments.expires, now)
    stored = StoredKey(digest=digest_of(key), created=now, expires=expires)
    with editing(arguments) as file:
        if name in file.now.keys:
            raise CommandError(
                f"{name} has a key already; `gateway keys rotate {name}` makes another.",
                exit_code=exit_codes.USAGE,
            )
        config = file.write(key_file_edit.with_key(file.text, name, stored, settings))
    if len(api_keys(config)) == 1:
        note("It is the first key: from then on nobody may call without one.")
        if not config.server.host:
            note("The gateway listens on every address then, as server.host is not set.")
    _tell(arguments, file_words(file.path), key, stored)


def _rotate(arguments: argparse.Namespace, now: datetime) -> None:
    name: str = arguments.name
    key = new_key(secrets.token_bytes)
    with editing(arguments) as file:
        expires = file.known(name).expires
        if arguments.expires is not None:
            expires = _expiry(arguments.expires, now)
        elif _has_expired(file.known(name), now):
            raise CommandError(
                f"the key of {name} has expired; --expires says until when the new one holds.",
                exit_code=exit_codes.USAGE,
            )
        stored = StoredKey(digest=digest_of(key), created=now, expires=expires)
        file.write(key_file_edit.with_other_key(file.text, name, stored))
    _tell(arguments, file_words(file.path), key, stored)


def _revoke(arguments: argparse.Namespace, now: datetime) -> None:
    name: str = arguments.name
    with editing(arguments) as file:
        file.known(name)
        file.write(key_file_edit.without_key(file.text, name))
    note(f"{name} has no key any more in {file_words(file.path)}.")
    live = _make_live(arguments)
    if arguments.json:
        print_json({"name": name, "file": str(file.path), "live": live})


def _list(arguments: argparse.Namespace, now: datetime) -> None:
    config = read_all(arguments).config
    names = api_keys(config)
    if arguments.json:
        print_json({"keys": [_entry(name, config, now) for name in names]})
    elif names:
        heads = ("NAME", "KEPT", "CREATED", "EXPIRES", "SETTINGS")
        print(columns([heads, *(_row(name, config, now) for name in names)]))
    else:
        note("Nobody has a key: whoever reaches the gateway may call.")


# --- What is told ----------------------------------------------------------------------


def _tell(arguments: argparse.Namespace, file: str, key: str, stored: StoredKey) -> None:
    """The key alone on standard output, so that a script can take it from there."""
    name: str = arguments.name
    if not arguments.json:
        print(key, flush=True)
    until = "" if stored.expires is None else f" until {moment_words(stored.expires)}"
    note(f"The key of {name}{until}, shown this once: {file} holds no more than its digest.")
    live = _make_live(arguments)
    if arguments.json:
        print_json({"name": name, "key": key, "file": file, **_moments(stored), "live": live})


def _make_live(arguments: argparse.Namespace) -> bool:
    """Whether the running gateway knows of the change."""
    if not arguments.reload:
        note("To make it live: gateway reload (or systemctl reload gateway).")
        return False
    try:
        connect(arguments).post("/gateway/reload", timeout_s=RELOAD_TIMEOUT_S)
    except NotRunning as error:
        note(f"It is read at the next start: {error}")
        return False
    note("The running gateway has taken it.")
    return True


def _entry(name: str, config: Config, now: datetime) -> dict[str, Json]:
    entry: dict[str, Json] = {"name": name, "stored": name in config.stored_keys}
    if stored := config.stored_keys.get(name):
        entry |= {**_moments(stored), "expired": _has_expired(stored, now)}
    return {**entry, "settings": _settings(name, config)}


def _row(name: str, config: Config, now: datetime) -> tuple[str, ...]:
    settings = " ".join(f"{key}={_words(value)}" for key, value in _settings(name, config).items())
    stored = config.stored_keys.get(name)
    if stored is None:
        return name, "configuration", "-", "never", settings
    created = "-" if stored.created is None else moment_words(stored.created)
    expires = "never" if stored.expires is None else moment_words(stored.expires)
    if _has_expired(stored, now):
        expires += " (expired)"
    return name, "stored", created, expires, settings


def _settings(name: str, config: Config) -> dict[str, Json]:
    """How this caller is treated, as far as that is not the usual."""
    settings = config.callers.get(name, CallerSettings())
    return {
        field.name: value
        for field in attrs.fields(CallerSettings)
        if (value := getattr(settings, field.name)) != field.default
    }


def _words(value: Json) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _moments(stored: StoredKey) -> dict[str, Json]:
    """In RFC 3339, null where there is none."""
    return {
        name: None if moment is None else moment.isoformat().replace("+00:00", "Z")
        for name, moment in (("created", stored.created), ("expires", stored.expires))
    }


def _has_expired(stored: StoredKey, now: datetime) -> bool:
    return stored.expires is not None and stored.expires <= now


def _expiry(text: str, now: datetime) -> datetime | None:
    try:
        return parse_expiry(text, now)
    except ExpiryError as error:
        raise CommandError(f"--expires: {error}", exit_code=exit_codes.USAGE) from None


ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace, datetime], None]]] = {
    "new": _new,
    "list": _list,
    "revoke": _revoke,
    "rotate": _rotate,
}
"""What stands after `gateway keys` → what it does."""
