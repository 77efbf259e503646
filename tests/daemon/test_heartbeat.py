"""The pulse of the loop: what it feeds, and what it sees."""

import asyncio
import logging

import pytest

from gateway.daemon.heartbeat import BEAT_S, STALL_S, Heartbeat
from gateway.daemon.notify import Notify
from tests.fakes import ManualClock


class Fed(Notify):
    """A service manager that counts what it is fed, and when."""

    def __init__(self, clock: ManualClock, watchdog_s: float | None) -> None:
        super().__init__(watchdog_s=watchdog_s)
        self._clock = clock
        self.at: list[float] = []

    def alive(self) -> None:
        self.at.append(self._clock.now())


async def beating(
    clock: ManualClock, watchdog_s: float | None
) -> tuple[Fed, list[float], "asyncio.Task[None]"]:
    fed, lags = Fed(clock, watchdog_s), list[float]()
    heartbeat = Heartbeat(clock=clock, notify=fed, lagged=lags.append)
    return fed, lags, asyncio.create_task(heartbeat.run())


@pytest.mark.parametrize("watchdog_s", [0.2, 1.0, 3.0, 30.0])
async def test_the_watchdog_is_fed_at_least_twice_in_its_period(watchdog_s: float) -> None:
    clock = ManualClock()
    fed, _, task = await beating(clock, watchdog_s)
    await clock.advance(10 * watchdog_s)
    task.cancel()
    gaps = [later - sooner for sooner, later in zip(fed.at, fed.at[1:], strict=False)]
    assert max(gaps) <= watchdog_s / 2
    assert fed.at[0] == 0.0
    assert fed.at[-1] >= 9.5 * watchdog_s
    # Nor is it drowned.
    assert min(gaps) >= watchdog_s / 6


async def test_without_a_watchdog_nothing_is_fed_and_lag_is_still_seen() -> None:
    clock = ManualClock()
    fed, lags, task = await beating(clock, None)
    await clock.advance(1.0)
    task.cancel()
    assert fed.at == []
    assert lags == [0.0] * round(1.0 / BEAT_S)


class HeldLoop(ManualClock):
    """A clock on which the loop is held: whoever sleeps wakes late."""

    def __init__(self) -> None:
        super().__init__()
        self.held_s = 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self._now += self.held_s
        self.held_s = 0.0


@pytest.mark.parametrize("held_s", [0.3, STALL_S, STALL_S + 0.5])
async def test_a_loop_that_was_held_is_seen_and_a_stall_is_told(
    held_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HeldLoop()
    _, lags, task = await beating(clock, 30.0)
    await clock.advance(BEAT_S / 2)
    clock.held_s = held_s
    with caplog.at_level(logging.WARNING):
        await clock.advance(BEAT_S)
    task.cancel()
    assert lags[0] == pytest.approx(held_s)
    told = [record for record in caplog.records if getattr(record, "event", "") == "loop_stall"]
    assert len(told) == (held_s > STALL_S)
    if told:
        assert getattr(told[0], "seconds", None) == pytest.approx(held_s)


async def test_while_the_loop_is_held_nothing_is_fed() -> None:
    """The beat is a timer of the loop itself, on the real clock: no thread beats for it."""
    clock = HeldLoop()
    fed, _, task = await beating(clock, 3.0)
    await clock.advance(0.1)
    before = list(fed.at)
    # Nobody turns the loop, however long that takes.
    clock._now += 60.0
    assert fed.at == before
    await clock.advance(BEAT_S)
    task.cancel()
    assert len(fed.at) == len(before) + 1
