import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.backends.base import Probe
from gateway.core.errors import ModelNotFound, RequestTimeout, ShuttingDown, UpstreamUnreachable
from gateway.scheduling.queue import RequestQueue
from tests.engines import ScriptedEngine, settle, ticket, upstream
from tests.fakes import ManualClock
from tests.scheduling.conftest import MakeWorker
from tests.scheduling.holder import Holder


async def test_an_idle_slot_is_leased_at_once_without_the_worker(make_worker: MakeWorker) -> None:
    one = upstream(slots=1)
    worker, queue = make_worker(one)
    async with worker.lease(ticket()) as leased:
        assert leased is one
        assert one.in_flight == 1
        assert queue.qsize() == 0
    assert one.in_flight == 0


async def test_slots_are_granted_in_the_order_of_arrival(make_worker: MakeWorker) -> None:
    worker, _ = make_worker(upstream(slots=1))
    first = Holder(worker, ticket(1))
    await first.entered.wait()
    others = [Holder(worker, ticket(number)) for number in (2, 3, 4)]
    await settle()
    served = [first]
    for expected in others:
        served[-1].let_go()
        await expected.entered.wait()
        assert [holder.holds for holder in others].count(True) == 1
        served.append(expected)
    served[-1].let_go()
    await asyncio.gather(*(holder.task for holder in served))


async def test_a_newcomer_does_not_overtake_those_who_wait(make_worker: MakeWorker) -> None:
    one = upstream(slots=1)
    worker, _ = make_worker(one)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    holder.let_go()
    # The slot is free for an instant before the worker wakes: this one arrives in it.
    while one.in_flight:  # noqa: ASYNC110 - a turn of the loop is what matters
        await asyncio.sleep(0)
    newcomer = Holder(worker, ticket(3))
    await waiter.entered.wait()
    assert not newcomer.holds
    waiter.let_go()
    await newcomer.entered.wait()
    newcomer.let_go()
    await newcomer.task


async def test_a_burst_takes_every_free_slot_and_no_more(make_worker: MakeWorker) -> None:
    one = upstream(slots=20)
    worker, queue = make_worker(one, batch_max_size=3)
    first = [Holder(worker, ticket(number)) for number in range(20)]
    holders = [Holder(worker, ticket(number)) for number in range(20, 45)]
    await settle()
    assert queue.qsize() == 25
    for holder in first:
        holder.let_go()
    await settle(60)
    assert [holder.holds for holder in holders] == [True] * 20 + [False] * 5
    for holder in holders:
        holder.let_go()
    await asyncio.gather(*(holder.task for holder in holders))
    assert one.in_flight == 0


async def grant_then_cancel(queue: RequestQueue, holder: Holder, waiter: Holder) -> None:
    holder.let_go()
    while queue.qsize():  # noqa: ASYNC110 - a turn of the loop is what matters
        await asyncio.sleep(0)
    # The worker has granted; the waiter's task runs in the next turn only.
    assert not waiter.entered.is_set()
    waiter.task.cancel()


async def cancel_then_grant(queue: RequestQueue, holder: Holder, waiter: Holder) -> None:
    waiter.task.cancel()
    holder.let_go()


async def cancel_settle_grant(queue: RequestQueue, holder: Holder, waiter: Holder) -> None:
    waiter.task.cancel()
    await settle()
    holder.let_go()


Race = Callable[[RequestQueue, Holder, Holder], Awaitable[None]]


@pytest.mark.parametrize("race", [grant_then_cancel, cancel_then_grant, cancel_settle_grant])
async def test_a_cancelled_waiter_never_keeps_a_slot(make_worker: MakeWorker, race: Race) -> None:
    one = upstream(slots=1)
    worker, queue = make_worker(one)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    await race(queue, holder, waiter)
    await asyncio.gather(holder.task, waiter.task, return_exceptions=True)
    await settle()
    assert waiter.task.cancelled()
    assert one.in_flight == 0
    assert queue.qsize() == 0


async def test_a_cancelled_waiters_slot_goes_to_the_next(make_worker: MakeWorker) -> None:
    worker, _ = make_worker(upstream(slots=1))
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    leaver, stayer = Holder(worker, ticket(2)), Holder(worker, ticket(3))
    await settle()
    leaver.task.cancel()
    holder.let_go()
    await stayer.entered.wait()
    stayer.let_go()
    await stayer.task


async def test_a_ticket_past_its_deadline_never_starts(
    make_worker: MakeWorker, clock: ManualClock
) -> None:
    worker, queue = make_worker(upstream(slots=1))
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2, deadline_at=30.0))
    patient = Holder(worker, ticket(3, deadline_at=90.0))
    await settle()
    await clock.advance(31.0)
    with pytest.raises(RequestTimeout):
        await waiter.task
    assert not patient.task.done()
    assert queue.qsize() == 1
    await clock.advance(60.0)
    with pytest.raises(RequestTimeout):
        await patient.task
    holder.let_go()
    await holder.task


async def test_one_that_arrives_too_late_gets_no_slot_even_if_one_is_free(
    make_worker: MakeWorker, clock: ManualClock
) -> None:
    one = upstream()
    worker, _ = make_worker(one)
    await clock.advance(61.0)
    with pytest.raises(RequestTimeout):
        await worker.lease(ticket(1, deadline_at=60.0)).__aenter__()
    assert one.in_flight == 0


async def test_a_full_queue_refuses(make_worker: MakeWorker) -> None:
    worker, _ = make_worker(upstream(slots=1), bound=1)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    with pytest.raises(asyncio.QueueFull):
        await worker.lease(ticket(3)).__aenter__()
    holder.let_go()
    await waiter.entered.wait()
    waiter.let_go()
    await waiter.task


async def test_when_the_last_upstream_goes_down_those_who_wait_fail_now(
    make_worker: MakeWorker,
) -> None:
    one = upstream(slots=1)
    worker, queue = make_worker(one)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    one.breaker.probed(False, 0.0)
    worker._pool.changed()
    with pytest.raises(UpstreamUnreachable):
        await waiter.task
    assert queue.qsize() == 0
    holder.let_go()
    await holder.task


async def test_when_its_model_is_removed_a_waiting_ticket_fails_now(
    make_worker: MakeWorker,
) -> None:
    one = upstream(slots=1)
    worker, _ = make_worker(one)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    one.found(Probe(models=()))
    worker._pool.changed()
    with pytest.raises(ModelNotFound):
        await waiter.task
    holder.let_go()
    await holder.task


async def test_an_upstream_that_comes_up_is_used_by_those_who_wait(
    make_worker: MakeWorker,
) -> None:
    busy, late = upstream("busy", slots=1), upstream("late", slots=1, engine=ScriptedEngine())
    late.breaker.probed(False, 0.0)
    worker, _ = make_worker(busy, late)
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiter = Holder(worker, ticket(2))
    await settle()
    late.breaker.may_probe(2.0)
    late.breaker.probed(True, 2.0)
    worker._pool.changed()
    await waiter.entered.wait()
    assert waiter.upstream is late
    for each in (holder, waiter):
        each.let_go()
        await each.task


async def test_all_who_wait_can_be_failed_together(make_worker: MakeWorker) -> None:
    worker, queue = make_worker(upstream(slots=1))
    holder = Holder(worker, ticket(1))
    await holder.entered.wait()
    waiters = [Holder(worker, ticket(number)) for number in (2, 3)]
    await settle()
    worker.fail_waiting(ShuttingDown("bye"))
    for waiter in waiters:
        with pytest.raises(ShuttingDown):
            await waiter.task
    assert queue.qsize() == 0
    holder.let_go()
    await holder.task
