import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.pool.upstream import Upstream
from gateway.scheduling.policy import FirstComeFirstServed
from gateway.scheduling.queue import RequestQueue
from gateway.scheduling.worker import BatchingWorker
from tests.engines import pool_of
from tests.fakes import ManualClock

MakeWorker = Callable[..., tuple[BatchingWorker, RequestQueue]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make_worker(clock: ManualClock) -> AsyncIterator[MakeWorker]:
    """A running worker over these upstreams, and its queue."""
    tasks: list[asyncio.Task[None]] = []

    def make(
        *upstreams: Upstream, bound: int = 50, batch_max_size: int = 8
    ) -> tuple[BatchingWorker, RequestQueue]:
        pool = pool_of(*upstreams)
        queue = RequestQueue(bound=bound, policy=FirstComeFirstServed(), pool=pool)
        worker = BatchingWorker(
            queue=queue, pool=pool, clock=clock, batch_max_size=batch_max_size, batch_wait_s=0.1
        )
        tasks.append(asyncio.create_task(worker.run()))
        return worker, queue

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
