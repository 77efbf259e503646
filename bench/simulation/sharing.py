"""Cases of several callers who share the slot."""

from collections.abc import Sequence
from typing import Final

from bench.answers import Lengths, Uniform
from bench.figures import Figure
from bench.simulation import outcomes
from bench.simulation.clients import HASTY, SDK, Habits
from bench.simulation.ours import Setup
from bench.simulation.outcomes import spread
from bench.simulation.runs import (
    MINUTES_10,
    closed_loop,
    played,
    service_s,
    together,
)
from bench.simulation.traffic import Mix
from bench.simulation.world import History, Traffic, World
from gateway.core.ticket import Caller

BEGINNING_S: Final = 240.0
"""Who is there first is promised more than its share, since nobody knows of the others yet;
and promises are kept. Shares are measured from then on."""

WHOLE_S: Final = BEGINNING_S + MINUTES_10


def weights(seeds: Sequence[int]) -> list[Figure]:
    """Callers who always have something waiting share by their weights."""
    figures = []
    for how, habits in (("ask each second", HASTY), ("come when told", SDK)):
        for shares in ((1.0, 1.0), (1.0, 3.0), (1.0, 2.0, 5.0)):
            world = World(setup=Setup(newcomers=True), traffic=_weighted(shares, habits))
            off = [100.0 * _off(one, shares) for one in played(world, seeds)]
            named = ":".join(f"{share:.0f}" for share in shares)
            figures.append(
                Figure(
                    name=f"slot seconds of callers weighted {named} who {how}: off by",
                    goal="<= 5 %",
                    measured=f"{spread(off, '.1f')} %",
                    passed=max(off) <= 5.0,
                )
            )
    return figures


def _weighted(shares: Sequence[float], habits: Habits) -> Traffic:
    # The second caller's requests are longer: seconds are shared, not requests.
    lengths: list[Lengths] = [Uniform(8, 32), Uniform(16, 64), Uniform(8, 32)]
    return together(
        *(
            closed_loop(
                Mix(caller=Caller(f"c{number}", weight=share), lengths=lengths[number]),
                20,
                for_s=WHOLE_S,
                habits=habits,
            )
            for number, share in enumerate(shares)
        )
    )


def _off(history: History, shares: Sequence[float]) -> float:
    """The largest error of a share, as a part of it."""
    spent = outcomes.slot_seconds(history.stories, since=BEGINNING_S, until=WHOLE_S)
    total_s = sum(spent.values())
    return max(
        abs(spent.get(f"c{number}", 0.0) / total_s * sum(shares) / share - 1.0)
        for number, share in enumerate(shares)
    )


def light(seeds: Sequence[int]) -> list[Figure]:
    """A caller with one request at a time beside one that keeps 40 in flight."""
    flood, one = Caller("flood"), Caller("light")
    world = World(
        setup=Setup(newcomers=True),
        traffic=together(
            closed_loop(Mix(caller=flood), 40, for_s=MINUTES_10),
            closed_loop(Mix(caller=one), 1, for_s=MINUTES_10),
        ),
    )
    p95s, bounds, refused = [], [], 0
    for history in played(world, seeds):
        mine = [story for story in history.stories if story.ask.caller is one]
        p95s.append(outcomes.wait_p95(mine))
        refused += sum(not story.last.accepted for story in mine)
        hardware = history.world.hardware
        longest_s = max(service_s(hardware, story.ask) for story in history.stories)
        # Weights are equal: for each second of its own it waits one of the other's.
        share_s = max(service_s(hardware, story.ask) for story in mine)
        bounds.append(longest_s + share_s)
    return [
        Figure(
            name="light beside a flood of 40: p95 of its waits, s",
            goal=f"<= {min(bounds):.1f} (one that runs + its share)",
            measured=f"{spread(p95s, '.1f')}, {refused} refused for good",
            passed=all(p95 <= bound for p95, bound in zip(p95s, bounds, strict=True))
            and not refused,
        )
    ]
