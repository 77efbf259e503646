"""Settings of a caller as options of `gateway keys new`."""

import argparse
from typing import Any

import attrs

from gateway.cli.command import CommandError
from gateway.config.environment import parse_text
from gateway.config.keys import Key
from gateway.config.mistakes import Sources
from gateway.config.schema import CallerSettings
from gateway.config.structure import structure
from gateway.core import exit_codes


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options say of [callers.NAME], as TOML takes it.

    Raises:
        CommandError: With every option that is wrong.
    """
    key = ("callers", arguments.name)
    given = {
        field.name: parse_text(text, field.type)
        for field in attrs.fields(CallerSettings)
        if (text := getattr(arguments, field.name)) is not None
    }
    document = {"callers": {arguments.name: given}}
    _, mistakes = structure(document)
    if mistakes:
        options: dict[Key, str] = {(*key, name): option(name) for name in given}
        sources = Sources(path=None, document=document, overrides=options)
        told = "\n".join(sources.tell(mistake) for mistake in mistakes)
        raise CommandError(told, exit_code=exit_codes.USAGE)
    return given


def option(setting: str) -> str:
    """What sets this key of [callers.NAME] on the command line."""
    return f"--{setting.replace('_', '-')}"
