"""The waist: everything above speaks a wire format, everything below runs models.

A request comes in parsed and goes out as events. In between it is admitted,
waits for a slot, is sent to an upstream, to another one if the first breaks
before its first event, and is told of once, whatever became of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import attrs

from gateway.admission.admission import Admission
from gateway.backends.base import EventStream, InferenceBackend
from gateway.backends.choices import Choices
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
from gateway.core.messages import Event, GenerateRequest, Timings, Usage
from gateway.core.ticket import Caller, Outcome, RequestRecord, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import ServiceTime
from gateway.scheduling.worker import BatchingWorker

ATTEMPTS_MAX: Final = 3
"""Upstreams tried for one request; also covers one stale connection of the only upstream."""

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that left; it never reaches a wire."""

DEFAULT_MODEL: Final = "default"
"""The model name that stands for the configured default model."""


T = TypeVar("T")


class Answer:
    """The events of a running request.

    Attributes:
        ignored: Parameters that the chosen upstream can't honour, by name.
        queue_s: How long it waited for its slot.
    """

    __slots__ = ("_answers", "_first", "_stream", "ignored", "queue_s")

    def __init__(
        self,
        stream: EventStream,
        first: Sequence[Event],
        *,
        answers: int,
        ignored: tuple[str, ...],
        queue_s: float,
    ) -> None:
        self._stream = stream
        self._answers = answers
        self._first: Sequence[Event] | None = first
        self.ignored = ignored
        self.queue_s = queue_s

    @property
    def whole(self) -> bool:
        """Whether the engine has said all; what was read last is then the end."""
        return len(self._stream.ends) == self._answers

    def read(self) -> Awaitable[Sequence[Event]]:
        """The next events, as many as came together; empty when all answers are finished.

        Not a coroutine itself: a token costs one frame less on its way.

        Raises, when awaited:
            BackendError, RequestTimeout: The answer broke.
        """
        first, self._first = self._first, None
        return self._stream.read() if first is None else _now(first)


async def _now(events: Sequence[Event]) -> Sequence[Event]:
    return events


class Service:
    """Runs requests. Owns the count of those that run, and the means to end them all.

    Args:
        tell: Called once for each request, with what became of it. Must not raise.
        attempt_failed: Called with the `kind` of each attempt that an upstream broke,
            also where another one then serves the request. Must not raise.
        default_model: What the model name `default` stands for.
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
        service_time: ServiceTime,
        default_model: str,
        stream_timeout_s: float,
        refresh_models: Callable[[], Awaitable[None]],
        tell: Callable[[RequestRecord], None],
        attempt_failed: Callable[[str], None],
    ) -> None:
        self._admission = admission
        self._worker = worker
        self._pool = pool
        self._clock = clock
        self._service_time = service_time
        self._default_model = default_model
        self._stream_timeout_s = stream_timeout_s
        self._refresh_models = refresh_models
        self._tell = tell
        self._attempt_failed = attempt_failed
        self._accepted: set[_Story] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Accepted requests that have not ended, queued ones too."""
        return len(self._accepted)

    def model_named(self, name: str) -> str:
        """The model that a caller means."""
        return self._default_model if name == DEFAULT_MODEL else name

    @property
    def draining(self) -> bool:
        return self._admission.draining

    async def run(
        self,
        request: GenerateRequest,
        consume: Callable[[Answer], Awaitable[T]],
        *,
        caller: Caller,
        request_id: str,
        ignored: tuple[str, ...] = (),
        heard: Callable[[RequestRecord], None] | None = None,
    ) -> T:
        """Run a request, and have its answer consumed in this very task.

        `consume` is called once, when the first events are there, which takes as
        long as the queue and the engine do. When it returns or raises, the
        upstream's connection is closed and the slot given back; returning before
        the answer is whole means that nobody wants the rest.

        Args:
            ignored: Parameters that the dialect could not honour.
            heard: Told the record too.

        Raises:
            GatewayError: Refused, or failed: before `consume` was called, or out
                of its `answer.read()`. A failure of the latter kind has to be
                shown in-band.
        """
        model = self.model_named(request.model)
        if model != request.model:
            request = attrs.evolve(request, model=model)
        story = _Story(request, caller, request_id, self._clock.now())
        try:
            ticket = await self._admit(story, ignored)
            self._accept(story)
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

    async def _attempt(
        self,
        ticket: Ticket,
        story: "_Story",
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
                backend = upstream.backend
                started_at = clock.now()
                story.leased(upstream.name, started_at)
                try:
                    # The deadline cuts short whatever this task awaits inside: for a
                    # stream until its first event, then the stream's own bound.
                    async with clock.timeout_at(ticket.deadline_at) as timer:
                        story.timer = timer
                        async with self._open(backend, request) as stream:
                            story.stream = stream
                            first = await stream.read()
                            story.first_event_at = clock.now()
                            upstream.breaker.succeeded()
                            if request.stream:
                                timer.reschedule(ticket.arrived_at + self._stream_timeout_s)
                            unsupported = backend.unsupported(request)
                            result = await consume(
                                Answer(
                                    stream,
                                    first,
                                    answers=request.n,
                                    ignored=ignored + unsupported,
                                    queue_s=story.queue_s,
                                )
                            )
                    self._service_time.observe(clock.now() - started_at)
                    return result
                except TimeoutError:
                    error = story.aborted_by or RequestTimeout(
                        "The answer was not there in time. Ask for fewer tokens, or stream it."
                    )
                    self._hold_against(upstream, error)
                    raise error from None
                except GatewayError as error:
                    self._hold_against(upstream, error)
                    raise
                finally:
                    story.timer = None
        except asyncio.QueueFull:
            raise self._admission.queue_full(ticket.model) from None

    def _open(
        self, backend: InferenceBackend, request: GenerateRequest
    ) -> AbstractAsyncContextManager[EventStream]:
        return backend.open(request) if request.n == 1 else Choices(backend, request)

    async def _admit(self, story: "_Story", ignored: tuple[str, ...]) -> Ticket:
        def admit() -> Ticket:
            return self._admission.admit(
                story.request,
                caller=story.caller,
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

    def _another_try(self, ticket: Ticket, story: "_Story", error: GatewayError) -> bool:
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
        if not isinstance(error, (BackendError, UpstreamBusy, RequestTimeout)):
            return  # It refused what was asked, or we break off.
        self._attempt_failed(error.kind)
        if isinstance(error, (UpstreamUnreachable, UpstreamDisconnected)):
            upstream.breaker.failed(self._clock.now())
            if not upstream.up:
                self._pool.changed()

    def _accept(self, story: "_Story") -> None:
        story.accepted = True
        self._accepted.add(story)
        self._idle.clear()

    def _close(self, story: "_Story", heard: Callable[[RequestRecord], None] | None) -> None:
        self._accepted.discard(story)
        if not self._accepted:
            self._idle.set()
        record = story.record(self._clock.now())
        self._tell(record)
        if heard is not None:
            heard(record)


class _Story:
    """What happens to one request, noted as it happens."""

    def __init__(
        self, request: GenerateRequest, caller: Caller, request_id: str, arrived_at: float
    ) -> None:
        self.request = request
        self.caller = caller
        self.request_id = request_id
        self.arrived_at = arrived_at
        self.accepted = False
        self.upstream = ""
        self.attempts = 0
        self.retried: set[str] = set()
        self.leased_at: float | None = None
        self.first_event_at: float | None = None
        self.timer: Timeout | None = None
        self.aborted_by: GatewayError | None = None
        self.stream: EventStream | None = None
        self._outcome: Outcome = "refused"
        self._status = 200
        self._reason = ""
        self._phase = ""

    @property
    def queue_s(self) -> float:
        return 0.0 if self.leased_at is None else self.leased_at - self.arrived_at

    def leased(self, upstream: str, now: float) -> None:
        self.upstream = upstream
        self.attempts += 1
        self.leased_at = now

    def end(self) -> None:
        """The consumer is done."""
        if self.stream is not None and len(self.stream.ends) == self.request.n:
            self._outcome = "completed"
        else:
            self.leave()

    def fail(self, error: GatewayError) -> None:
        self._outcome = "failed" if self.accepted else "refused"
        self._status = error.status
        self._reason = error.reason

    def leave(self) -> None:
        """The caller is gone, or no longer reads."""
        self._outcome = "cancelled" if self.accepted else "refused"
        self._status = CLIENT_CLOSED_REQUEST
        self._reason = "client_gone"
        if self.first_event_at is not None:
            self._phase = "streaming"
        else:
            self._phase = "queued" if self.leased_at is None else "waiting"

    def abort(self, error: GatewayError, now: float) -> None:
        """End it if it runs; one that waits for a slot is the worker's to fail."""
        self.aborted_by = error
        if self.timer is not None and not self.timer.expired():
            self.timer.reschedule(now)

    def record(self, now: float) -> RequestRecord:
        total_s = now - self.arrived_at
        usage, timings = self._counted()
        backend_s = timings.total_s
        if backend_s is None and self.leased_at is not None:
            backend_s = now - self.leased_at
        first = self.first_event_at
        return RequestRecord(
            request_id=self.request_id,
            caller=self.caller.name,
            model=self.request.model,
            stream=self.request.stream,
            outcome=self._outcome,
            status=self._status,
            reason=self._reason,
            phase=self._phase,
            upstream=self.upstream,
            queue_s=total_s if self.leased_at is None else self.queue_s,
            first_token_s=None if first is None else first - self.arrived_at,
            total_s=total_s,
            backend_s=backend_s,
            usage=usage,
            timings=timings,
            attempts=self.attempts,
        )

    def _counted(self) -> tuple[Usage, Timings]:
        """What the engine has said of the answers that are whole."""
        usage, timings = Usage(), Timings()
        for count, end in enumerate(() if self.stream is None else self.stream.ends):
            usage = usage + end.usage if count else end.usage
            timings = timings + end.timings if count else end.timings
        return usage, timings
