import asyncio
import time

import pytest

from gateway.core.clock import LoopClock
from tests.fakes import ManualClock


async def test_the_loops_clock_is_the_loops_time() -> None:
    clock = LoopClock()
    assert clock.now() == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)
    assert clock.wall() == pytest.approx(time.time(), abs=5.0)


async def test_a_timeout_ends_what_waits_inside() -> None:
    clock = LoopClock()
    with pytest.raises(TimeoutError):
        async with clock.timeout_at(clock.now()):
            await asyncio.Event().wait()


async def test_a_call_that_is_cancelled_does_not_happen() -> None:
    clock = LoopClock()
    called = asyncio.Event()
    clock.call_at(clock.now(), lambda: pytest.fail("cancelled")).cancel()
    clock.call_at(clock.now(), called.set)
    await called.wait()


async def test_the_manual_clock_fires_in_order_and_only_what_is_due() -> None:
    clock = ManualClock()
    fired: list[int] = []
    clock.call_at(2.0, lambda: fired.append(2))
    clock.call_at(1.0, lambda: fired.append(1))
    clock.call_at(9.0, lambda: fired.append(9))
    sleeping = asyncio.create_task(clock.sleep(1.5))
    await clock.advance(3.0)
    assert fired == [1, 2]
    assert sleeping.done()
    assert clock.now() == 3.0


async def test_the_manual_clocks_timeouts_can_be_moved() -> None:
    clock = ManualClock()

    async def wait() -> None:
        async with clock.timeout_at(1.0) as timer:
            timer.reschedule(10.0)
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await clock.advance(5.0)
    assert not waiting.done()
    await clock.advance(6.0)
    with pytest.raises(TimeoutError):
        await waiting


async def test_a_timeout_that_is_moved_away_does_not_fire_at_its_old_moment() -> None:
    clock = LoopClock()
    async with clock.timeout_at(clock.now()) as timer:
        timer.reschedule(clock.now() + 60.0)
        await asyncio.sleep(0.01)
    assert not timer.expired()


async def test_a_timeout_that_is_moved_nearer_fires_then() -> None:
    clock = LoopClock()

    async def wait() -> None:
        async with clock.timeout_at(clock.now() + 60.0) as timer:
            timer.reschedule(clock.now())
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()


async def test_a_timeout_that_was_switched_off_never_fires() -> None:
    clock = LoopClock()
    async with clock.timeout_at(clock.now()) as timer:
        timer.reschedule(None)
        await asyncio.sleep(0.01)


async def test_a_cancellation_from_elsewhere_is_not_taken_for_a_timeout() -> None:
    clock = LoopClock()

    async def wait() -> None:
        async with clock.timeout_at(clock.now() + 60.0):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancellation_from_elsewhere_beside_a_timeout_goes_first() -> None:
    clock = LoopClock()
    entered = asyncio.Event()

    async def wait() -> None:
        async with clock.timeout_at(clock.now() + 0.001):
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                raise

    waiting = asyncio.create_task(wait())
    await entered.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_error_inside_passes_a_timeout() -> None:
    clock = LoopClock()
    with pytest.raises(ZeroDivisionError):
        async with clock.timeout_at(clock.now() + 60.0):
            raise ZeroDivisionError
