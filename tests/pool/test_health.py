import asyncio

import pytest

from gateway.backends.base import Probe
from gateway.core.errors import RequestTimeout, UpstreamUnreachable
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from tests.engines import ScriptedEngine, pool_of, upstream
from tests.fakes import ManualClock

DOWN = UpstreamUnreachable("x")


class Ward:
    """One upstream that was never reached, and the monitor that watches it."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine()
        self.upstream: Upstream = upstream(engine=self.engine, up=False)
        self.pool: Pool = pool_of(self.upstream)
        self.changes = 0
        self.pool.listeners.append(self._count)
        self.clock = ManualClock()
        self.monitor = HealthMonitor(pool=self.pool, clock=self.clock)

    def is_up(self) -> bool:
        return self.upstream.up

    def _count(self) -> None:
        self.changes += 1


async def test_a_first_sign_of_life_brings_an_upstream_up_and_is_told() -> None:
    ward = Ward()
    await ward.monitor.check(ward.upstream)
    assert ward.is_up()
    assert ward.changes == 1
    await ward.monitor.check(ward.upstream)
    assert ward.changes == 1


async def test_one_that_goes_away_is_down_and_comes_back_within_two_seconds() -> None:
    ward = Ward()
    watching = asyncio.create_task(ward.monitor.run())
    await ward.clock.advance(0.0)
    ward.engine.alive = DOWN
    await ward.clock.advance(11.0)
    assert not ward.is_up()
    ward.engine.alive = None
    await ward.clock.advance(2.0)
    assert ward.is_up()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_one_that_requests_found_gone_is_asked_soon_and_not_after_the_long_interval() -> None:
    ward = Ward()
    watching = asyncio.create_task(ward.monitor.run())
    await ward.clock.advance(1.0)
    for _ in range(5):
        ward.upstream.breaker.failed(ward.clock.now())
    assert not ward.is_up()
    await ward.clock.advance(2.0)
    assert ward.is_up()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_one_that_a_single_request_found_gone_is_known_to_be_down_within_a_second() -> None:
    ward = Ward()
    watching = asyncio.create_task(ward.monitor.run())
    await ward.clock.advance(1.0)
    ward.engine.alive = DOWN
    ward.upstream.breaker.failed(ward.clock.now())
    assert ward.is_up()
    await ward.clock.advance(1.0)
    assert not ward.is_up()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_slow_probe_says_nothing_while_the_engine_works_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ward = Ward()
    await ward.monitor.check(ward.upstream)

    async def slow() -> Probe:
        raise RequestTimeout("x")

    monkeypatch.setattr(ward.engine, "probe", slow)
    ward.upstream.take()
    await ward.monitor.check(ward.upstream)
    assert ward.is_up()
    ward.upstream.release()
    await ward.monitor.check(ward.upstream)
    assert not ward.is_up()


async def test_a_model_installed_just_now_is_found_by_a_refresh_at_most_once_a_second() -> None:
    ward = Ward()
    await ward.monitor.check(ward.upstream)
    await ward.monitor.refresh()
    ward.engine.models.append("new")
    await ward.monitor.refresh()
    assert not ward.upstream.serves("new")
    await ward.clock.advance(1.5)
    await ward.monitor.refresh()
    assert ward.upstream.serves("new")


@pytest.mark.parametrize("alive", [None, DOWN])
async def test_two_looks_at_once_are_no_contradiction(alive: UpstreamUnreachable | None) -> None:
    ward = Ward()
    ward.engine.alive = DOWN
    await ward.monitor.check(ward.upstream)
    await ward.clock.advance(2.0)
    ward.engine.alive = alive
    await asyncio.gather(*(ward.monitor.check(ward.upstream) for _ in range(2)))
    assert ward.is_up() == (alive is None)


async def test_one_that_joins_is_watched_and_one_that_is_gone_is_asked_no_more() -> None:
    ward = Ward()
    watching = asyncio.create_task(ward.monitor.run())
    await ward.clock.advance(1.0)
    engine = ScriptedEngine()
    newcomer = upstream("new", engine=engine, up=False)
    ward.pool.change([newcomer], ward.pool.catalogue)
    await ward.clock.advance(0.0)
    seen = [newcomer.up]
    ward.engine.alive = engine.alive = DOWN
    await ward.clock.advance(30.0)
    seen.append(newcomer.up)
    assert ward.is_up(), "nobody has asked it"
    engine.alive = None
    await ward.clock.advance(2.0)
    seen.append(newcomer.up)
    assert seen == [True, False, True]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
