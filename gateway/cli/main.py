"""The command line: `gateway COMMAND`, `gateway --version`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from gateway import __version__
from gateway.cli.bench import BENCH
from gateway.cli.chat import CHAT
from gateway.cli.check import CHECK
from gateway.cli.command import Command, CommandError, add_command
from gateway.cli.completion import COMPLETION
from gateway.cli.config import CONFIG
from gateway.cli.keys import KEYS
from gateway.cli.manual import MANUAL
from gateway.cli.models import MODELS
from gateway.cli.reload import RELOAD
from gateway.cli.serve import SERVE
from gateway.cli.status import STATUS
from gateway.cli.top import TOP
from gateway.cli.usage import USAGE
from gateway.core import exit_codes
from gateway.core.errors import ConfigError

COMMANDS: Final[tuple[Command, ...]] = (
    *(SERVE, CHECK, CONFIG, KEYS, RELOAD),
    *(STATUS, TOP, MODELS, USAGE, CHAT, BENCH),
    *(COMPLETION, MANUAL),
)


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
        for line in str(error).splitlines():
            print(f"gateway: {line}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.FAILED
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Says one line of a wrong usage. An option is written out: a later one may begin alike."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(exit_codes.USAGE, f"{self.prog}: {message} ({self.prog} --help tells more)\n")


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
        one = add_command(commands, command.name, command.summary)
        command.arguments(one)
        one.set_defaults(command=command)
    # For the commands that tell of all the others.
    all_commands.set_defaults(all_commands=all_commands)
    return all_commands
