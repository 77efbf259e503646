"""What was promised of the scheduler, on a virtual clock; minutes of overload in seconds.

    python -m bench.simulate [--seeds 5] [--case burst]

Runs the gateway's own scheduling code (`bench.simulation.ours`) before a simulated box,
and beside it what it is compared with: the box's own line, the predecessor, and oracles
that know the future (`bench.simulation.oracle`). Where there are several runs, the middle
one is printed and the range. `--histories N` instead plays N random short histories and
looks after each event whether what must be true is true.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bench.figures import Figure, report
from bench.simulation.cases import CASES
from bench.simulation.histories import play

BROKEN_SHOWN: Final = 20


def _broken(seeds: Iterable[int]) -> Iterator[str]:
    """Seeds of histories that break a promise, and how."""
    for seed in seeds:
        try:
            play(seed)
        except AssertionError as error:
            yield f"seed {seed}: {error}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each case")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--case", choices=[*CASES], action="append", help="all by default")
    parser.add_argument("--histories", type=int, default=0, help="random histories instead")
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    started_at = time.perf_counter()
    if options.histories:
        count = options.histories
        broken = list(_broken(range(options.first_seed, options.first_seed + count)))
        took_s = time.perf_counter() - started_at
        print("\n".join(broken[:BROKEN_SHOWN]))
        print(f"{count} histories in {took_s:.1f} s, {took_s / count * 1e3:.2f} ms each:")
        print(f"{len(broken)} break a promise")
        return int(bool(broken))
    figures: list[Figure] = []
    for name in options.case or CASES:
        figures += CASES[name](seeds)
    print(report(figures))
    print(f"\n{options.seeds} seeds in {time.perf_counter() - started_at:.1f} s")
    return int(any(figure.passed is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
