"""`gateway usage`."""

import argparse
import time
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import urlencode

from gateway.cli.client import NotRunning, add_client_options, connect
from gateway.cli.command import Command, CommandError
from gateway.cli.output import add_json_option, columns, print_json
from gateway.cli.settings import read_settings
from gateway.core import exit_codes
from gateway.telemetry.usage import SINCE, By, document_of, first_day
from gateway.telemetry.usage_store import SqliteStore, StoreFailed

_COLUMNS: Final = (
    ("requests", "requests"),
    ("refusals", "refused"),
    ("failures", "failed"),
    ("prompt_tokens", "prompt tokens"),
    ("cached_tokens", "of these cached"),
    ("completion_tokens", "answer tokens"),
    ("slot_seconds", "slot seconds"),
)
"""Members of an entry, and what they are called."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_client_options(parser)
    parser.add_argument(
        "--since",
        default=SINCE,
        metavar="DAYS",
        help="so many days with today, such as 7d, or the first day; %(default)s if not given",
    )
    parser.add_argument(
        "--by", choices=get_args(By), default="caller", help="what to tell apart; by caller"
    )
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        since = first_day(arguments.since, time.time())
    except ValueError as error:
        raise CommandError(f"--since: {error}.", exit_code=exit_codes.USAGE) from None
    document = _asked(arguments, since)
    if arguments.json:
        print_json(document)
    else:
        print(table(document))
    return exit_codes.OK


def _asked(arguments: argparse.Namespace, since: str) -> Any:
    """Of the daemon; of its file where none runs."""
    try:
        query = urlencode({"since": since, "by": arguments.by})
        return connect(arguments).get(f"/gateway/usage?{query}")
    except NotRunning as error:
        if arguments.url:
            raise
        directory = read_settings(arguments)[0].server.state_directory
        if not directory:
            raise CommandError(
                f"{error} Nor is there a server.state_directory ($STATE_DIRECTORY) to look into.",
                exit_code=error.exit_code,
            ) from None
        return _stored(Path(directory), since, arguments.by)


def _stored(directory: Path, since: str, by: By) -> Any:
    store = SqliteStore(directory, read_only=True)
    if not store.path.exists():
        raise CommandError(
            f"no gateway answers, and there is no {store.path}.", exit_code=exit_codes.UNAVAILABLE
        )
    try:
        return document_of(store.totals(since, by), since, by)
    except StoreFailed as error:
        raise CommandError(
            f"no gateway answers, and its file can't be read: {error}.",
            exit_code=exit_codes.UNAVAILABLE,
        ) from None
    finally:
        store.close()


def table(document: Any) -> str:
    """For people."""
    if not document["data"]:
        return f"Nothing was used since {document['since']}."
    rows = [
        (entry["name"], *(f"{entry[name]:,}" for name, _ in _COLUMNS)) for entry in document["data"]
    ]
    rows.insert(0, (document["by"], *(title for _, title in _COLUMNS)))
    # Numbers stand one below the other by their last digits.
    names, *numbers = zip(*rows, strict=True)
    aligned = [[cell.rjust(max(map(len, column))) for cell in column] for column in numbers]
    return f"Since {document['since']} (UTC):\n\n" + columns([*zip(names, *aligned, strict=True)])


USAGE: Final = Command("usage", "show who has used how much", _arguments, _run)
