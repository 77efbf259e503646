"""Cases of too much to do: bursts, loads that last, estimates that are wrong."""

from collections.abc import Sequence
from typing import Final

import attrs

from bench.answers import HeavyTailed, Uniform
from bench.figures import Figure, quantile
from bench.machine import Hardware
from bench.simulation import oracle, outcomes
from bench.simulation.clients import ONCE, SDK
from bench.simulation.outcomes import spread
from bench.simulation.runs import (
    MINUTES_10,
    burst,
    closed_loop,
    played,
    service_s,
)
from bench.simulation.traffic import Mix
from bench.simulation.world import History, PolicyName, World, run

DEADLINE_S: Final = 60.0
BURST: Final = 100
LEVELS: Final = (1, 5, 10, 20, 30, 50, 60)
OTHERS: Final[tuple[PolicyName, ...]] = ("direct", "predecessor")

SHORT: Final = Mix(prompt_tokens=8)
"""Lengths are not told. 2.8 s each on average: a hundred take nearly as long as the SDK's
patience, 120 + 120 + 60 s."""


def burst_once(seeds: Sequence[int]) -> list[Figure]:
    """100 at once that don't come back."""
    world = World(traffic=burst(attrs.evolve(SHORT, told=True), ONCE))
    histories = played(world, seeds, told=True)
    unknown = played(World(traffic=burst(SHORT, ONCE)), seeds)
    cold = played(world, seeds, cold=True)

    def jobs(history: History) -> list[oracle.Job]:
        hardware = history.world.hardware
        return [
            oracle.Job(0.0, service_s(hardware, story.ask), DEADLINE_S) for story in history.stories
        ]

    def answered(history: History) -> int:
        return outcomes.in_time(history.stories)

    shares = [answered(one) / len(oracle.in_turn(jobs(one))) for one in histories]
    bounds = [answered(one) / len(oracle.most(jobs(one))) for one in histories]
    missed = sum(outcomes.missed(one.stories) for one in histories)
    cuts = sum(outcomes.cut(one.stories) for one in histories)
    figures = [
        Figure(
            name="burst of 100, no retries, lengths told: answered in time ÷ perfect admission",
            goal=">= 0.95",
            measured=spread(shares),
            passed=quantile(shares, 0.5) >= 0.95,
        ),
        Figure(
            name="  ÷ all lengths known, shortest first (no gateway can)",
            goal="",
            measured=spread(bounds),
            passed=None,
        ),
        Figure(
            name="  accepted: timed out, cut",
            goal="0, 0",
            measured=f"{missed}, {cuts} in {len(seeds)} bursts",
            passed=missed == cuts == 0,
        ),
        Figure(
            name="  ÷ perfect admission, lengths not told",
            goal="",
            measured=spread([answered(one) / len(oracle.in_turn(jobs(one))) for one in unknown]),
            passed=None,
        ),
        Figure(
            name="  ÷ perfect admission, nothing learned before",
            goal="",
            measured=spread([answered(one) / len(oracle.in_turn(jobs(one))) for one in cold]),
            passed=None,
        ),
    ]
    for policy in OTHERS:
        others = [run(attrs.evolve(world, seed=seed), policy) for seed in seeds]
        shares = [answered(one) / len(oracle.in_turn(jobs(one))) for one in others]
        figures.append(
            Figure(
                name=f"  ÷ perfect admission, {policy}",
                goal="",
                measured=spread(shares),
                passed=None,
            )
        )
    return figures


def burst_sdk(seeds: Sequence[int]) -> list[Figure]:
    """100 at once by clients that come back as openai-python does."""
    figures = []
    for name, mix in (
        ("burst of 100, SDK retries", SHORT),
        ("  as streams", attrs.evolve(SHORT, streams=1.0)),
    ):
        world = World(traffic=burst(mix, SDK))
        histories = played(world, seeds)
        figures += _all_answered(name, histories)
    world = World(traffic=burst(SHORT, SDK))
    figures += _all_answered(
        "  nothing learned before", played(world, seeds, cold=True), goal=False
    )
    for policy in OTHERS:
        others = [run(attrs.evolve(world, seed=seed), policy) for seed in seeds]
        figures += _all_answered(f"  {policy}", others, goal=False)
    return figures


def _all_answered(name: str, histories: Sequence[History], *, goal: bool = True) -> list[Figure]:
    answered = [float(outcomes.in_time(one.stories)) for one in histories]
    longest = [_makespan(one) for one in histories]
    missed = sum(outcomes.missed(one.stories) for one in histories)
    told = [outcomes.returns_told(one.stories) for one in histories]
    twice = sum(len(one) - len({round(at, 3) for at in one}) for one in told)
    return [
        Figure(
            name=f"{name}: answered in time",
            goal="100" if goal else "",
            measured=f"{spread(answered, '.0f')}, {missed} accepted timed out",
            passed=min(answered) == BURST and not missed if goal else None,
        ),
        *([_possible(histories)] if goal else []),
        Figure(
            name=f"{name}: all of it ÷ the slot's own time",
            goal="<= 1.3" if goal else "",
            measured=f"{spread(longest)}, {twice} told the same moment",
            passed=max(longest) <= 1.3 if goal else None,
        ),
    ]


def _possible(histories: Sequence[History]) -> Figure:
    patience_s = 2 * SDK.retries.told_s_max + DEADLINE_S
    possible = [
        float(
            len(
                oracle.in_turn(
                    oracle.Job(0.0, service_s(one.world.hardware, story.ask), patience_s)
                    for story in one.stories
                )
            )
        )
        for one in histories
    ]
    return Figure(
        name="  in turn within the SDK's patience (120 + 120 + 60 s) at the most",
        goal="",
        measured=spread(possible, ".0f"),
        passed=None,
    )


def _makespan(history: History) -> float:
    """Until the last answer, in terms of what the slot needs for all that was asked."""
    last = max(
        (story.last.ended_at or 0.0 for story in history.stories if story.last.in_time),
        default=0.0,
    )
    hardware = history.world.hardware
    return last / sum(service_s(hardware, story.ask) for story in history.stories)


# --- Loads that last ----------------------------------------------------------


def loops(seeds: Sequence[int]) -> list[Figure]:
    """1 to 60 clients in a closed loop, ten minutes; beside them who does without ours."""
    figures = []
    for name, streams in (("closed loop", 0.0), ("closed loop of streams", 1.0)):
        for level in LEVELS:
            world = World(traffic=closed_loop(Mix(streams=streams), level, for_s=MINUTES_10))
            found = _loop_figure(f"{name}, {level:2}", played(world, seeds), bound=0.95)
            figures.append(found)
    for policy in OTHERS:
        for level in LEVELS:
            world = World(traffic=closed_loop(Mix(), level, for_s=MINUTES_10))
            others = [run(attrs.evolve(world, seed=seed), policy) for seed in seeds]
            figures.append(_loop_figure(f"  {policy}, {level:2}", others, bound=None))
    return figures


def _loop_figure(
    name: str, histories: Sequence[History], *, bound: float | None, after: int = 0
) -> Figure:
    goods = [outcomes.goodput(one, until=MINUTES_10) for one in histories]
    missed = sum(outcomes.missed(one.stories, after=after) for one in histories)
    cuts = sum(outcomes.cut(one.stories, after=after) for one in histories)
    let_in = sum(len(outcomes.accepted(one.stories)) for one in histories)
    return Figure(
        name=f"{name}: goodput, accepted timed out",
        goal=f">= {bound}, 0" if bound else "",
        measured=f"{spread(goods)}, {missed} (+ {cuts} cut) of {let_in}",
        passed=min(goods) >= bound and not missed if bound else None,
    )


def wrong_estimates(seeds: Sequence[int]) -> list[Figure]:
    """Rates off by two either way at the start, most answers short and a few very long."""
    figures = []
    tail = HeavyTailed()
    for name, speed, lengths in (
        ("box twice as fast", 2.0, Uniform(8, 32)),
        ("box half as fast", 0.5, Uniform(8, 32)),
        ("heavy tail", 1.0, tail),
        ("twice as fast, heavy tail", 2.0, tail),
        ("half as fast, heavy tail", 0.5, tail),
    ):
        hardware = Hardware(prefill_per_s=60.0 * speed, decode_per_s=7.5 * speed)
        mix = Mix(lengths=lengths, max_tokens=512, noise=0.05)
        for level in (20, 60):
            world = World(hardware=hardware, traffic=closed_loop(mix, level, for_s=MINUTES_10))
            histories = played(world, seeds, cold=True)
            figures.append(_loop_figure(f"cold, {name}, {level}", histories, bound=0.85, after=20))
    return figures
