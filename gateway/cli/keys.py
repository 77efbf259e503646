"""`gateway keys`: makes, shows, ends and replaces API keys.

A key is shown once, by the command that makes it. What is kept is its digest, in a file of
its own beside the configuration (config/key_file.py).
"""

import argparse
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import attrs

from gateway.cli.client import add_client_options
from gateway.cli.command import Command, add_command
from gateway.cli.key_options import option
from gateway.cli.output import add_json_option
from gateway.cli.settings import add_config_option
from gateway.config.schema import CallerSettings
from gateway.core import exit_codes

SETTINGS: Final = MappingProxyType(
    {
        "priority": "class of its requests: interactive, normal or batch",
        "priority_max": "the most urgent class that it may ask for",
        "weight": "its share of the slots against others of its class",
        "user_header": "the header in which it names its end users",
        "manage_models": "it may pull, create and delete models",
        "admin": "it may see what everybody does, reload, load and unload",
        "models": "the only models that it may ask for, separated by commas",
        "requests_per_minute": "requests that it may send in a minute",
        "tokens_per_minute": "tokens of prompts and answers in a minute",
        "tokens_per_day": "tokens of prompts and answers in a day of UTC",
        "requests_at_once": "requests that run and wait at the same time",
        "max_tokens": "tokens of any answer",
    }
)
"""What `new` can say of a caller, by the keys of [callers.NAME]."""

_WHEN: Final = "30d, 12h, 2027-01-31 or never"


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = add_command(actions, "new", "make a key and show it, this once")
    new.add_argument("name", metavar="NAME", help="its holder, as logs and metrics will say")
    for field in attrs.fields(CallerSettings):
        _add_setting(new, field)
    new.add_argument("--expires", metavar="WHEN", help=f"{_WHEN}, which is the default")
    _finish(new, "new", changes=True)

    _finish(add_command(actions, "list", "show who has a key"), "list", changes=False)

    revoke = add_command(actions, "revoke", "end a key")
    revoke.add_argument("name", metavar="NAME", help="its holder")
    _finish(revoke, "revoke", changes=True)

    rotate = add_command(actions, "rotate", "make another key in place of one")
    rotate.add_argument("name", metavar="NAME", help="its holder, whose settings stay")
    rotate.add_argument("--expires", metavar="WHEN", help=f"{_WHEN}; else as before")
    _finish(rotate, "rotate", changes=True)


def _add_setting(parser: argparse.ArgumentParser, field: "attrs.Attribute[Any]") -> None:
    name, text = option(field.name), SETTINGS[field.name]
    if field.type is bool:
        parser.add_argument(name, action="store_const", const="true", help=text)
    else:
        metavar = "N" if field.type in (int, float) else field.name.split("_")[-1].upper()
        parser.add_argument(name, metavar=metavar, help=text)


def _finish(parser: argparse.ArgumentParser, action: str, *, changes: bool) -> None:
    if changes:
        add_client_options(parser)
        parser.add_argument(
            "--reload", action="store_true", help="have the running gateway take it at once"
        )
    else:
        add_config_option(parser)
    add_json_option(parser)
    parser.set_defaults(action=action)


def _run(arguments: argparse.Namespace) -> int:
    # It brings a library that writes TOML, which the daemon need not carry.
    from gateway.cli.key_actions import ACTIONS

    ACTIONS[arguments.action](arguments, datetime.now(UTC).replace(microsecond=0))
    return exit_codes.OK


KEYS: Final = Command("keys", "make, show, end and replace API keys", _arguments, _run)
