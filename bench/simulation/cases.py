"""What was promised of the scheduler, by the name under which the command runs it.

The box of the yardstick: one slot, 60 tokens/s read, 7.5 written, answers of 8 to 32
tokens, 60 s for each. What ours has learned before is what one client taught it in two
minutes, as after a restart with its state file; `cold` means nothing was learned.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.figures import Figure
from bench.simulation import affinity, overload, sharing

Case = Callable[[Sequence[int]], list[Figure]]
"""Runs with each of the seeds."""

CASES: Final[Mapping[str, Case]] = {
    "burst": overload.burst_once,
    "burst-sdk": overload.burst_sdk,
    "loops": overload.loops,
    "wrong": overload.wrong_estimates,
    "weights": sharing.weights,
    "light": sharing.light,
    "models": affinity.models,
    "prefixes": affinity.prefixes,
}
