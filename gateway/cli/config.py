"""`gateway config`: shows the configuration, and makes one of what was there before."""

import argparse
from typing import Final

from gateway.cli import config_migrate, config_show
from gateway.cli.command import Command, add_command


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = add_command(actions, "show", "print every setting as it holds, secrets hidden")
    config_show.add_arguments(show)
    show.set_defaults(action=config_show.run)
    migrate = add_command(
        actions, "migrate", "make a configuration of the .env of the gateway before this one"
    )
    config_migrate.add_arguments(migrate)
    migrate.set_defaults(action=config_migrate.run)


def _run(arguments: argparse.Namespace) -> int:
    exit_code: int = arguments.action(arguments)
    return exit_code


CONFIG: Final = Command("config", "show the configuration, or migrate to it", _arguments, _run)
