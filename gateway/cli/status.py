"""`gateway status`: what the running daemon does at this moment."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from gateway.cli import status_words
from gateway.cli.client import add_client_options, connect
from gateway.cli.command import Command
from gateway.cli.output import add_json_option, columns, print_json
from gateway.core import exit_codes

RECENT: Final = 5


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_client_options(parser)
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    status = connect(arguments).get("/gateway/status")
    if arguments.json:
        print_json(status)
    else:
        print("\n".join(lines(status)))
    return exit_codes.OK if status["state"] == "ready" else exit_codes.FAILED


def lines(status: Any) -> Iterator[str]:
    """For people."""
    yield status_words.headline(status)
    yield ""
    yield columns(list(status_words.facts(status)))
    for rows in (
        status_words.engines(status),
        status_words.running(status),
        status_words.waiting(status),
        status_words.ended(status, RECENT),
    ):
        if len(rows) > 1:
            yield ""
            yield columns(rows)


STATUS: Final = Command(
    "status", "show what the running gateway does; exit status 1 unless ready", _arguments, _run
)
