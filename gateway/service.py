"""The waist: everything above speaks a wire format, everything below runs models.

A request comes in parsed and goes out as events. In between it is admitted,
waits for a slot, is sent to an upstream, to another one if the first breaks
before its first event, and is told of once, whatever became of it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, TypeVar

import attrs

from gateway.admission.admission import Admission
from gateway.admission.callers import require_manager
from gateway.admission.classes import flow_of
from gateway.admission.models import require_model
from gateway.admission.rejoin import Key, Rejoin
from gateway.backends.base import EventStream, InferenceBackend, unsupported_as_written
from gateway.backends.choices import Choices
from gateway.backends.loaded import Loaded
from gateway.backends.recording import Recorder, Recording, Replay
from gateway.config.schema import Scheduling
from gateway.core.clock import Clock, Timeout
from gateway.core.errors import (
    BackendError,
    GatewayError,
    InternalError,
    ModelNotFound,
    Overloaded,
    RequestTimeout,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamUnreachable,
)
from gateway.core.messages import EmbedRequest, Finished, FinishReason, GenerateRequest, Request
from gateway.core.ticket import (
    NO_HINTS,
    Active,
    Caller,
    Forecast,
    Hints,
    Progress,
    RequestRecord,
    Ticket,
)
from gateway.pool.loads import Loads
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.microbatch import BatchMember
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.worker import BatchingWorker
from gateway.story import Answer, Story, ended_progress

ATTEMPTS_MAX: Final = 3
"""Upstreams tried for one request; also covers one stale connection of the only upstream."""

ENDED_KEPT: Final = 256
"""Requests that have ended and can still be asked about."""

T = TypeVar("T")


class Service:
    """Runs requests. Owns the count of those that run, and the means to end them all.

    Args:
        tell: Called once for each request, with what became of it. Must not raise.
        attempt_failed: Called with the `kind` of each attempt that an upstream broke,
            also where another one then serves the request. Must not raise.
        stream_timeout_s: A stream from arrival to its end.
        refresh_models: Asks the upstreams for their models again, not too often.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        worker: BatchingWorker,
        pool: Pool,
        clock: Clock,
        scheduler: Scheduler,
        scheduling: Scheduling,
        loads: Loads,
        rejoin: Rejoin,
        stream_timeout_s: float,
        refresh_models: Callable[[], Awaitable[None]],
        tell: Callable[[RequestRecord], None],
        attempt_failed: Callable[[str], None],
    ) -> None:
        self._admission = admission
        self._worker = worker
        self._pool = pool
        self._clock = clock
        self._scheduler = scheduler
        self._scheduling = scheduling
        self._loads = loads
        self._rejoin = rejoin
        self._stream_timeout_s = stream_timeout_s
        self._refresh_models = refresh_models
        self._tell = tell
        self._attempt_failed = attempt_failed
        self._accepted: set[Story] = set()
        self._ended: OrderedDict[tuple[str, str], RequestRecord] = OrderedDict()
        self._idle = asyncio.Event()
        self._idle.set()

    def change(self, *, scheduling: Scheduling, stream_timeout_s: float) -> None:
        """As in the constructor, for what is accepted from now on."""
        self._scheduling = scheduling
        self._stream_timeout_s = stream_timeout_s

    @property
    def active(self) -> int:
        """Accepted requests that have not ended, queued ones too."""
        return len(self._accepted)

    def model_named(self, name: str) -> str:
        """The name that an answer gives the model that was asked for by this one."""
        return self._pool.catalogue.shown(name)

    @property
    def draining(self) -> bool:
        return self._admission.draining

    async def run(
        self,
        request: Request,
        consume: Callable[[Answer], Awaitable[T]],
        *,
        caller: Caller,
        request_id: str,
        hints: Hints = NO_HINTS,
        ignored: tuple[str, ...] = (),
        heard: Callable[[RequestRecord], None] | None = None,
    ) -> T:
        """Run a request, and have its answer consumed in this very task.

        `consume` is called once, when the first events are there, which takes as
        long as the queue and the engine do. When it returns or raises, the
        upstream's connection is closed and the slot given back; returning before
        the answer is whole means that nobody wants the rest.

        Args:
            hints: What the client said beside its request.
            ignored: Parameters that the dialect could not honour.
            heard: Told the record too.

        Raises:
            GatewayError: Refused, or failed: before `consume` was called, or out
                of its `answer.read()`. A failure of the latter kind has to be
                shown in-band.
        """
        name, request = request.model, self._applied(request, caller)
        story = Story(request, caller, request_id, self._clock.now())
        try:
            require_model(caller, name, self._pool.catalogue)
            while (earlier := self._earlier(story, hints)) is not None:
                try:
                    return await self._join(story, earlier, hints, consume, ignored)
                except (BackendError, Overloaded):
                    if story.first_event_at is not None:
                        raise
                    # It broke before it had said a word: this try is like any other then.
                    story.parted()
            ticket = await self._admit(story, hints, ignored)
            self._accept(story)
            story.ticket = ticket
            for attempts_left in reversed(range(ATTEMPTS_MAX)):
                try:
                    result = await self._attempt(ticket, story, consume, ignored)
                    story.end()
                    return result
                except (BackendError, Overloaded) as error:
                    if (
                        story.first_event_at is not None
                        or not attempts_left
                        or not self._another_try(ticket, story, error)
                    ):
                        raise
            raise AssertionError("the last attempt returns or raises")
        except GatewayError as error:
            story.fail(error)
            raise
        except (asyncio.CancelledError, ConnectionError):
            story.leave()
            raise
        except BaseException:
            story.fail(InternalError("Internal error."))
            raise
        finally:
            self._close(story, heard)

    async def unload(self, model: str, caller: Caller) -> None:
        """Put a model out of the memory of every engine that serves it and can.

        Raises:
            NotPermitted: This caller may not: it would take the model from all others.
            ModelNotAllowed: This model is not for this caller.
            As `Pool.require`, and as `InferenceBackend.unload`.
        """
        require_manager(caller)
        require_model(caller, model, self._pool.catalogue)
        name = self._pool.catalogue.named(model)
        refused: GatewayError | None = None
        unloaded = False
        for upstream in self._pool.require(name):
            try:
                await upstream.backend.unload(name)
            except GatewayError as error:
                refused = error
                continue
            upstream.dropped(name)
            unloaded = True
        if refused is not None and not unloaded:
            raise refused

    def forecast(
        self,
        request: Request,
        *,
        caller: Caller,
        hints: Hints = NO_HINTS,
        ignored: tuple[str, ...] = (),
    ) -> Forecast:
        """What would become of this request if it came now. Raises as `run`, but for refusals."""
        require_model(caller, request.model, self._pool.catalogue)
        return self._admission.forecast(
            self._applied(request, caller),
            caller=caller,
            hints=hints,
            ignored=ignored,
            now=self._clock.now(),
        )

    def progress(self, request_id: str, caller: Caller) -> Progress | None:
        """Where a request of this caller is, or what became of it; None if it is not known."""
        for story in self._accepted:
            if story.request_id == request_id and story.caller.name == caller.name:
                return self._progress_of(story)
        record = self._ended.get((caller.name, request_id))
        return None if record is None else ended_progress(record)

    def waiting(self, at_most: int) -> list[Active]:
        """Those that wait for a slot, whose promise is due first before the others."""
        queued = [story for story in self._accepted if story.state == "queued" and story.ticket]
        queued.sort(key=_due)
        return [self._active(story) for story in queued[:at_most]]

    def running(self, at_most: int) -> list[Active]:
        """Those that have a slot, or the answer of an earlier try; the longest first."""
        running = [story for story in self._accepted if story.state != "queued"]
        running.sort(key=lambda story: story.leased_at or 0.0)
        return [self._active(story) for story in running[:at_most]]

    def begin_drain(self) -> None:
        """From now on nothing new starts; what was accepted goes on."""
        self._admission.draining = True

    async def wait_idle(self) -> None:
        """Until every accepted request has ended."""
        await self._idle.wait()

    def abort(self, error: GatewayError) -> int:
        """End everything that was accepted, with this error; how many that were."""
        for story in self._accepted:
            story.abort(error, self._clock.now())
        self._worker.fail_waiting(error)
        return len(self._accepted)

    def _applied(self, request: Request, caller: Caller) -> Request:
        """The request for the model that runs, as far as this caller may go."""
        request = self._pool.catalogue.applied(request)
        cap = caller.limits.max_tokens
        if cap and isinstance(request, GenerateRequest) and (request.max_tokens or cap + 1) > cap:
            return attrs.evolve(request, max_tokens=cap)
        return request

    def _progress_of(self, story: Story) -> Progress:
        progress = story.progress(self._clock.now())
        if progress.state != "queued" or story.ticket is None:
            return progress
        turn = self._scheduler.turn(story.ticket, self._clock.now())
        return attrs.evolve(
            progress,
            position=turn.position,
            wait_s=turn.start_s,
            why=turn.why,
            service_s=story.ticket.cost.service_s,
        )

    def _active(self, story: Story) -> Active:
        ticket, answer = story.ticket, story.answer
        return Active(
            progress=self._progress_of(story),
            caller=story.caller.name,
            priority=story.caller.priority if ticket is None else ticket.priority,
            upstream=story.upstream,
            stream=story.request.stream,
            tokens=0 if answer is None else answer.tokens,
            deadline_s=0.0 if ticket is None else ticket.deadline_at - self._clock.now(),
        )

    async def _attempt(
        self,
        ticket: Ticket,
        story: Story,
        consume: Callable[[Answer], Awaitable[T]],
        ignored: tuple[str, ...],
    ) -> T:
        """A slot, an open stream, its first events; then they are the consumer's.

        One coroutine for all of it, since every token passes through each.
        """
        request = ticket.request
        clock = self._clock
        try:
            async with self._worker.lease(ticket) as upstream:
                story.leased(upstream.name, clock.now())
                self._note_start(story, ticket)
                try:
                    # The deadline cuts short whatever this task awaits inside: for a
                    # stream until its first event, then the stream's own bound.
                    async with clock.timeout_at(ticket.deadline_at) as timer:
                        story.timer = timer
                        if not upstream.holds(request.model):
                            await self._load(story, upstream)
                        async with self._open(story, ticket, upstream.backend) as stream:
                            story.stream = stream
                            try:
                                first = await stream.read()
                                story.first_event_at = clock.now()
                                upstream.breaker.succeeded()
                                if request.stream:
                                    timer.reschedule(ticket.arrived_at + self._stream_timeout_s)
                                story.answer = Answer(
                                    stream,
                                    first,
                                    answers=request.answers,
                                    ignored=ignored
                                    + unsupported_as_written(upstream.backend, request),
                                    queue_s=story.queue_s,
                                    cut=self._cut(story, timer),
                                    prompt_tokens=ticket.cost.prompt_tokens,
                                    cut_to=_cut_to(request),
                                )
                                result = await consume(story.answer)
                            except (asyncio.CancelledError, ConnectionError) as gone:
                                if not (timer.expired() or story.aborted_by or story.delivered):
                                    await self._linger(stream, story, upstream, gone)
                                raise
                            finally:
                                if ends := _all_ends(stream, story):
                                    self._scheduler.answered(ticket, ends, clock.now())
                    return result
                except TimeoutError:
                    error = story.aborted_by or _not_in_time(request)
                    self._hold_against(upstream, error)
                    raise error from None
                except GatewayError as error:
                    self._hold_against(upstream, error)
                    raise
                finally:
                    story.timer = None
                    story.gave_back(clock.now())
        except asyncio.QueueFull:
            raise self._admission.queue_full() from None

    async def _load(self, story: Story, upstream: Upstream) -> None:
        """Wait until the model is in memory; the load is the gateway's, and outlives its client."""
        story.loading = True
        try:
            story.load_s += await self._loads.ensure(upstream, story.request.model)
        finally:
            story.loading = False

    def _cut(self, story: Story, timer: Timeout) -> Callable[[], bool] | None:
        """Whether the deadline has cancelled reading; None for what is worth nothing in part."""
        request = story.request
        if (
            not isinstance(request, GenerateRequest)
            or request.stream
            or request.tools
            or request.output_format is not None
            or not self._scheduling.truncate_at_deadline
        ):
            return None
        return lambda: timer.expired() and story.aborted_by is None

    def _note_start(self, story: Story, ticket: Ticket) -> None:
        embeds = isinstance(ticket.request, EmbedRequest)
        of_slot = self._worker.batch_of(ticket).call if embeds else ticket
        running = self._scheduler.running(of_slot)
        if running is not None:
            story.share = running.shares[ticket]
            story.expected_s = running.expected_s * story.share
            story.cached_chars = running.cached_chars
            story.swaps += running.swaps

    def _open(
        self, story: Story, ticket: Ticket, backend: InferenceBackend
    ) -> AbstractAsyncContextManager[EventStream]:
        request = ticket.request
        if isinstance(request, EmbedRequest):
            # The batch is left with the lease.
            return nullcontext(BatchMember(self._worker.batch_of(ticket), ticket, backend))
        if not request.asks:
            return nullcontext(Loaded())
        answer = backend.open(request) if request.answers == 1 else Choices(backend, request)
        if story.rejoin_key is None:
            return answer
        now = self._clock.now()
        recording = self._rejoin.begin(story.rejoin_key, now, answers=request.answers)
        story.recordings.append(recording)
        return Recorder(answer, recording)

    def _earlier(self, story: Story, hints: Hints) -> Recording | None:
        """The answer that an earlier try of the same request has begun, if it is to be had.

        Only of clients that count their retries: others would never come back.
        """
        if isinstance(story.request, EmbedRequest):
            return None  # What is computed again costs little, and is large to keep.
        if not self._scheduling.rejoin or hints.retry_count is None or not hints.fingerprint:
            return None
        caller = story.caller
        key = Key(caller.name, flow_of(caller, hints), hints.fingerprint)
        story.rejoin_key = key
        if hints.retry_count:
            return self._rejoin.find(key, story.arrived_at)
        self._rejoin.met(key, story.arrived_at)
        return None

    async def _join(
        self,
        story: Story,
        recording: Recording,
        hints: Hints,
        consume: Callable[[Answer], Awaitable[T]],
        ignored: tuple[str, ...],
    ) -> T:
        """Have the answer consumed that an earlier try has begun. It takes no slot of its own."""
        self._accept(story)
        story.leased("", story.arrived_at)
        request = story.request
        deadline_at = story.arrived_at + self._admission.timeout_s(hints)
        try:
            async with self._clock.timeout_at(deadline_at) as timer, Replay(recording) as stream:
                story.timer = timer
                story.stream = stream
                first = await stream.read()
                story.first_event_at = self._clock.now()
                if request.stream:
                    timer.reschedule(story.arrived_at + self._stream_timeout_s)
                story.answer = Answer(
                    stream,
                    first,
                    answers=request.answers,
                    ignored=ignored,
                    queue_s=0.0,
                    cut=self._cut(story, timer),
                    cut_to=_cut_to(request),
                    rejoined=True,
                )
                result = await consume(story.answer)
        except TimeoutError:
            raise story.aborted_by or _not_in_time(request) from None
        finally:
            story.timer = None
        story.end()
        return result

    async def _admit(self, story: Story, hints: Hints, ignored: tuple[str, ...]) -> Ticket:
        def admit() -> Ticket:
            return self._admission.admit(
                story.request,
                caller=story.caller,
                hints=hints,
                request_id=story.request_id,
                ignored=ignored,
                now=story.arrived_at,
            )

        try:
            return admit()
        except ModelNotFound:
            # It may have been installed since the upstreams were last asked.
            await self._refresh_models()
            return admit()

    def _another_try(self, ticket: Ticket, story: Story, error: GatewayError) -> bool:
        """Whether the request may go to an upstream once more; notes which are out."""
        if story.upstream in ticket.tried or not story.upstream:
            return False
        stale = isinstance(error, UpstreamDisconnected) and error.untouched
        if stale and story.upstream not in story.retried:
            # It closed a connection before one byte of an answer: a pooled
            # connection that had grown stale looks the same. Once more, then.
            story.retried.add(story.upstream)
            return True
        ticket.tried.add(story.upstream)
        return bool(self._pool.serving(ticket.model, ticket.tried))

    def _hold_against(self, upstream: Upstream, error: GatewayError) -> None:
        """Tell of a broken attempt. Where nobody was there too often, nobody is sent any more."""
        if not isinstance(error, (BackendError, UpstreamBusy, RequestTimeout)) or error.shared:
            return  # It refused what was asked, or we break off; or it is told of by another.
        self._attempt_failed(error.kind)
        if isinstance(error, (UpstreamUnreachable, UpstreamDisconnected)):
            upstream.breaker.failed(self._clock.now())
            if not upstream.up:
                self._pool.changed()

    def _accept(self, story: Story) -> None:
        story.accepted = True
        self._accepted.add(story)
        self._idle.clear()

    async def _linger(
        self, stream: EventStream, story: Story, upstream: Upstream, gone: BaseException
    ) -> None:
        """The client has left. Read on for a while for its next try, if one is to be expected."""
        story.leave()
        patience_s = self._scheduling.rejoin_seconds
        if not isinstance(stream, Recorder) or not patience_s or self.draining:
            return
        assert story.timer is not None
        # The deadline was the client's own; only an abort ends it now.
        story.timer.reschedule(None)
        try:
            try:
                await stream.linger(clock=self._clock, patience_s=patience_s)
            except asyncio.CancelledError:
                # A client whose connection broke while we wrote is cancelled once more.
                if not isinstance(gone, ConnectionError) or story.aborted_by is not None:
                    raise
                await stream.linger(clock=self._clock, patience_s=patience_s)
        except GatewayError as error:
            self._hold_against(upstream, error)  # Nobody is left to be told.

    def _close(self, story: Story, heard: Callable[[RequestRecord], None] | None) -> None:
        self._accepted.discard(story)
        if not self._accepted:
            self._idle.set()
        now = self._clock.now()
        record = story.record(now)
        self._tell(record)
        if story.ticket is not None:
            self._admission.ended(story.ticket, record, now)
        if heard is not None:
            heard(record)
        for recording in story.recordings:
            self._rejoin.ended(recording, now)
        if story.accepted:
            self._ended[record.caller, record.request_id] = record
            if len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)


def _due(story: Story) -> tuple[float, int]:
    """The order in which promises are due, as in `Agenda`."""
    assert story.ticket is not None
    return story.ticket.due_at, story.ticket.number


def _all_ends(stream: EventStream, story: Story) -> Sequence[Finished]:
    """Of all answers to the request; empty when there is not an end to each."""
    if isinstance(story.request, EmbedRequest):
        return ()  # Its call is learned from as a whole, by the worker.
    if not story.request.asks:
        return ()  # Nothing was computed.
    if len(stream.ends) == story.request.answers:
        return stream.ends
    answer = story.answer
    if answer is not None and answer.truncated and story.request.answers == 1:
        # A machine so slow that every answer is cut would else never be known for it.
        return [Finished(FinishReason.LENGTH, answer.cut_usage)]
    return ()


def _cut_to(request: Request) -> int | None:
    return request.cut_to if isinstance(request, GenerateRequest) else None


def _not_in_time(request: Request) -> RequestTimeout:
    how = (
        "Send fewer texts at once."
        if isinstance(request, EmbedRequest)
        else "Ask for fewer tokens, or stream it."
    )
    return RequestTimeout(f"The answer was not there in time. {how}")
