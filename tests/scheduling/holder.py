"""A task that holds, or waits for, one lease."""

import asyncio

from gateway.core.ticket import Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.worker import BatchingWorker


class Holder:
    """Asks for a lease in a task of its own, and holds it until it is told to let go."""

    def __init__(self, worker: BatchingWorker, ticket: Ticket) -> None:
        self.ticket = ticket
        self.upstream: Upstream | None = None
        self.entered = asyncio.Event()
        self._let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(worker))

    async def _hold(self, worker: BatchingWorker) -> None:
        async with worker.lease(self.ticket) as self.upstream:
            self.entered.set()
            await self._let_go.wait()

    def let_go(self) -> None:
        self._let_go.set()

    @property
    def holds(self) -> bool:
        return self.entered.is_set() and not self.task.done()
