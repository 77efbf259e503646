"""`gateway top`: the status as it changes, on the whole terminal."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.cli import status_words
from gateway.cli.client import Client, add_client_options, connect
from gateway.cli.command import Command, CommandError
from gateway.cli.sse import records
from gateway.cli.status_words import Rows
from gateway.core import exit_codes, jsonio

if TYPE_CHECKING:
    from rich.console import Group

RECENT: Final = 15
RUNNING: Final = 10
WAITING: Final = 20

SILENCE_S: Final = 30.0

_NUMBERS: Final = frozenset(
    {"tokens", "tokens/s", "place", "since", "waited", "starts in", "slots"}
    | {"whole", "queue", "load", "prompt", "answer"}
)


def _run(arguments: argparse.Namespace) -> int:
    if not sys.stdout.isatty():
        raise CommandError(
            "top needs a terminal; `gateway status` prints the same once.",
            exit_code=exit_codes.USAGE,
        )
    try:
        from rich.live import Live
    except ImportError:
        raise CommandError(
            "top draws with the package rich, which is not installed:"
            " pip install 'ollama-gateway[top]'",
            exit_code=exit_codes.UNAVAILABLE,
        ) from None
    client = connect(arguments)
    first = client.get("/gateway/status")
    try:
        with Live(view(first), screen=True, auto_refresh=False) as live:
            for status in _changes(client):
                live.update(view(status), refresh=True)
    except KeyboardInterrupt:
        return exit_codes.OK
    raise CommandError("the gateway has ended.", exit_code=exit_codes.UNAVAILABLE)


def _changes(client: Client) -> Iterator[Any]:
    """A status each time that the daemon tells one, until it ends."""
    with client.open("GET", "/gateway/events", timeout_s=SILENCE_S) as reply:
        for record in records(reply.lines()):
            if record.data:
                yield jsonio.loads(record.data)


def view(status: Any) -> "Group":
    """All of it, for rich."""
    from rich.console import Group
    from rich.text import Text

    ready = status["state"] == "ready"
    told = Text(status_words.headline(status), style="bold" if ready else "bold yellow")
    parts: list[Any] = [told, Text()]
    for name, words in status_words.facts(status):
        parts.append(Text.assemble((f"{name:<9}", "dim"), words))
    tables = (
        (status_words.engines(status), len(status["upstreams"])),
        (status_words.running(status), RUNNING),
        (status_words.waiting(status), WAITING),
        (status_words.ended(status, RECENT), RECENT),
    )
    for rows, at_most in tables:
        if len(rows) > 1:
            parts += [Text(), _table(rows, at_most)]
    return Group(*parts)


def _table(rows: Rows, at_most: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    head, *body = rows
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for name in head:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for row in body[:at_most]:
        # What callers and models are called is text, and never markup.
        table.add_row(*map(Text, row))
    if len(body) > at_most:
        table.add_row(Text(f"and {len(body) - at_most} more", style="dim"))
    return table


TOP: Final = Command(
    "top", "watch the running gateway: who waits and why, slots, speed", add_client_options, _run
)
