"""What the service manager hears: when it is ready, and what is going on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from gateway.daemon.announce import ENGINE_PATIENCE_S, STATUS_EVERY_S, Announcer, status_line
from gateway.daemon.notify import Notify
from gateway.daemon.statistics import Statistics, UpstreamStatistics
from tests.fakes import ManualClock

UP = UpstreamStatistics(name="default", up=True, slots=2, busy=0, holds_default_model=True)
DOWN = attrs.evolve(UP, up=False)
IDLE = Statistics(
    draining=False,
    warm=True,
    waiting=0,
    queue_bound=50,
    active=0,
    upstreams=(UP,),
    log_lines_dropped=0,
)
COLD = attrs.evolve(IDLE, warm=False)
DEAD = attrs.evolve(COLD, upstreams=(DOWN,))


class Heard(Notify):
    """A service manager that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    @property
    def listened_to(self) -> bool:
        return True

    @property
    def is_ready(self) -> bool:
        return any(word.startswith("ready") for word in self.words)

    def starting(self, limit_s: float) -> None:
        self.words.append("starting")

    def ready(self, status: str) -> None:
        self.words.append(f"ready {status}")

    def status(self, text: str) -> None:
        self.words.append(text)


@attrs.define(eq=False)
class Scene:
    """A daemon as far as it is announced."""

    clock: ManualClock
    heard: Heard
    now: Statistics
    warm: asyncio.Event = attrs.field(factory=asyncio.Event)
    loaded: list[str] = attrs.field(factory=list)

    async def warmed(self) -> None:
        self.now = attrs.evolve(self.now, warm=True)
        self.warm.set()
        await self.clock.advance(0.0)


@asynccontextmanager
async def announced(now: Statistics) -> AsyncIterator[Scene]:
    scene = Scene(ManualClock(), Heard(), now)
    announcer = Announcer(
        notify=scene.heard,
        clock=scene.clock,
        warm=scene.warm,
        statistics=lambda: scene.now,
        loaded=lambda: scene.loaded,
    )
    task = asyncio.create_task(announcer.run())
    await scene.clock.advance(0.0)
    yield scene
    task.cancel()


async def test_it_is_ready_when_the_model_is_warm_and_not_before() -> None:
    async with announced(COLD) as scene:
        await scene.clock.advance(600.0)
        assert not scene.heard.is_ready
        # And the manager's patience was renewed all the time.
        assert scene.heard.words.count("starting") >= 600
        await scene.warmed()
        assert scene.heard.words[-1] == "ready serving: 0 running, 0 waiting, 2 slots"


async def test_it_is_ready_without_an_engine_after_a_while() -> None:
    async with announced(DEAD) as scene:
        await scene.clock.advance(ENGINE_PATIENCE_S - 0.5)
        assert not scene.heard.is_ready
        await scene.clock.advance(1.0)
        assert scene.heard.words[-1].startswith("ready no backend answers: ")


async def test_an_engine_that_comes_in_time_is_waited_for() -> None:
    async with announced(DEAD) as scene:
        await scene.clock.advance(ENGINE_PATIENCE_S / 2)
        scene.now = COLD
        await scene.clock.advance(60.0)
        assert not scene.heard.is_ready
        await scene.warmed()
        assert scene.heard.is_ready


async def test_the_status_is_told_when_it_changes_and_not_more_often() -> None:
    async with announced(IDLE) as scene:
        await scene.warmed()
        said = len(scene.heard.words)
        await scene.clock.advance(100.0)
        assert len(scene.heard.words) == said
        for active in range(1, 200):
            scene.now = attrs.evolve(IDLE, active=active)
            await scene.clock.advance(0.1)
        assert len(scene.heard.words) - said <= 20.0 / STATUS_EVERY_S
        await scene.clock.advance(STATUS_EVERY_S)
        assert scene.heard.words[-1] == "serving: 199 running, 0 waiting, 2 slots"


async def test_where_nobody_listens_nothing_is_done() -> None:
    clock = ManualClock()
    announcer = Announcer(
        notify=Notify(),
        clock=clock,
        warm=asyncio.Event(),
        statistics=lambda: IDLE,
        loaded=list,
    )
    await announcer.run()
    assert clock.pending == 0


@pytest.mark.parametrize(
    ("now", "loaded", "line"),
    [
        (
            attrs.evolve(IDLE, active=8, waiting=5),
            ["llama3.2:latest"],
            "serving: 3 running, 5 waiting, 2 slots, llama3.2 loaded",
        ),
        (
            attrs.evolve(IDLE, upstreams=(attrs.evolve(UP, slots=1), DOWN)),
            ["a", "b", "c", "d", "e"],
            "serving: 0 running, 0 waiting, 1 slot, a, b, c, 2 more loaded",
        ),
        (COLD, [], "warming up: 0 running, 0 waiting, 2 slots"),
        (DEAD, [], "no backend answers: 0 running, 0 waiting, 0 slots"),
        (
            attrs.evolve(IDLE, draining=True, active=2),
            [],
            "draining: 2 running, 0 waiting, 2 slots",
        ),
        (
            attrs.evolve(IDLE, waiting=50, active=52, upstreams=(attrs.evolve(UP, busy=2),)),
            [],
            "serving, the queue is full: 2 running, 50 waiting, 2 slots",
        ),
    ],
)
def test_the_line_says_what_an_operator_asks_first(
    now: Statistics, loaded: list[str], line: str
) -> None:
    assert status_line(now, loaded) == line
