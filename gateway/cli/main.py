"""The command line: `gateway COMMAND`, `gateway --version`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from gateway import __version__
from gateway.cli.check import CHECK
from gateway.cli.command import Command, CommandError
from gateway.cli.serve import SERVE
from gateway.core import exit_codes
from gateway.core.errors import ConfigError

COMMANDS: Final[tuple[Command, ...]] = (SERVE, CHECK)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Raises:
        SystemExit: By argparse, for --help, --version and a wrong usage (64).
    """
    arguments = parser().parse_args(argv)
    command: Command = arguments.command
    try:
        return command.run(arguments)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"gateway: {mistake}", file=sys.stderr)
        return exit_codes.CONFIG
    except CommandError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(exit_codes.USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    all_commands = _Parser(
        prog="gateway",
        description="Serve Ollama as a dependable OpenAI-compatible service.",
        epilog="Settings: --config, $GATEWAY_CONFIG, /etc/gateway/gateway.toml or"
        " ./conf/gateway.toml, the first that is there; environment variables win over the file.",
    )
    all_commands.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = all_commands.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.name, help=command.summary, description=f"{command.summary.capitalize()}."
        )
        command.arguments(one)
        one.set_defaults(command=command)
    return all_commands
