import asyncio

import pytest

from gateway.admission.admission import Admission
from gateway.config.schema import Queue, Timeouts
from gateway.core.errors import ModelNotFound, QueueFull, ShuttingDown, UpstreamUnreachable
from gateway.core.ticket import ANONYMOUS, Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import ServiceTime
from gateway.scheduling.policy import FirstComeFirstServed
from gateway.scheduling.queue import RequestQueue, Waiting
from tests.engines import pool_of, request, ticket, upstream


class Door:
    """An admission over some upstreams."""

    def __init__(self, *upstreams: Upstream, bound: int = 2) -> None:
        pool = pool_of(*upstreams)
        self.queue = RequestQueue(bound=bound, policy=FirstComeFirstServed(), pool=pool)
        self.admission = Admission(
            pool=pool,
            queue=self.queue,
            service_time=ServiceTime(mean_s=10.0),
            settings=Queue(max_queue_size=bound, retry_after_max_seconds=15.0),
            timeouts=Timeouts(request_timeout_seconds=60.0),
            strict_params=False,
        )

    def knock(self, model: str = "m") -> Ticket:
        return self.admission.admit(
            request(model), caller=ANONYMOUS, request_id="r", ignored=(), now=100.0
        )

    def fill(self) -> None:
        for number in range(self.queue.bound):
            future = asyncio.get_running_loop().create_future()
            self.queue.put_nowait(Waiting(ticket(number), future))


async def test_a_ticket_has_its_deadline_and_its_place_in_the_order() -> None:
    door = Door(upstream())
    first, second = door.knock(), door.knock()
    assert first.deadline_at == 160.0
    assert first.number < second.number


async def test_a_full_queue_refuses_and_the_time_to_come_back_is_bounded() -> None:
    one = upstream(slots=1)
    one.take()
    door = Door(one)
    door.fill()
    with pytest.raises(QueueFull) as caught:
        door.knock()
    assert caught.value.retry_after_s == 15.0


async def test_a_full_queue_of_one_model_does_not_refuse_a_free_slot_of_another() -> None:
    one = upstream("one", slots=1)
    one.take()
    other = upstream("other", slots=1)
    other.models = {"else": next(iter((other.models or {}).values()))}
    door = Door(one, other)
    door.fill()
    door.knock("else")


async def test_while_draining_everybody_is_refused() -> None:
    door = Door(upstream())
    door.admission.draining = True
    with pytest.raises(ShuttingDown) as caught:
        door.knock()
    assert caught.value.retry_after_s is not None


async def test_a_model_nobody_has_is_refused() -> None:
    with pytest.raises(ModelNotFound):
        Door(upstream()).knock("x")


async def test_a_model_whose_upstream_is_down_is_refused() -> None:
    with pytest.raises(UpstreamUnreachable):
        Door(upstream(up=False)).knock()
