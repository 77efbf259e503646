"""A gateway, a Prometheus that scrapes it, a minute of load, and what the dashboard shows of it.

    python bench/demo.py [--seconds 60] [--stay]

The gateway runs the embedded model, on ports that are free. Everything that is started is
ended at the end; with `--stay` only at Ctrl-C, so that there is time to look at the pages.
"""

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import everyday, panels, prometheus
from bench.everyday import Visitor
from bench.panels import Query
from bench.processes import DidNotStart, end_on_sigterm
from bench.prometheus import Prometheus, Series
from bench.trials import served
from bench.trials.served import Tables

SCRAPE_S: Final = 2.0
RATE_INTERVAL: Final = "15s"

LINES_MAX: Final = 4
"""Of one panel that are shown, the largest first."""

STAY_S_MAX: Final = 24 * 3600.0

UNITS: Final = {
    "s": ("s", 1.0),
    "percentunit": ("%", 100.0),
    "bytes": ("MiB", 2.0**-20),
    "tokens/s": ("tok/s", 1.0),
    "reqps": ("/s", 1.0),
    "cps": ("/s", 1.0),
}
"""How Grafana's units are written here, and what a value is multiplied by."""


async def chats(visitor: Visitor, model: str, until: float) -> None:
    """A conversation: a streamed answer, its title, and again."""
    turn = 0
    while time.monotonic() < until:
        turn += 1
        await visitor.chat(model, f"Turn {turn}: tell me about one kind of bread.")
        await visitor.ask(model)


async def documents(visitor: Visitor, model: str, until: float) -> None:
    """Somebody fills an index."""
    while time.monotonic() < until:
        await visitor.embed(
            model, *(f"Recipe {number}: flour, water, salt." for number in range(4))
        )
        await asyncio.sleep(1.0)


async def bursts(visitor: Visitor, model: str, until: float) -> None:
    """Now and then more than fits, with little time; and callers who leave."""
    while time.monotonic() < until:
        await asyncio.sleep(5.0)
        await visitor.burst(model, 12, timeout_s=8.0)
        await visitor.leave(model, "Write a long story about a baker.")


async def load(url: str, model: str, seconds: float) -> Counter[int]:
    """All of them at once; how often each status came."""
    until = time.monotonic() + seconds
    async with everyday.session() as session:
        visitor = Visitor(session, url)
        await asyncio.gather(
            *(chats(visitor, model, until) for _ in range(3)),
            documents(visitor, model, until),
            bursts(visitor, model, until),
        )
    return visitor.seen


def table(found: Prometheus, *, start: float, end: float) -> Iterator[str]:
    """What every panel shows of the time between, line by line."""
    row = panel = ""
    yield f"{'panel':40} {'line':28} {'last':>10} {'most':>10}"
    for query in panels.queries(RATE_INTERVAL):
        if query.row != row:
            yield f"\n{query.row}"
        answer = found.over(query.expr, start=start, end=end, step_s=SCRAPE_S)
        for legend, last, most, unit in lines(query, answer):
            title = query.panel if query.panel != panel else ""
            yield f"  {title:38} {legend[:28]:28} {last:>10} {most:>10} {unit}"
            row, panel = query.row, query.panel


def lines(query: Query, answer: Sequence[Series]) -> list[tuple[str, str, str, str]]:
    """A legend, the last value, the highest, and their unit; the highest lines first.

    Lines that stayed at 0 are told only if all did.
    """
    word, factor = UNITS.get(query.unit, ("", 1.0))
    found = [
        (max(values), values[-1], legend_of(query.legend, series))
        for series in answer
        for values in [[value * factor for _, value in series.values]]
    ]
    found.sort(reverse=True)
    moved = [line for line in found if line[0] > 0][:LINES_MAX] or found[:1]
    if not moved:
        return [(legend_of(query.legend, None), "no data", "", "")]
    return [(name, f"{last:,.4g}", f"{most:,.4g}", word) for most, last, name in moved]


def legend_of(written: str, series: Series | None) -> str:
    """With the labels put in; without a series their names stay."""
    for name, value in ({} if series is None else series.labels).items():
        written = written.replace(f"{{{{{name}}}}}", value)
    missing = "" if series is not None else r"\1"
    return re.sub(r"\{\{(\w+)\}\}", missing, written).strip()


def demonstrate(seconds: float, *, stay: bool) -> None:
    """All of it.

    Raises:
        NotFound: There is no Prometheus here; nothing was started then.
        DidNotStart: A process did not get ready.
    """
    prometheus.program("prometheus")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-demo-")))
        say("Starting the gateway on the embedded model, and Prometheus.")
        # A state directory, since some of what is shown is about it.
        own: Tables = {"server": {"state_directory": str(directory / "state")}}
        gateway = stack.enter_context(served.embedded(directory, own))
        target = urlsplit(gateway.url).netloc
        watching = stack.enter_context(prometheus.scraping(target, directory, every_s=SCRAPE_S))
        for name, url in pages(gateway.url, watching.url).items():
            say(f"  {name:18} {url}")
        say(f"{seconds:.0f} s of chats, titles, embeddings and impatient bursts…")
        start = time.time()
        seen = asyncio.run(load(gateway.url, gateway.models[0], seconds))
        told = ", ".join(f"{count} × {status}" for status, count in sorted(seen.items()))
        say(f"Answers by status: {told}\n")
        time.sleep(2 * SCRAPE_S)  # The last events have to be scraped.
        for line in table(watching, start=start, end=time.time()):
            say(line)
        firing = watching.now('ALERTS{alertstate="firing"}')
        say(f"\nAlerts: {', '.join(one.labels['alertname'] for one in firing) or 'none'}")
        if stay:
            say("Everything goes on until Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(STAY_S_MAX)
    say("Everything that was started has ended.")


def pages(gateway: str, watching: str) -> dict[str, str]:
    """Where to look, by name."""
    return {
        "status page": f"{gateway}/",
        "the same as JSON": f"{gateway}/gateway/status",
        "metrics": f"{gateway}/metrics",
        "Prometheus": f"{watching}/graph",
        "rules and alerts": f"{watching}/alerts",
    }


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench/demo.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (60)")
    parser.add_argument("--stay", action="store_true", help="go on until Ctrl-C")
    options = parser.parse_args(arguments)
    end_on_sigterm()
    try:
        demonstrate(options.seconds, stay=options.stay)
    except (DidNotStart, prometheus.NotFound) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
