"""Cases of work that a good order saves: loads of models, and prompts that were read."""

from collections.abc import Callable, Sequence

from bench.figures import Figure
from bench.simulation import oracle, outcomes
from bench.simulation.asks import Ask
from bench.simulation.clients import SDK
from bench.simulation.ours import Setup
from bench.simulation.outcomes import spread
from bench.simulation.policies import Attempt
from bench.simulation.runs import (
    MINUTES_10,
    burst,
    closed_loop,
    open_loop,
    played,
    service_s,
    together,
)
from bench.simulation.traffic import Mix
from bench.simulation.world import History, World
from gateway.config.schema import Queue, Timeouts
from gateway.core.ticket import Caller


def models(seeds: Sequence[int]) -> list[Figure]:
    """A B A B with room for one of them, 5 s to load."""
    figures = []
    setup = Setup(models=("A", "B"))
    both = Mix(models=("A", "B"))
    for name, traffic in (
        ("A B A B, 16 at once", burst(both, SDK, count=16)),
        ("A B A B, 10 min at half load", open_loop(both, per_s=0.18, for_s=MINUTES_10)),
        ("A B A B, 10 min at full load", open_loop(both, per_s=0.3, for_s=MINUTES_10)),
    ):
        ratios, waits = [], []
        histories = played(World(setup=setup, traffic=traffic), seeds)
        late, kept = _late(histories)
        for history in histories:
            let_in = _ran(history)
            longest_s = max(outcomes.waits(let_in))
            waits.append(longest_s)
            best = oracle.fewest_changes(
                *_by_kind(history, let_in, lambda ask: ask.model),
                change_s=history.world.hardware.load_s,
                wait_max_s=longest_s,
                # In memory from the start; requests are of A and B in turn.
                begins_with=0,
            )
            assert best is not None, "the oracle can do what was done"
            ratios.append(history.boxes[0].totals.loads / best)
        figures.append(
            Figure(
                name=f"{name}: loads ÷ the fewest with the same longest wait",
                goal="<= 1.2",
                measured=f"{spread(ratios)}, wait <= {max(waits):.0f} s, {late}",
                passed=max(ratios) <= 1.2 and kept,
            )
        )
    return [*figures, _cold_model(seeds)]


def _cold_model(seeds: Sequence[int]) -> Figure:
    """Who now and then wants another model than all others."""
    setup = Setup(models=("A", "B"), newcomers=True)
    one = Caller("cold")
    world = World(
        setup=setup,
        traffic=together(
            closed_loop(Mix(models=("A",), caller=Caller("hot")), 20, for_s=MINUTES_10),
            open_loop(Mix(models=("B",), caller=one), per_s=1 / 45, for_s=MINUTES_10),
        ),
    )
    affinity_s = setup.scheduling.affinity_wait_max_seconds
    bound_s = 0.0
    waits = []
    refused = 0
    for history in played(world, seeds):
        mine = [story for story in history.stories if story.ask.caller is one]
        waits += outcomes.waits(outcomes.accepted(mine))
        refused += sum(not story.last.accepted for story in mine)
        hardware = history.world.hardware
        longest_s = max(service_s(hardware, story.ask) for story in history.stories)
        bound_s = max(bound_s, affinity_s + longest_s)
    return Figure(
        name="a cold model beside a saturated one: longest wait, s",
        goal=f"<= {bound_s:.0f} (its bound + one that runs)",
        measured=f"{max(waits):.1f} of {len(waits)}, {refused} refused for good",
        passed=max(waits) <= bound_s and not refused,
    )


def prefixes(seeds: Sequence[int]) -> list[Figure]:
    """Conversations that take turns on one slot, which holds one of them."""
    setup = Setup(
        queue=Queue(max_queue_size=100),
        timeouts=Timeouts(request_timeout_seconds=600.0),
    )
    figures = []
    for name, mix, count in (
        ("2 conversations, 1000 tokens, 20 requests", Mix(conversations=2), 20),
        (
            "20 conversations, 300 tokens, 80 requests",
            Mix(conversations=20, prefix_tokens=300),
            80,
        ),
    ):
        ratios = []
        histories = played(World(setup=setup, traffic=burst(mix, SDK, count=count)), seeds)
        late, kept = _late(histories)
        for history in histories:
            done = _ran(history)
            beginnings = {attempt.ask.prompt[0]: attempt.ask.prompt[0].tokens for attempt in done}
            own = sum(part.tokens for attempt in done for part in attempt.ask.prompt[1:])
            ratios.append(history.boxes[0].totals.prefill_tokens / (sum(beginnings.values()) + own))
        figures.append(
            Figure(
                name=f"{name} at once: tokens read ÷ one after the other",
                goal="<= 1.25",
                measured=f"{spread(ratios)}, {late}",
                passed=max(ratios) <= 1.25 and kept,
            )
        )
    figures.append(_prefixes_arriving(seeds))
    return figures


def _prefixes_arriving(seeds: Sequence[int]) -> Figure:
    """Two conversations over ten minutes."""
    mix = Mix(conversations=2, prefix_tokens=1000)
    world = World(traffic=open_loop(mix, per_s=0.15, for_s=MINUTES_10))
    ratios, waits = [], []
    histories = played(world, seeds)
    late, kept = _late(histories)
    for history in histories:
        done = _ran(history)
        longest_s = max(outcomes.waits(done))
        waits.append(longest_s)
        best = oracle.fewest_changes(
            *_by_kind(history, done, lambda ask: ask.session, beginning=False),
            change_s=mix.prefix_tokens / history.world.hardware.prefill_per_s,
            wait_max_s=longest_s,
        )
        assert best is not None, "the oracle can do what was done"
        own = sum(part.tokens for attempt in done for part in attempt.ask.prompt[1:])
        best_tokens = best * mix.prefix_tokens + own
        ratios.append(sum(attempt.evaluated for attempt in done) / best_tokens)
    return Figure(
        name="2 conversations, 1000 tokens, 10 min: tokens read ÷ the fewest with that wait",
        goal="<= 1.25",
        measured=f"{spread(ratios)}, wait <= {max(waits):.0f} s, {late}",
        passed=max(ratios) <= 1.25 and kept,
    )


def _ran(history: History) -> list[Attempt]:
    """Tries that had a slot, however they ended."""
    return [one for one in outcomes.accepted(history.stories) if one.slot_at is not None]


def _late(histories: Sequence[History]) -> tuple[str, bool]:
    """How many of those that were let in timed out or were cut, and whether none did."""
    missed = sum(outcomes.missed(one.stories) for one in histories)
    cuts = sum(outcomes.cut(one.stories) for one in histories)
    return f"{missed} timed out, {cuts} cut", not missed


def _by_kind(
    history: History,
    attempts: Sequence[Attempt],
    kind: Callable[[Ask], str],
    *,
    beginning: bool = True,
) -> list[list[oracle.Job]]:
    """Jobs of the two kinds.

    Args:
        beginning: Whether reading the shared beginning is part of each job.
    """
    hardware = history.world.hardware
    found: dict[str, list[oracle.Job]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.sent_at):
        ask = attempt.ask
        read = ask.prompt_tokens if beginning else ask.prompt[-1].tokens
        work_s = hardware.work_s(read=read, written=ask.length) * ask.pace
        found.setdefault(kind(ask), []).append(oracle.Job(attempt.sent_at, work_s))
    return [*found.values(), [], []][:2]
