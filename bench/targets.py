"""What was promised under overload, by real processes; beside it the box's own line.

    python -m bench.targets [--quick] [--only NAME] [--json FILE]
    python -m bench.targets --ollama

A simulated box (`bench.box`, `--scale` times as fast) and the gateway before it are started
for each group of targets; the same loads go to the gateway and past it. `--ollama` instead
tells what the order of the work is worth on a real Ollama ($OLLAMA_BIN or `ollama` on PATH,
with two models). The exit status is 1 if a target is missed.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import orjson
from rich.console import Console

from bench.figures import Figure, report
from bench.processes import DidNotStart, end_on_sigterm
from bench.trials import box_targets, ollama_targets
from bench.trials.stand import QUICK, Scope
from bench.trials.tables import markdown

Group = Callable[[Scope], Iterator[Figure]]

GROUPS: Final[Mapping[str, Group]] = {
    "loops": box_targets.loops,
    "streams": box_targets.streams,
    "burst": box_targets.burst,
    "retries": box_targets.burst_retries,
    "fairness": box_targets.fairness,
    "models": box_targets.models,
    "prefixes": box_targets.prefixes,
}
ON_OLLAMA: Final[Mapping[str, Group]] = {"order": ollama_targets.order}


def written(found: Mapping[str, Sequence[Figure]]) -> str:
    """As a Markdown table."""
    rows = [
        (figure.name.strip(), figure.goal or "-", figure.measured, figure.verdict)
        for figures in found.values()
        for figure in figures
    ]
    return markdown([("target", "goal", "measured", ""), *rows])


def as_json(found: Mapping[str, Sequence[Figure]], *, scale: float) -> bytes:
    """All of it. A number that was not measured is null."""
    return orjson.dumps(
        {
            "measured": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "scale": scale,
            "groups": {
                name: [attrs.asdict(figure) | {"verdict": figure.verdict} for figure in figures]
                for name, figures in found.items()
            },
        },
        option=orjson.OPT_INDENT_2,
    )


def measure(groups: Mapping[str, Group], scope: Scope, console: Console) -> dict[str, list[Figure]]:
    """Run the groups one after the other, telling which."""
    found: dict[str, list[Figure]] = {}
    started_at = time.perf_counter()
    with console.status("") as status:
        for name, group in groups.items():
            figures = found.setdefault(name, [])
            status.update(name)
            for figure in group(scope):
                figures.append(figure)
                status.update(f"{name}, {len(figures)} done: {figure.name.strip()}")
            console.print(f"{name} after {time.perf_counter() - started_at:.0f} s")
    return found


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="bench.targets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--only", choices=[*GROUPS], action="append", help="a group of targets; all by default")
    add("--ollama", action="store_true", help="on a real Ollama, which is started")
    add("--quick", action="store_true", help="short loads and few levels")
    add("--seconds", type=float, help="how long closed loops last, in seconds of the box")
    add("--scale", type=float, default=Scope().scale, help="how many times as fast boxes go")
    add("--json", type=Path, metavar="FILE", help="also write all of it there")
    add("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return found


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    scope = attrs.evolve(QUICK if options.quick else Scope(), scale=options.scale)
    if options.seconds:
        scope = attrs.evolve(scope, loop_s=options.seconds)
    groups = {name: GROUPS[name] for name in options.only or GROUPS}
    try:
        found = measure(ON_OLLAMA if options.ollama else groups, scope, Console(stderr=True))
    except (DidNotStart, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    figures = [figure for group in found.values() for figure in group]
    print(report(figures))
    if options.json:
        options.json.write_bytes(as_json(found, scale=scope.scale))
    if options.markdown:
        options.markdown.write_text(written(found) + "\n")
    return int(any(figure.passed is False for figure in figures))


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main(sys.argv[1:]))
