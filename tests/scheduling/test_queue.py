import asyncio

import pytest

from gateway.pool.upstream import Upstream
from gateway.scheduling.queue import RequestQueue, Waiting
from tests.engines import ScriptedEngine, settle, ticket, upstream
from tests.fakes import ManualClock
from tests.waist import waist


def queue_of(*upstreams: Upstream, bound: int) -> RequestQueue:
    return waist(upstreams, ManualClock(), bound=bound).queue


def waiting(number: int, model: str = "m") -> Waiting:
    return Waiting(ticket(number, model=model), asyncio.get_running_loop().create_future())


async def test_it_is_empty_while_no_slot_is_free_for_what_it_holds() -> None:
    one = upstream(slots=1)
    queue = queue_of(one, bound=5)
    one.take()
    queue.put_nowait(waiting(1))
    assert queue.qsize() == 1
    assert queue.empty()
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()
    one.release()
    assert not queue.empty()
    assert queue.get_nowait().ticket.number == 1


async def test_get_waits_for_a_slot_and_not_only_for_a_ticket() -> None:
    one = upstream(slots=1)
    queue = queue_of(one, bound=5)
    one.take()
    getting = asyncio.create_task(queue.get())
    queue.put_nowait(waiting(1))
    await settle()
    assert not getting.done()
    one.release()
    queue.slot_freed()
    assert (await getting).ticket.number == 1


async def test_it_never_holds_more_than_its_bound() -> None:
    queue = queue_of(upstream(), bound=2)
    queue.put_nowait(waiting(1))
    queue.put_nowait(waiting(2))
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(waiting(3))


async def test_a_bound_of_nothing_lets_nobody_wait() -> None:
    queue = queue_of(upstream(), bound=0)
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(waiting(1))


async def test_a_ticket_of_a_busy_model_does_not_hold_up_another_model() -> None:
    busy = upstream("busy", engine=ScriptedEngine(models=["a"]))
    idle = upstream("idle", engine=ScriptedEngine(models=["b"]))
    busy.take()
    queue = queue_of(busy, idle, bound=5)
    queue.put_nowait(waiting(1, "a"))
    queue.put_nowait(waiting(2, "b"))
    assert queue.get_nowait().ticket.number == 2
    assert queue.empty()
    assert [item.ticket.model for item in queue.live()] == ["a"]


async def test_one_whose_caller_has_left_is_never_chosen() -> None:
    queue = queue_of(upstream(), bound=5)
    gone = waiting(1)
    queue.put_nowait(gone)
    gone.granted.cancel()
    assert queue.empty()
    queue.remove(gone.ticket)
    assert queue.qsize() == 0
