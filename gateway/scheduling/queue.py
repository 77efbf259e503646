"""The bounded queue of tickets that wait for a slot.

An `asyncio.Queue` as `asyncio.PriorityQueue` is one, with one more twist: it
counts as *empty* while no slot is free for any ticket in it. So `await get()`
returns exactly when there is something to grant, and which ticket that is is
decided at the last moment, by the scheduler.
"""

import asyncio
from collections.abc import Callable, Iterator

import attrs

from gateway.core.ticket import Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.scheduler import Scheduler


@attrs.define(eq=False)
class Waiting:
    """A ticket in the queue, and the promise its task waits on."""

    ticket: Ticket
    granted: asyncio.Future[Upstream]


class RequestQueue(asyncio.Queue[Waiting]):
    """Never takes one beyond `bound`, which a reload may change; owns which tickets wait.

    A ticket whose promise is already done (its caller left a moment ago) still
    stands in the queue until its own task takes it out, but is never chosen.
    """

    def __init__(
        self, *, bound: int, scheduler: Scheduler, pool: Pool, now: Callable[[], float]
    ) -> None:
        super().__init__()
        self.bound = bound
        self._scheduler = scheduler
        self._pool = pool
        self._now = now
        self._chosen: Waiting | None = None

    def _init(self, maxsize: int) -> None:
        self._waiting: dict[Ticket, Waiting] = {}

    def _put(self, item: Waiting) -> None:
        assert item.ticket not in self._waiting
        self._chosen = None
        self._waiting[item.ticket] = item

    def _get(self) -> Waiting:
        chosen, self._chosen = self._chosen, None
        assert chosen is not None
        return self._waiting.pop(chosen.ticket)

    def get_nowait(self) -> Waiting:
        """What `empty` has just found, else what it finds now. Raises asyncio.QueueEmpty."""
        if self._chosen is None and self.empty():
            raise asyncio.QueueEmpty
        return self._get()

    def qsize(self) -> int:
        return len(self._waiting)

    def full(self) -> bool:
        return len(self._waiting) >= self.bound

    def empty(self) -> bool:
        """Whether there is nothing that could be granted now."""
        self._chosen = self._choose() if self._waiting else None
        return self._chosen is None

    def remove(self, ticket: Ticket) -> None:
        """Take out a ticket that no longer wants a slot; nothing happens if it isn't there."""
        self._chosen = None
        self._waiting.pop(ticket, None)

    def slot_freed(self) -> None:
        """Wake the worker: what counted as empty may not be so any more."""
        self._chosen = None
        # The method by which asyncio.Queue's own put wakes a getter.
        self._wakeup_next(self._getters)  # type: ignore[attr-defined]

    def live(self) -> Iterator[Waiting]:
        """Those whose promise is still open; the queue may be changed meanwhile."""
        return iter([item for item in self._waiting.values() if not item.granted.done()])

    def _choose(self) -> Waiting | None:
        if not self._pool.any_free:
            return None
        runnable = self._runnable()
        tickets = [
            item.ticket
            for item in self._waiting.values()
            if not item.granted.done() and runnable(item.ticket)
        ]
        if not tickets:
            return None
        return self._waiting[self._scheduler.choose(tickets, self._now())]

    def _runnable(self) -> Callable[[Ticket], bool]:
        """Whether a slot is free for a ticket, looked up once for each model."""
        known: dict[str, bool] = {}

        def runnable(ticket: Ticket) -> bool:
            if ticket.tried:
                return self._pool.free_for(ticket.model, ticket.tried) is not None
            free = known.get(ticket.model)
            if free is None:
                free = known[ticket.model] = self._pool.free_for(ticket.model) is not None
            return free

        return runnable
