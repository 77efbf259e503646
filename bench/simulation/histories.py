"""Short random histories of everything at once, each drawn from its seed and watched.

What a run must keep at every moment is `Gateway.check`, at its end `Gateway.check_ended`.
In some histories the gateway knows what each request takes and when it will be done:
there nothing that it lets in may be late.
"""

import functools
import random
from typing import Final

import attrs

from bench.answers import HeavyTailed, Lengths, Uniform
from bench.machine import Hardware
from bench.simulation import outcomes
from bench.simulation.clients import ONCE, SDK, Clients
from bench.simulation.events import Events
from bench.simulation.ours import Setup
from bench.simulation.traffic import Maker, Mix
from bench.simulation.world import History, World, run
from gateway.config.schema import Queue, Scheduling, Timeouts
from gateway.core.ticket import Caller, Cost, Priority
from gateway.scheduling.estimate import CostModel, Work

TOKEN_CHARS: Final = 4

_LENGTHS: Final[tuple[Lengths, ...]] = (Uniform(8, 32), Uniform(16, 16), HeavyTailed())


class KnownCosts(CostModel):
    """Prices that are true, where every answer is as long as it may be.

    Args:
        error: Requests may take so much less than their prices say, as a part of them.
    """

    def __init__(self, hardware: Hardware, *, error: float = 0.0) -> None:
        super().__init__()
        self._hardware = hardware
        self._error = error

    def price(self, upstream: str, model: str, work: Work, *, concurrency: int) -> Cost:
        hardware = self._hardware
        fresh = max(1.0, (work.prompt_chars - work.cached_chars) / TOKEN_CHARS)
        # A hair more than the truth: at its very deadline an answer is late.
        slower = 1.001 / hardware.speed(hardware.slots)
        token_s = slower / hardware.decode_per_s
        # Until the first token is there, which is what a stream's deadline is about.
        prefill_s = fresh / hardware.prefill_per_s * slower + token_s
        decode_s = (work.max_tokens - 1) * token_s
        spread_s = self._error / 2.0 * (prefill_s + decode_s)
        return Cost(prefill_s, decode_s, spread_s, round(work.prompt_chars / TOKEN_CHARS))

    def left_s(
        self,
        upstream: str,
        model: str,
        work: Work,
        cost: Cost,
        so_far_s: float,
        *,
        concurrency: int,
    ) -> float:
        return max(cost.service_s - so_far_s, 0.0)

    def load_s(self, upstream: str, model: str) -> float:
        return self._hardware.load_s

    def confident(self, upstream: str, model: str) -> bool:
        return True


def play(seed: int) -> History:
    """A history, and all that must be true of it.

    Raises:
        AssertionError: Something was not.
    """
    dice = random.Random(f"history {seed}")
    known = dice.random() < 0.4
    history = _known(seed, dice) if known else _any(seed, dice)
    for attempt in outcomes.accepted(history.stories):
        if attempt.slot_at is not None:
            assert attempt.wait_s <= attempt.deadline_s, "it started after its deadline"
    if known:
        late = outcomes.missed(history.stories) + outcomes.cut(history.stories)
        assert not late, f"{late} late although all was known"
    return history


def _any(seed: int, dice: random.Random) -> History:
    """Anything: wrong estimates, several boxes and models, clients that leave."""
    slots = dice.choice((1, 1, 2, 3))
    models = ("A", "B")[: dice.choice((1, 1, 2))]
    world = World(
        hardware=Hardware(
            slots=slots,
            memory_models=dice.choice((1, 2)),
            load_s=dice.choice((1.0, 5.0)),
            prefill_per_s=60.0 * dice.choice((0.5, 1.0, 2.0)),
            decode_per_s=7.5 * dice.choice((0.5, 1.0, 2.0)),
            gains=dice.choice(((1.0,), (1.0, 1.5, 1.7))),
        ),
        boxes=dice.choice((1, 1, 2)),
        setup=_setup(dice, models, slots=slots),
        warm=dice.random() < 0.5,
        traffic=lambda clients, events, _: _ask(clients, events, dice, models, leaving=0.1),
        seed=seed,
    )
    return run(world, check=True)


def _known(seed: int, dice: random.Random) -> History:
    """One slot, one model, lengths that are known, and requests that never take longer."""
    hardware = Hardware()
    error = dice.choice((0.0, 0.3))
    world = World(
        hardware=hardware,
        setup=_setup(dice, ("A",), slots=1),
        traffic=lambda clients, events, _: _ask(
            clients, events, dice, ("A",), leaving=0.0, error=error
        ),
        seed=seed,
    )
    return run(world, costs=KnownCosts(hardware, error=error), check=True)


def _setup(dice: random.Random, models: tuple[str, ...], *, slots: int) -> Setup:
    return Setup(
        models=models,
        slots=slots,
        queue=Queue(max_queue_size=dice.choice((0, 2, 50))),
        scheduling=Scheduling(
            fairness=dice.random() < 0.8,
            priorities=dice.random() < 0.8,
            reservations=dice.random() < 0.8,
            reservations_max=dice.choice((2, 1000)),
        ),
        timeouts=Timeouts(request_timeout_seconds=dice.choice((10.0, 30.0, 60.0))),
        newcomers=dice.random() < 0.5,
    )


def _ask(
    clients: Clients,
    events: Events,
    dice: random.Random,
    models: tuple[str, ...],
    *,
    leaving: float,
    error: float | None = None,
) -> None:
    """A few callers who ask, at once or one after the other.

    Args:
        leaving: The part of all clients that go away before they are answered.
        error: Answers are as long as they may be, and take so much less time at the most.
    """
    for number in range(dice.choice((1, 2, 3))):
        caller = Caller(
            f"c{number}",
            weight=dice.choice((1.0, 3.0)),
            priority=dice.choice((*Priority, Priority.NORMAL)),
        )
        mix = Mix(
            lengths=dice.choice(_LENGTHS),
            max_tokens=dice.choice((16, 64, 512)),
            models=models,
            conversations=dice.choice((0, 0, 2)) if error is None else 0,
            prefix_tokens=200,
            grows=dice.random() < 0.5,
            streams=dice.choice((0.0, 0.5)),
            uncut=dice.choice((0.0, 0.5)),
            caller=caller,
            timeout_s=dice.choice((None, 20.0)),
        )
        maker = Maker(mix, dice)
        habits = dice.choice((SDK, ONCE))
        gap_s = dice.choice((0.0, 1.0, 4.0))
        for index in range(dice.randint(1, 8)):
            ask = maker.make()
            if error is not None:
                ask = attrs.evolve(ask, max_tokens=ask.length, pace=1.0 - error * dice.random())
            elif dice.random() < leaving:
                ask = attrs.evolve(ask, leaves_after_s=dice.random() * 30.0)
            asking = functools.partial(clients.ask, ask, habits)
            events.at(index * gap_s * dice.random() * 2.0, asking)
