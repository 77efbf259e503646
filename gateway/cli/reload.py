"""`gateway reload`: the running daemon takes up its configuration as it is now."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from gateway.cli.client import Refused, add_client_options, connect
from gateway.cli.command import Command, CommandError
from gateway.cli.output import add_json_option, note, print_json
from gateway.core import exit_codes
from gateway.core.errors import ConfigError, ConfigRefused

TIMEOUT_S: Final = 60.0
"""An embedded engine that is new is started first."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_client_options(parser)
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        client = connect(arguments)
    except ConfigError:
        note("gateway: nothing was reloaded, since the configuration is wrong:")
        raise
    try:
        reloaded = client.post("/gateway/reload", timeout_s=TIMEOUT_S)
    except Refused as error:
        if error.code == ConfigRefused.code:
            raise CommandError(str(error), exit_code=exit_codes.CONFIG) from None
        raise
    if arguments.json:
        print_json(reloaded)
    else:
        print("\n".join(_lines(reloaded)))
    return exit_codes.OK


def _lines(reloaded: Any) -> Iterator[str]:
    applied, waiting = reloaded["applied"], reloaded["needs_restart"]
    if not (applied or waiting):
        yield "Nothing has changed."
    if applied:
        yield "Applied:"
        yield from (f"  {change['words']}" for change in applied)
    if waiting:
        yield "Needs a restart:"
        yield from (f"  {change['words']} ({change['why']})" for change in waiting)
    yield from reloaded["notes"]


RELOAD: Final = Command(
    "reload", "have the running gateway read its configuration again", _arguments, _run
)
