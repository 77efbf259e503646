"""The dedicated task that drains the queue, and the lease by which a slot is held.

The worker only *grants*: it takes a ticket when a slot is free for it and keeps
its promise; the request's own task, which awaits the promise, then does all
I/O. So a client that leaves cancels its own task and nothing else, a slow
client slows its own backend, and no token crosses a queue.

Invariants: no ticket waits while a slot that could run it is free (but for the
turn of the loop in which the worker wakes); a slot is held exactly as long as
its lease block.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType

from gateway.core.clock import Clock, Timer
from gateway.core.errors import GatewayError, RequestTimeout
from gateway.core.messages import Embeddings, EmbedRequest
from gateway.core.ticket import Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.microbatch import BatchBounds, MicroBatch
from gateway.scheduling.queue import RequestQueue, Waiting
from gateway.scheduling.scheduler import Scheduler


class BatchingWorker:
    """Owns the slots: the only place that takes and releases them.

    Args:
        batch_max_size: Tickets granted in one turn of the loop, at the most, so
            that a burst never holds up the loop.
        batch_wait_s: While every slot is busy, tickets that time out within this
            of each other are dealt with in one turn. Never waited while a slot is free.
        batch_bounds: Of requests for embeddings that are computed in one call.
    """

    def __init__(
        self,
        *,
        queue: RequestQueue,
        pool: Pool,
        scheduler: Scheduler,
        clock: Clock,
        batch_max_size: int,
        batch_wait_s: float,
        batch_bounds: BatchBounds,
    ) -> None:
        self._queue = queue
        self._pool = pool
        self._scheduler = scheduler
        self._clock = clock
        self._batch_max_size = batch_max_size
        self._batch_wait_s = batch_wait_s
        self._batch_bounds = batch_bounds
        self._batches: dict[Ticket, MicroBatch] = {}
        self._running: set[MicroBatch] = set()
        self._expiry: Timer | None = None
        self._expiry_at = 0.0
        pool.listeners.append(self._review)

    def change(
        self, *, batch_max_size: int, batch_wait_s: float, batch_bounds: BatchBounds
    ) -> None:
        """As in the constructor, from the next grant on."""
        self._batch_max_size = batch_max_size
        self._batch_wait_s = batch_wait_s
        self._batch_bounds = batch_bounds

    async def run(self) -> None:
        """Grant, for ever."""
        while True:
            self._grant(await self._queue.get())
            for _ in range(self._batch_max_size - 1):
                if self._queue.empty():
                    break
                self._grant(self._queue.get_nowait())
            await asyncio.sleep(0)

    def lease(self, ticket: Ticket) -> "Lease":
        """A block that holds a slot of the upstream it yields.

        Raises, on entering:
            asyncio.QueueFull: It would have to wait, and the queue is full.
            RequestTimeout: Its deadline passed while it waited.
            ModelNotFound, UpstreamUnreachable: Nobody serves its model any more.
        """
        return Lease(self, ticket)

    def fail_waiting(self, error: GatewayError) -> None:
        """Refuse a slot to everybody who waits for one."""
        for item in self._queue.live():
            item.granted.set_exception(error)

    async def take(self, ticket: Ticket) -> Upstream:
        """A slot, now or in turn. Whoever calls this owes a `give_back`."""
        if self._clock.now() >= ticket.deadline_at:
            raise _too_late()
        # What waits and could run goes first; what waits for another model doesn't matter.
        if self._queue.empty():
            upstream = self._free_for(ticket)
            if upstream is not None:
                self._start(ticket, upstream)
                return upstream
        return await self._wait(ticket)

    def batch_of(self, ticket: Ticket) -> MicroBatch:
        """The call of which a request for embeddings is a part, once it has its lease."""
        return self._batches[ticket]

    def give_back(self, ticket: Ticket, upstream: Upstream) -> None:
        batch = self._batches.pop(ticket, None)
        if batch is None:
            self._free(ticket, upstream)
        else:
            batch.leave(ticket)

    def _free(self, ticket: Ticket, upstream: Upstream) -> None:
        upstream.release()
        self._scheduler.ended(ticket, self._clock.now())
        if self._queue.qsize():
            self._queue.slot_freed()

    def _free_for(self, ticket: Ticket) -> Upstream | None:
        scheduler = self._scheduler
        return self._pool.free_for(
            ticket.model, ticket.tried, lambda upstream: scheduler.cached_chars(upstream, ticket)
        )

    def _start(self, ticket: Ticket, upstream: Upstream, companions: Sequence[Ticket] = ()) -> None:
        upstream.take()
        if isinstance(ticket.request, EmbedRequest):
            self._begin_batch((ticket, *companions), upstream)
        else:
            self._scheduler.started(ticket, upstream, self._clock.now())

    def _begin_batch(self, tickets: Sequence[Ticket], upstream: Upstream) -> None:
        clock = self._clock

        def over(batch: MicroBatch, whole: Embeddings | None) -> None:
            self._running.discard(batch)
            try:
                if whole is not None:
                    self._scheduler.embedded(
                        batch.call, whole, sent_at=batch.sent_at, now=clock.now()
                    )
            finally:
                self._free(batch.call, upstream)

        batch = MicroBatch(tickets, now=clock.now, over=over)
        self._scheduler.started(batch.call, upstream, clock.now(), tickets)
        # Held here too, since a call may outlive all who wanted it for a moment.
        self._running.add(batch)
        self._batches.update(dict.fromkeys(tickets, batch))

    async def _wait(self, ticket: Ticket) -> Upstream:
        self._pool.require(ticket.model, ticket.tried)
        item = Waiting(ticket, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(item)
        self._scheduler.wait(ticket, self._clock.now())
        self._arm(ticket.deadline_at)
        try:
            return await item.granted
        except asyncio.CancelledError:
            granted = item.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                # The grant landed in the same turn of the loop as the
                # cancellation. The slot is ours, and ours to give back.
                self.give_back(ticket, granted.result())
            raise
        finally:
            self._queue.remove(ticket)
            self._scheduler.left(ticket, self._clock.now())

    def _grant(self, item: Waiting) -> None:
        assert not item.granted.done()
        ticket = item.ticket
        if self._scheduler.too_late(ticket, self._clock.now()):
            item.granted.set_exception(_too_late())
            return
        upstream = self._free_for(ticket)
        assert upstream is not None, "the queue chose a ticket that no free slot can run"
        others = self._companions(ticket, upstream)
        self._start(ticket, upstream, [other.ticket for other in others])
        for granted in (item, *others):
            granted.granted.set_result(upstream)

    def _companions(self, ticket: Ticket, upstream: Upstream) -> list[Waiting]:
        """Who comes along in one call of the engine; nobody, but for embeddings."""
        if not isinstance(ticket.request, EmbedRequest):
            return []
        items = {
            item.ticket: item
            for item in self._queue.live()
            if upstream.name not in item.ticket.tried
        }
        found = self._scheduler.companions(
            ticket, upstream, items, self._batch_bounds, self._clock.now()
        )
        return [items[other] for other in found]

    def _review(self) -> None:
        """Upstreams came or went: fail at once whom nobody can serve, and look for free slots."""
        for item in self._queue.live():
            try:
                self._pool.require(item.ticket.model, item.ticket.tried)
            except GatewayError as error:
                item.granted.set_exception(error)
        self._queue.slot_freed()

    def _arm(self, deadline_at: float) -> None:
        if self._expiry is None or deadline_at < self._expiry_at:
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry_at = deadline_at
            self._expiry = self._clock.call_at(deadline_at, self._expire)

    def _expire(self) -> None:
        """Fail all whose deadline has passed; look again when the next one has."""
        self._expiry = None
        now = self._clock.now()
        next_at = None
        for item in self._queue.live():
            deadline_at = item.ticket.deadline_at
            if deadline_at <= now:
                item.granted.set_exception(_too_late())
            elif next_at is None or deadline_at < next_at:
                next_at = deadline_at
        if next_at is not None:
            self._arm(max(next_at, now + self._batch_wait_s))


class Lease:
    """Holds one slot for as long as its block lasts."""

    __slots__ = ("_ticket", "_upstream", "_worker")

    def __init__(self, worker: BatchingWorker, ticket: Ticket) -> None:
        self._worker = worker
        self._ticket = ticket

    async def __aenter__(self) -> Upstream:
        self._upstream = await self._worker.take(self._ticket)
        return self._upstream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.give_back(self._ticket, self._upstream)


def _too_late() -> RequestTimeout:
    return RequestTimeout("The request waited for its turn until its time was over.")
