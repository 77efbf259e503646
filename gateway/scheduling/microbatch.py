"""Requests for embeddings that are computed together, in one call of the engine.

An engine that computes a batch at once takes hardly longer for thirty short
texts than for one. So when a slot is free for a request for embeddings, those
that wait for the same model, with the same options, come along: the call holds
one slot, and what it gives is cut apart again. Nobody waits for a batch to fill:
it is made of what had to wait anyway.

The slot belongs to the call, and not to one of those who share it: any of them
may leave, and the call ends early only when all have.
"""

import asyncio
import copy
from collections.abc import Callable, Iterable, Sequence

import attrs

from gateway.backends.base import InferenceBackend
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    UpstreamBadResponse,
)
from gateway.core.messages import Embeddings, EmbedRequest, Event, Finished, FinishReason, Usage
from gateway.core.ticket import Ticket

_ITS_OWN_FAULT = (ContextLengthExceeded, InvalidRequest, BackendRefusedRequest)
"""What is wrong with one input; an engine then refuses all that came with it."""


@attrs.frozen
class BatchBounds:
    """How much goes into one call. An engine answers only when it has computed all of it."""

    items_max: int
    chars_max: int


def companions(
    first: Ticket, waiting: Iterable[Ticket], bounds: BatchBounds, now: float
) -> list[Ticket]:
    """Those who come along in the call of the one whose turn it is, in their own order.

    All of them get their answer when the last one is computed, so they come along
    only as long as that is in time for each. Pure.
    """
    request = first.request
    if not isinstance(request, EmbedRequest):
        return []
    items, chars = len(request.inputs), first.prompt_chars
    work_s, due_at = first.cost.service_s, first.due_at
    found: list[Ticket] = []
    for ticket in waiting:
        other = ticket.request
        if not isinstance(other, EmbedRequest) or ticket is first or not _alike(request, other):
            continue
        items += len(other.inputs)
        chars += ticket.prompt_chars
        work_s += ticket.cost.service_s
        due_at = min(due_at, ticket.due_at)
        if items > bounds.items_max or chars > bounds.chars_max or now + work_s > due_at:
            break
        found.append(ticket)
    return found


def _alike(one: EmbedRequest, other: EmbedRequest) -> bool:
    return (
        one.model == other.model
        and one.dimensions == other.dimensions
        and one.truncate == other.truncate
        and one.extensions == other.extensions
    )


class MicroBatch:
    """One call of an engine, shared by the requests that are in it. Holds their slot.

    Args:
        tickets: Of requests for embeddings that are alike; the first one's turn it was.
        now: Tells the time.
        over: Called once, when the slot is not needed any more: with what the engine
            gave for all of them, or None.

    Attributes:
        call: Stands for the call itself where its members may have come and gone.
        sent_at: When the engine was asked.
    """

    def __init__(
        self,
        tickets: Sequence[Ticket],
        *,
        now: Callable[[], float],
        over: Callable[["MicroBatch", Embeddings | None], None],
    ) -> None:
        self.tickets = tuple(tickets)
        self.call = copy.copy(tickets[0])
        self.sent_at = 0.0
        self._now = now
        self._over = over
        self._answers: dict[Ticket, asyncio.Future[Embeddings]] = {}
        self._left: set[Ticket] = set()
        self._task: asyncio.Task[Embeddings | None] | None = None
        self._whole: Embeddings | None = None

    async def embed(self, ticket: Ticket, backend: InferenceBackend) -> Embeddings:
        """The vectors of one of them. The first who asks begins the call for all.

        Raises:
            GatewayError: As `InferenceBackend.embed`. What is wrong with one's inputs
                is told to that one alone.
        """
        if self._task is None:
            loop = asyncio.get_running_loop()
            present = [member for member in self.tickets if member not in self._left]
            self._answers = {member: loop.create_future() for member in present}
            self._task = loop.create_task(self._run(backend), name="embed")
            self._task.add_done_callback(self._ended)
        return await self._answers[ticket]

    def leave(self, ticket: Ticket) -> None:
        """It has its answer, or wants none any more."""
        self._left.add(ticket)
        answer = self._answers.pop(ticket, None)
        if answer is not None:
            answer.cancel()
        if len(self._left) < len(self.tickets):
            return
        if self._task is None:
            self._over(self, None)
        else:
            self._task.cancel()

    async def _run(self, backend: InferenceBackend) -> Embeddings | None:
        """One call; one for each of them where the engine refused an input."""
        tickets = list(self._answers)
        requests = [_embed_request(ticket) for ticket in tickets]
        self.sent_at = self._now()
        try:
            whole = await _embed(backend, join(requests))
        except _ITS_OWN_FAULT as error:
            if len(tickets) == 1:
                self._tell(tickets[0], error)
                return None
        except GatewayError as error:
            for ticket in tickets:
                if self._tell(ticket, error):
                    # It is counted by whom it was told first.
                    error = copy.copy(error)
                    error.shared = True
            return None
        else:
            weights = [ticket.prompt_chars for ticket in tickets]
            for ticket, part in zip(tickets, cut(whole, requests, weights), strict=True):
                self._tell(ticket, part)
            return whole
        for ticket, request in zip(tickets, requests, strict=True):
            if ticket in self._left:
                continue
            try:
                self._tell(ticket, await _embed(backend, request))
            except GatewayError as error:
                self._tell(ticket, error)
        return None

    def _tell(self, ticket: Ticket, answer: Embeddings | GatewayError) -> bool:
        """Whether it is still there to be told."""
        awaited = self._answers.get(ticket)
        if awaited is None or awaited.done():
            return False
        if isinstance(answer, GatewayError):
            awaited.set_exception(answer)
        else:
            awaited.set_result(answer)
        return True

    def _ended(self, task: asyncio.Task[Embeddings | None]) -> None:
        cause = None if task.cancelled() else task.exception()
        for answer in self._answers.values():
            if not answer.done():
                # Our own fault, which none of them may wait for in vain.
                answer.set_exception(cause or asyncio.CancelledError())
        self._over(self, None if task.cancelled() or cause else task.result())


class BatchMember:
    """One request's part of a batch, as an `EventStream` that has nothing but an end.

    Attributes:
        embeddings: Its vectors, once the end was read.
    """

    def __init__(self, batch: MicroBatch, ticket: Ticket, backend: InferenceBackend) -> None:
        self._batch = batch
        self._ticket = ticket
        self._backend = backend
        self.ends: list[Finished] = []
        self.embeddings = Embeddings(())

    async def read(self) -> Sequence[Event]:
        """As `EventStream.read`; raises as `MicroBatch.embed`."""
        if self.ends:
            return ()
        self.embeddings = await self._batch.embed(self._ticket, self._backend)
        end = Finished(FinishReason.STOP, Usage(prompt=self.embeddings.prompt_tokens))
        self.ends.append(end)
        return (end,)


def join(requests: Sequence[EmbedRequest]) -> EmbedRequest:
    """One request with the inputs of all, in order. They are alike in all else. Pure."""
    if len(requests) == 1:
        return requests[0]
    inputs = tuple(item for request in requests for item in request.inputs)
    return attrs.evolve(requests[0], inputs=inputs)


def cut(
    whole: Embeddings, requests: Sequence[EmbedRequest], weights: Sequence[int]
) -> list[Embeddings]:
    """What belongs to each, in order. Pure.

    An engine counts the tokens of the whole call: they are shared out by the weights,
    so that all parts together are as many.
    """
    total = sum(weights)
    parts: list[Embeddings] = []
    start = before = counted = 0
    for request, weight in zip(requests, weights, strict=True):
        end = start + len(request.inputs)
        before += weight
        tokens = round(whole.prompt_tokens * before / total) if total else whole.prompt_tokens
        parts.append(Embeddings(whole.vectors[start:end], tokens - counted, whole.load_s))
        start, counted = end, tokens
    return parts


async def _embed(backend: InferenceBackend, request: EmbedRequest) -> Embeddings:
    embeddings = await backend.embed(request)
    if len(embeddings.vectors) != len(request.inputs):
        raise UpstreamBadResponse("The model's engine gave too few vectors, or too many.")
    return embeddings


def _embed_request(ticket: Ticket) -> EmbedRequest:
    assert isinstance(ticket.request, EmbedRequest)
    return ticket.request
