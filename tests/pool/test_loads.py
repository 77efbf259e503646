import asyncio
import gc
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import UpstreamDisconnected, UpstreamFailed
from gateway.pool.loads import Loads
from gateway.pool.upstream import Upstream
from tests.engines import ScriptedEngine, settle, upstream
from tests.fakes import ManualClock

BROKEN = UpstreamFailed("x")


class Ward:
    """Two upstreams that hold nothing yet, and the loads of both."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[tuple[str, str, float]] = []
        self.loads = Loads(clock=self.clock, loaded=self._loaded)
        self.engine, self.one = self._empty("one")
        self.other_engine, self.other = self._empty("other")

    def gate(self, engine: ScriptedEngine | None = None) -> asyncio.Event:
        """The next load lasts until this is set."""
        gate = asyncio.Event()
        (engine or self.engine).load_steps.append(gate)
        return gate

    def waiter(self, model: str = "a", upstream: Upstream | None = None) -> asyncio.Task[float]:
        return asyncio.create_task(self.loads.ensure(upstream or self.one, model))

    def _loaded(self, upstream: Upstream, model: str, seconds: float) -> None:
        self.told.append((upstream.name, model, seconds))

    def _empty(self, name: str) -> tuple[ScriptedEngine, Upstream]:
        engine = ScriptedEngine(models=["a", "b"])
        engine.resident = set()
        return engine, upstream(name, engine=engine)


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    ward = Ward()
    yield ward
    await ward.loads.close()


async def test_what_is_in_memory_is_not_waited_for(ward: Ward) -> None:
    ward.one.ran("a", None)
    assert await ward.loads.ensure(ward.one, "a") == 0.0
    assert ward.engine.loads == []


async def test_a_load_is_waited_for_and_told_of(ward: Ward) -> None:
    gate = ward.gate()
    waiter = ward.waiter()
    await ward.clock.advance(7.0)
    assert ward.loads.loading(ward.one) == "a"
    gate.set()
    assert await waiter == 7.0
    assert ward.loads.loading(ward.one) is None
    assert ward.one.holds("a")
    assert ward.told == [("one", "a", 7.0)]


async def test_a_model_that_was_there_after_all_is_no_load(ward: Ward) -> None:
    ward.one.ran("b", None)
    assert await ward.loads.ensure(ward.one, "a") == 0.0
    assert ward.told == []
    assert ward.one.holds("a")
    assert ward.one.holds("b")


async def test_all_who_want_a_model_share_one_load(ward: Ward) -> None:
    gate = ward.gate()
    waiters = [ward.waiter() for _ in range(5)]
    await ward.clock.advance(2.0)
    waiters.append(ward.waiter())
    await ward.clock.advance(1.0)
    gate.set()
    assert await asyncio.gather(*waiters) == [3.0] * 5 + [1.0]
    assert ward.engine.loads == ["a"]
    assert len(ward.told) == 1


async def test_whoever_leaves_does_not_end_the_load(ward: Ward) -> None:
    gate = ward.gate()
    first, second = ward.waiter(), ward.waiter()
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    gate.set()
    await second
    assert ward.engine.loads_broken_off == 0


async def test_a_load_that_all_have_left_is_finished(ward: Ward) -> None:
    gate = ward.gate()
    waiter = ward.waiter()
    await ward.clock.advance(3.0)
    waiter.cancel()
    await settle()
    gate.set()
    await settle()
    assert ward.told == [("one", "a", 3.0)]
    assert await ward.loads.ensure(ward.one, "a") == 0.0


async def test_who_leaves_in_the_turn_in_which_the_load_ends_has_left(ward: Ward) -> None:
    gate = ward.gate()
    waiter = ward.waiter()
    await settle()
    gate.set()
    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    assert ward.one.holds("a")


async def test_loads_of_one_upstream_go_one_after_the_other(ward: Ward) -> None:
    gates = [ward.gate(), ward.gate()]
    a, b = ward.waiter("a"), ward.waiter("b")
    await settle()
    assert ward.engine.loads == ["a"]
    gates[0].set()
    await a
    await settle()
    assert ward.engine.loads == ["a", "b"]
    assert ward.loads.loading(ward.one) == "b"
    gates[1].set()
    await b


async def test_loads_of_two_upstreams_go_side_by_side(ward: Ward) -> None:
    gates = [ward.gate(), ward.gate(ward.other_engine)]
    waiters = [ward.waiter(), ward.waiter(upstream=ward.other)]
    await settle()
    assert ward.loads.loading(ward.one) == ward.loads.loading(ward.other) == "a"
    for gate in gates:
        gate.set()
    await asyncio.gather(*waiters)


async def test_a_real_load_counts_the_others_as_gone(ward: Ward) -> None:
    ward.one.ran("b", None)
    gate = ward.gate()
    waiter = ward.waiter("a")
    await ward.clock.advance(5.0)
    gate.set()
    await waiter
    assert not ward.one.holds("b")


async def test_a_failure_is_told_to_all_who_waited_and_to_nobody_after(ward: Ward) -> None:
    ward.engine.load_steps = [BROKEN]
    waiters = [ward.waiter() for _ in range(3)]
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert results == [BROKEN] * 3
    assert await ward.loads.ensure(ward.one, "a") == 0.0
    assert ward.engine.loads == ["a", "a"]


async def test_a_failed_load_lets_the_next_one_go(ward: Ward) -> None:
    ward.engine.load_steps = [BROKEN]
    a, b = ward.waiter("a"), ward.waiter("b")
    await asyncio.gather(a, b, return_exceptions=True)
    assert a.exception() is BROKEN
    assert b.result() == 0.0
    assert ward.loads.loading(ward.one) is None


@pytest.mark.parametrize("error", [BROKEN, RuntimeError("a fault of ours")])
async def test_a_failure_that_nobody_heard_is_in_the_log_once(
    ward: Ward, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    ward.engine.load_steps = [gate]
    blocker = ward.waiter("b")
    await settle()
    ward.engine.load_steps = [error]
    waiter = ward.waiter("a")
    await settle()
    waiter.cancel()
    with caplog.at_level(logging.WARNING):
        gate.set()
        await blocker
        await settle()
        gc.collect()
    (record,) = caplog.records
    assert record.getMessage().startswith("one could not load a")


async def test_closing_breaks_off_what_runs_and_tells_who_waits(ward: Ward) -> None:
    ward.gate()
    running, queued = ward.waiter("a"), ward.waiter("b")
    await settle()
    await ward.loads.close()
    for waiter in (running, queued):
        with pytest.raises(UpstreamDisconnected):
            await waiter
    assert ward.engine.loads_broken_off == 1
    with pytest.raises(UpstreamDisconnected):
        await ward.loads.ensure(ward.one, "a")
    await ward.loads.close()


async def test_closing_before_a_load_has_begun_leaves_nobody_waiting(ward: Ward) -> None:
    waiter = ward.waiter()
    await asyncio.sleep(0)
    await ward.loads.close()
    with pytest.raises(UpstreamDisconnected):
        await waiter
    assert ward.engine.loads == []


async def test_one_that_takes_the_place_of_another_has_loads_of_its_own(ward: Ward) -> None:
    gate = ward.gate()
    old = ward.waiter()
    await settle()
    engine = ScriptedEngine(models=["a"])
    engine.resident = set()
    successor = upstream("one", engine=engine)
    assert ward.loads.loading(ward.one) == "a"
    assert ward.loads.loading(successor) is None
    await ward.waiter(upstream=successor)
    assert engine.loads == ["a"]
    assert not old.done()
    gate.set()
    await old
    assert ward.engine.loads == ["a"]
