"""The kinds of runs that cases are made of: who asks when, and what ours knew before."""

import functools
import random
from collections.abc import Sequence
from typing import Final

import attrs

from bench.machine import Hardware
from bench.simulation.asks import Ask
from bench.simulation.clients import SDK, Clients, Habits
from bench.simulation.events import Events
from bench.simulation.traffic import Maker, Mix, moments
from bench.simulation.world import History, Traffic, World, run
from gateway.scheduling.estimate import CostModel

MINUTES_10: Final = 600.0


def burst(mix: Mix, habits: Habits, *, count: int = 100) -> Traffic:
    """All at once."""

    def ask(clients: Clients, _events: Events, dice: random.Random) -> None:
        maker = Maker(mix, dice)
        for _ in range(count):
            clients.ask(maker.make(), habits)

    return ask


def closed_loop(mix: Mix, clients_count: int, *, for_s: float, habits: Habits = SDK) -> Traffic:
    """So many clients who ask again as soon as they are answered."""

    def ask(clients: Clients, _events: Events, dice: random.Random) -> None:
        maker = Maker(mix, dice)
        for _ in range(clients_count):
            clients.loop(maker.make, habits, until=for_s)

    return ask


def open_loop(mix: Mix, *, per_s: float, for_s: float, habits: Habits = SDK) -> Traffic:
    """Clients who know nothing of each other."""

    def ask(clients: Clients, events: Events, dice: random.Random) -> None:
        maker = Maker(mix, dice)
        for at in moments(dice, per_s=per_s, until=for_s):
            events.at(at, functools.partial(clients.ask, maker.make(), habits))

    return ask


def together(*traffics: Traffic) -> Traffic:
    def ask(clients: Clients, events: Events, dice: random.Random) -> None:
        for traffic in traffics:
            traffic(clients, events, dice)

    return ask


def learned(world: World, *, told: bool = False) -> CostModel:
    """What one client teaches in two minutes of the world's box."""
    costs = CostModel()
    for model in world.setup.models:
        lesson = attrs.evolve(
            world,
            traffic=closed_loop(Mix(models=(model,), told=told), 1, for_s=120.0),
            seed=world.seed + 1_000_000,
        )
        run(lesson, costs=costs)
    return costs


def played(
    world: World, seeds: Sequence[int], *, cold: bool = False, told: bool = False
) -> list[History]:
    """By ours, once for each seed.

    Args:
        cold: Nothing was learned before.
        told: What was learned before are answers that end by their caps.
    """
    found = []
    for seed in seeds:
        seeded = attrs.evolve(world, seed=seed)
        found.append(run(seeded, costs=None if cold else learned(seeded, told=told)))
    return found


def service_s(hardware: Hardware, ask: Ask) -> float:
    """Of a slot that holds nothing of its prompt."""
    return hardware.work_s(read=ask.prompt_tokens, written=ask.length) * ask.pace
