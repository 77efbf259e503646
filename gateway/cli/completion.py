"""`gateway completion`: what a shell needs to complete the command line.

shtab writes it from the parser, once; completing then runs no Python.
"""

import argparse
from collections.abc import Iterator
from typing import Final

from gateway.cli.command import Command
from gateway.core import exit_codes

SHELLS: Final = ("bash", "zsh", "fish", "tcsh")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What the shell is to read. Files are completed where a FILE is wanted."""
    import shtab  # Only here: every command pays for what is imported above.

    for action in _actions(parser):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell)
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
    )


def _run(arguments: argparse.Namespace) -> int:
    print(script(arguments.all_commands, arguments.shell))
    return exit_codes.OK


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


COMPLETION: Final = Command(
    "completion", "print what a shell needs to complete commands", _arguments, _run
)
