"""How the gateway bears attacks and what goes wrong: hostile requests, broken engines, SIGTERM.

    python bench/faults.py [--quick] [--only NAME …] [--soak SECONDS] [--json FILE]

One line for each figure: its name, its goal, what was measured, PASS or MISS. Each
is taken on a gateway of its own, started as its user would before the scripted Ollama,
on a core of its own. Figures that need more open files than this machine allows say so
instead. The exit status is 1 if a figure could not be taken, not for a missed goal.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs

from bench import (
    broken_engines,
    drain,
    fuzz,
    hostile,
    hostile_json,
    keys,
    leaving,
    memory,
    processes,
    series,
    slow_clients,
)
from bench.figures import Figure
from bench.processes import Cores
from bench.sites import Site

FIGURES: Final[dict[str, Callable[[Site], Iterator[Figure]]]] = {
    "hostile": hostile.hostile_http,
    "auth": keys.authentication,
    "json": hostile_json.hostile_json,
    "backend": broken_engines.backend_faults,
    "fuzz": fuzz.wire_fuzz,
    "ready": memory.ready_and_idle,
    "slow-1600": slow_clients.slow_clients_1600,
    "slow-10000": slow_clients.slow_clients_10000,
    "memory": memory.memory_peak,
    "series": series.new_time_series,
    "gone": leaving.client_gone,
    "sigterm": drain.sigterm_under_load,
    "soak": memory.soak,
}


def raise_file_limit() -> None:
    """Allow as many open files as we may; the processes that are started inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a short soak")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="60 by default, 10 if quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of it there")
    options = parser.parse_args(arguments)
    processes.end_on_sigterm()
    raise_file_limit()
    cores = Cores.of_this_machine()
    print(cores, flush=True)
    taken: list[Figure] = []
    failed = False
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        stack.enter_context(processes.running_on(cores.others))
        ollama = stack.enter_context(
            processes.scripted_ollama(directory=directory, cores=cores.others)
        )
        ollama.wait_ready()
        site = Site(
            directory=directory,
            cores=cores,
            ollama=ollama,
            quick=options.quick,
            soak_s=options.soak or (10.0 if options.quick else 60.0),
        )
        for name in options.only:
            try:
                for figure in FIGURES[name](site):
                    taken.append(figure)
                    print(line(figure), flush=True)
            except (OSError, TimeoutError, processes.DidNotStart) as error:
                failed = True
                print(f"{name}: not taken: {error}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(list(map(attrs.asdict, taken)), indent=2) + "\n")
    return 1 if failed else 0


def line(figure: Figure) -> str:
    return f"{figure.verdict:4}  {figure.name}  (goal: {figure.goal})  {figure.measured}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
