import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.pool.upstream import Upstream
from gateway.scheduling.queue import RequestQueue
from gateway.scheduling.worker import BatchingWorker
from tests.fakes import ManualClock
from tests.waist import waist

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
        made = waist(upstreams, clock, bound=bound, batch_max_size=batch_max_size)
        tasks.append(asyncio.create_task(made.worker.run()))
        return made.worker, made.queue

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
