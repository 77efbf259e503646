"""What a command is."""

import argparse
from collections.abc import Callable
from typing import Any

import attrs


class CommandError(Exception):
    """What a user is told instead of an answer.

    Attributes:
        exit_code: One of exit_codes.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@attrs.frozen
class Command:
    """One word after `gateway`.

    Attributes:
        name: The word.
        summary: What it does, in a line that begins small and has no full stop.
        arguments: Adds its options and operands to its parser.
        run: Does it; returns the exit code. Raises CommandError or ConfigError for
            what is the user's to mend: they see that sentence and no traceback.
    """

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_command(
    commands: "argparse._SubParsersAction[Any]", name: str, summary: str
) -> argparse.ArgumentParser:
    """One more word that can stand here, for a command or for what a command can do."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    return parser
