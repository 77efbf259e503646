"""One run: a box, a policy before it, and clients who ask."""

import random
from collections.abc import Callable
from typing import Literal

import attrs

from bench.machine import Hardware
from bench.simulation.box import Box
from bench.simulation.clients import Clients, Story
from bench.simulation.events import Events
from bench.simulation.ours import Gateway, Setup
from bench.simulation.policies import Direct, Policy, Predecessor
from gateway.scheduling.estimate import CostModel

PolicyName = Literal["direct", "predecessor", "ours"]

Traffic = Callable[[Clients, Events, random.Random], None]
"""Has clients ask, now and later."""


@attrs.frozen(kw_only=True)
class World:
    """What a run is made of.

    Attributes:
        boxes: How many; only ours knows what to do with more than one.
        warm: The first model is in memory from the start.
        seed: Of all that is drawn.
    """

    hardware: Hardware = Hardware()
    boxes: int = 1
    setup: Setup = Setup()
    warm: bool = True
    traffic: Traffic
    seed: int = 1


@attrs.frozen(kw_only=True)
class History:
    """What came of it.

    Attributes:
        ended_at: When nothing was left to do.
    """

    world: World
    stories: list[Story]
    boxes: list[Box]
    ended_at: float


def run(
    world: World,
    policy: PolicyName = "ours",
    *,
    costs: CostModel | None = None,
    check: bool = False,
) -> History:
    """Let it happen.

    Args:
        costs: What ours has learned before; nothing by default.
        check: Look after each event whether what must be true is true.

    Raises:
        AssertionError: It is not.
    """
    events = Events()
    boxes = [Box(world.hardware, events) for _ in range(world.boxes)]
    if world.warm:
        for box in boxes:
            box.warm(world.setup.models[0])
    front = _policy(policy, world, events, boxes, CostModel() if costs is None else costs)
    clients = Clients(
        events=events,
        policy=front,
        deadline_s=world.setup.timeouts.request_timeout_seconds,
        dice=random.Random(f"clients {world.seed}"),
    )
    world.traffic(clients, events, random.Random(f"traffic {world.seed}"))
    events.run(settled=front.check if check else None)
    front.check_ended()
    for story in clients.stories:
        assert story.last.end is not None, "a request got no answer"
    return History(world=world, stories=clients.stories, boxes=boxes, ended_at=events.now)


def _policy(
    name: PolicyName, world: World, events: Events, boxes: list[Box], costs: CostModel
) -> Policy:
    match name:
        case "direct":
            return Direct(events=events, box=boxes[0])
        case "predecessor":
            return Predecessor(events=events, box=boxes[0])
        case "ours":
            return Gateway(events=events, boxes=boxes, setup=world.setup, costs=costs)
