"""The gateway itself: its own admission, scheduler, queue and pool, without asyncio.

What stands in for it is only what waits: the worker (`scheduling/worker.py`), the
owner of loads (`pool/loads.py`), the health check, and that part of the service
which holds a slot until the answer or the deadline. Each does here at one moment of
the virtual clock what it does there within a turn of the loop.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

import attrs
from multidict import CIMultiDict

from bench.simulation.box import Box, Run
from bench.simulation.events import Event, Events
from bench.simulation.policies import Attempt, End
from gateway.admission.admission import Admission
from gateway.admission.limits import Limits
from gateway.backends.base import InferenceBackend, Probe
from gateway.config.schema import Queue, Scheduling, Timeouts
from gateway.core.errors import GatewayError, RequestTimeout
from gateway.core.messages import (
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Role,
    Timings,
    Usage,
)
from gateway.core.models import ModelInfo
from gateway.core.ticket import ANONYMOUS, NO_HINTS, Hints, Ticket
from gateway.pool.health import UP_INTERVAL_S
from gateway.pool.pool import Pool
from gateway.pool.upstream import LOAD_S_MIN, Upstream
from gateway.scheduling.estimate import CostModel
from gateway.scheduling.queue import RequestQueue, Waiting
from gateway.scheduling.scheduler import Scheduler
from gateway.web.refusals import say_when


@attrs.frozen(kw_only=True)
class Setup:
    """A gateway, as its operator has set it up.

    Attributes:
        models: That the engine offers.
        newcomers: There can be more than one caller.
    """

    models: tuple[str, ...] = ("m",)
    slots: int = 1
    queue: Queue = Queue()
    scheduling: Scheduling = Scheduling()
    timeouts: Timeouts = Timeouts()
    max_tokens: int = 2048
    newcomers: bool = False


class _Engine:
    """What the pool wants to know of an engine; requests go to the box by themselves."""

    kind: Literal["box"] = "box"

    def canonical(self, model: str) -> str:
        return model

    def unsupported(self, request: GenerateRequest) -> tuple[str, ...]:
        return ()


class _Promise:
    """A grant that nobody awaits: it is open until the ticket has left the queue."""

    def done(self) -> bool:
        return False


_OPEN: Final = cast("asyncio.Future[Upstream]", _Promise())


class _AnyDay:
    """Nobody here has limits."""

    def tokens(self, caller: str) -> int:
        return 0

    def left_s(self) -> float:
        return 86_400.0


@attrs.define(eq=False, slots=True)
class _Held:
    """An accepted request, until it has ended.

    Attributes:
        upstream: None while it waits.
        run: None while its model is loaded.
    """

    attempt: Attempt
    ticket: Ticket
    deadline: Event
    upstream: Upstream | None = None
    run: Run | None = None


class Gateway:
    """The policy that is ours.

    Args:
        boxes: One upstream each.
        costs: What it has learned before; it goes on learning.
    """

    def __init__(
        self, *, events: Events, boxes: Sequence[Box], setup: Setup, costs: CostModel
    ) -> None:
        self._events = events
        self._setup = setup
        self._costs = costs
        self._boxes: dict[str, Box] = {}
        upstreams = []
        for number, box in enumerate(boxes):
            name = f"box{number}"
            self._boxes[name] = box
            upstream = Upstream(name, cast(InferenceBackend, _Engine()), setup.slots)
            upstream.found(self._probe(box))
            upstreams.append(upstream)
        self.pool = Pool(upstreams)
        self.scheduler = Scheduler(
            pool=self.pool,
            costs=costs,
            settings=setup.scheduling,
            max_tokens=setup.max_tokens,
            newcomers=setup.newcomers,
        )
        self.queue = RequestQueue(
            bound=setup.queue.max_queue_size,
            scheduler=self.scheduler,
            pool=self.pool,
            now=lambda: events.now,
        )
        places = itertools.count()
        self.admission = Admission(
            pool=self.pool,
            queue=self.queue,
            scheduler=self.scheduler,
            settings=setup.queue,
            scheduling=setup.scheduling,
            timeouts=setup.timeouts,
            strict_params=False,
            new_place=lambda: f"place{next(places)}",
            limits=Limits(_AnyDay()),
        )
        self._held: dict[Attempt, _Held] = {}
        self._waiting: dict[Ticket, _Held] = {}
        self._loading: dict[tuple[str, str], list[_Held]] = {}
        self._check: Event | None = None

    # --- What clients do ----------------------------------------------------

    def send(self, attempt: Attempt) -> None:
        now = self._events.now
        self._keep_checking()
        ask = attempt.ask
        try:
            ticket = self.admission.admit(
                ask.request,
                caller=ask.caller,
                hints=_hints(attempt),
                request_id="",
                ignored=(),
                now=now,
            )
        except GatewayError as error:
            attempt.headers = _headers(error)
            attempt.finish(End.REFUSED, now, status=error.status)
            attempt.done(attempt)
            return
        attempt.accepted = True
        deadline = self._events.at(ticket.deadline_at, lambda: self._expire(attempt))
        held = self._held[attempt] = _Held(attempt, ticket, deadline)
        if self.queue.empty():
            upstream = self._free_for(ticket)
            if upstream is not None:
                self._start(held, upstream)
                return
        self._waiting[ticket] = held
        self.queue.put_nowait(Waiting(ticket, _OPEN))
        self.scheduler.wait(ticket, now)

    def leave(self, attempt: Attempt) -> None:
        held = self._held.get(attempt)
        if held is not None:
            self._end(held, End.LEFT, status=499)

    # --- What the worker does -----------------------------------------------

    def _free_for(self, ticket: Ticket) -> Upstream | None:
        return self.pool.free_for(
            ticket.model,
            ticket.tried,
            lambda upstream: self.scheduler.cached_chars(upstream, ticket),
        )

    def _grant(self) -> None:
        """Hand out slots until nobody who waits could use one."""
        while not self.queue.empty():
            ticket = self.queue.get_nowait().ticket
            held = self._waiting.pop(ticket)
            if self.scheduler.too_late(ticket, self._events.now):
                self.scheduler.left(ticket, self._events.now)
                self._finish(held, End.TIMED_OUT, status=RequestTimeout.status)
                continue
            upstream = self._free_for(ticket)
            assert upstream is not None, "the queue chose a ticket that no free slot can run"
            self._start(held, upstream)

    def _give_back(self, held: _Held) -> None:
        assert held.upstream is not None
        held.upstream.release()
        self.scheduler.ended(held.ticket, self._events.now)

    # --- What the service does ----------------------------------------------

    def _start(self, held: _Held, upstream: Upstream) -> None:
        now = self._events.now
        held.upstream = upstream
        held.attempt.slot_at = now
        upstream.take()
        self.scheduler.started(held.ticket, upstream, now)
        if upstream.holds(held.ticket.model):
            self._run(held)
        else:
            self._load(held, upstream)

    def _load(self, held: _Held, upstream: Upstream) -> None:
        """Wait for the load that is under way, or begin it; it outlives its clients."""
        key = upstream.name, held.ticket.model
        waiting = self._loading.get(key)
        if waiting is not None:
            waiting.append(held)
            return
        self._loading[key] = [held]
        began_at = self._events.now

        def loaded(_run: Run) -> None:
            seconds = self._events.now - began_at
            upstream.ran(held.ticket.model, seconds)
            if seconds >= LOAD_S_MIN:
                self._costs.loaded(upstream.name, held.ticket.model, seconds)
            for one in self._loading.pop(key):
                if one.attempt.end is None:
                    self._run(one)

        self._boxes[upstream.name].submit(Run(held.ticket.model, None, loaded))

    def _run(self, held: _Held) -> None:
        assert held.upstream is not None
        held.run = Run(held.ticket.model, held.attempt.ask, lambda _run: self._progress(held))
        self._boxes[held.upstream.name].submit(held.run)

    def _progress(self, held: _Held) -> None:
        run, attempt = held.run, held.attempt
        assert run is not None
        attempt.first_at = run.first_at
        if run.ended_at is None:
            if attempt.ask.stream:
                held.deadline.cancel()
                ends_at = attempt.sent_at + self._setup.timeouts.stream_timeout_seconds
                held.deadline = self._events.at(ends_at, lambda: self._expire(attempt))
            return
        self.scheduler.answered(held.ticket, [_finished(run)], self._events.now)
        self._end(held, End.WHOLE)

    def _expire(self, attempt: Attempt) -> None:
        """The deadline has come: what is written is the answer, if it is of use in part."""
        held = self._held[attempt]
        run = held.run
        cut = False
        if run is not None and held.upstream is not None:
            written = self._boxes[held.upstream.name].written(run)
            ask = attempt.ask
            may_be_cut = self._setup.scheduling.truncate_at_deadline and not ask.uncut
            cut = may_be_cut and not ask.stream and written > 0
        if cut:
            self._end(held, End.CUT)
        else:
            self._end(held, End.TIMED_OUT, status=RequestTimeout.status)

    def _end(self, held: _Held, end: End, *, status: int = 200) -> None:
        """It has ended, wherever it was. What it had is given back."""
        if held.upstream is None:
            del self._waiting[held.ticket]
            self.queue.remove(held.ticket)
            self.scheduler.left(held.ticket, self._events.now)
        else:
            if held.run is not None:
                self._boxes[held.upstream.name].leave(held.run)
            self._give_back(held)
        self._finish(held, end, status=status)
        self._grant()

    def _finish(self, held: _Held, end: End, *, status: int = 200) -> None:
        attempt, run = held.attempt, held.run
        held.deadline.cancel()
        del self._held[attempt]
        if run is not None:
            attempt.evaluated = run.evaluated
            attempt.written = run.written
        attempt.finish(end, self._events.now, status=status)
        if end is not End.LEFT:
            # As in a task of its own: not before the slot it had is given to the next.
            self._events.at(self._events.now, lambda: attempt.done(attempt))

    # --- What the health check does -----------------------------------------

    def _keep_checking(self) -> None:
        """Ask the boxes what they hold, for as long as anything goes on."""
        if self._check is None and len(self._setup.models) > 1:
            self._check = self._events.at(self._events.now + UP_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._check = None
        for upstream in self.pool.upstreams:
            before = upstream.models
            upstream.found(self._probe(self._boxes[upstream.name]))
            if upstream.models != before:
                self.pool.changed()
        if self._held:
            self._keep_checking()
        self._grant()

    def _probe(self, box: Box) -> Probe:
        resident = box.resident
        return Probe(
            tuple([ModelInfo(id=model, loaded=model in resident) for model in self._setup.models])
        )

    # --- What must be true --------------------------------------------------

    def check(self) -> None:
        assert self.queue.qsize() == len(self._waiting) <= self._setup.queue.max_queue_size
        for upstream in self.pool.upstreams:
            assert 0 <= upstream.in_flight <= upstream.slots
        for ticket in self._waiting:
            free = self.pool.free_for(ticket.model, ticket.tried)
            assert free is None, "a slot is free beside one who waits for it"
        assert self.admission.places_held <= self._setup.scheduling.reservations_max

    def check_ended(self) -> None:
        assert not self._held
        assert not self._waiting
        assert not self.queue.qsize()
        assert all(upstream.in_flight == 0 for upstream in self.pool.upstreams)
        # Whoever came much later would find nothing that is left of anybody.
        forecast = self.admission.forecast(
            GenerateRequest(model=self._setup.models[0], messages=(Message(Role.USER, "?"),)),
            caller=ANONYMOUS,
            hints=NO_HINTS,
            ignored=(),
            now=self._events.now + 1e6,
        )
        assert forecast.position == 0, "something waits that has ended"
        assert forecast.wait_s == 0.0
        assert self.admission.places_held == 0


def _hints(attempt: Attempt) -> Hints:
    """As the headers of openai-python say it."""
    ask = attempt.ask
    return Hints(
        timeout_s=ask.timeout_s,
        priority=ask.priority,
        session=ask.session,
        retry_count=attempt.retries,
        fingerprint=ask.name.encode(),
    )


def _headers(error: GatewayError) -> Mapping[str, str]:
    """As `web/refusals.py` writes them."""
    headers: CIMultiDict[str] = CIMultiDict()
    say_when(error, headers)
    return headers


def _finished(run: Run) -> Finished:
    """As Ollama tells it."""
    ask = run.ask
    assert ask is not None
    assert run.ended_at is not None
    assert run.loaded_at is not None
    assert run.started_at is not None
    assert run.read_at is not None
    return Finished(
        FinishReason.STOP if ask.length == ask.natural else FinishReason.LENGTH,
        Usage(prompt=ask.prompt_tokens, completion=run.written),
        Timings(
            total_s=run.ended_at - run.submitted_at,
            load_s=run.loaded_at - run.submitted_at,
            prefill_s=run.read_at - run.started_at,
            decode_s=run.ended_at - run.read_at,
        ),
    )
