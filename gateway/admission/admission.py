"""The door: a ticket, or a refusal at once. Decides on values; waits for nothing.

Let in is only what can be answered in time. Who is refused is told when to come
back, each at a moment of its own, and has its place held until then.
"""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

import attrs

from gateway.admission.classes import class_of, flow_of
from gateway.admission.limits import Limits
from gateway.admission.reservations import Held, Place, Reservations
from gateway.backends.base import unsupported_as_written
from gateway.config.schema import Queue, Scheduling, Timeouts
from gateway.core.errors import (
    DeadlineUnmeetable,
    Overloaded,
    Promise,
    QueueFull,
    RateLimited,
    ShuttingDown,
    UnsupportedParameter,
)
from gateway.core.messages import Request
from gateway.core.ticket import Caller, Forecast, Hints, RequestRecord, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.prospects import Outlook
from gateway.scheduling.queue import RequestQueue
from gateway.scheduling.scheduler import Scheduler

EARLY_PART: Final = 0.5
"""Who comes back does so this part of its time before its turn. Then an estimate may
be wrong either way: its slot doesn't wait for it, nor is its own time over."""

EARLY_PART_MAX: Final = 0.8
"""As early as this where it saves a retry, since SDKs have few."""

STEP_PART: Final = 0.98
"""Of the longest Retry-After: what is left tells apart those who get the longest."""

SDK_RETRIES: Final = 2
"""How often openai-python and openai-node come back, unless told otherwise."""

RETRY_AFTER_MIN_S: Final = 0.05


@attrs.define(eq=False, kw_only=True)
class Decision:
    """What was decided of a request, and from what.

    Attributes:
        place: With which it came.
        crowded: The queue has no room for it.
        limited: Its caller has had what it may have; it is told that before all else.
    """

    ticket: Ticket
    outlook: Outlook
    held: Held
    place: Place | None
    crowded: bool
    limited: RateLimited | None

    @property
    def accepted(self) -> bool:
        fits = self.outlook.fits and self.outlook.ever and not self.crowded
        return fits and self.limited is None


@attrs.frozen(kw_only=True)
class Places:
    """Places in the line of those who were refused.

    Attributes:
        held: Now.
        returned: Whose clients came back in time, since the start.
        lost: Whose clients did not.
    """

    held: int = 0
    returned: int = 0
    lost: int = 0


class Admission:
    """Lets a request in when somebody can run it in time.

    Args:
        strict_params: Refuse a request with a parameter that nobody can honour.
        new_place: A fresh id that nobody can guess.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        queue: RequestQueue,
        scheduler: Scheduler,
        settings: Queue,
        scheduling: Scheduling,
        timeouts: Timeouts,
        strict_params: bool,
        new_place: Callable[[], str],
        limits: Limits,
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._scheduler = scheduler
        self._settings = settings
        self._scheduling = scheduling
        self._timeouts = timeouts
        self._strict_params = strict_params
        self._new_place = new_place
        self._limits = limits
        self._reservations = Reservations(places_max=scheduling.reservations_max)
        self._numbers = itertools.count()
        self.draining = False

    def change(
        self, *, settings: Queue, scheduling: Scheduling, timeouts: Timeouts, strict_params: bool
    ) -> None:
        """Decide by these from now on; as in the constructor."""
        self._settings = settings
        self._scheduling = scheduling
        self._timeouts = timeouts
        self._strict_params = strict_params
        self._reservations.places_max = scheduling.reservations_max

    @property
    def places_held(self) -> int:
        return len(self._reservations)

    def places(self, now: float) -> Places:
        """What has become of those that were refused."""
        self._reservations.forget_late(now)
        return Places(
            held=len(self._reservations),
            returned=self._reservations.returned,
            lost=self._reservations.lost,
        )

    def admit(
        self,
        request: Request,
        *,
        caller: Caller,
        hints: Hints,
        request_id: str,
        ignored: Collection[str],
        now: float,
    ) -> Ticket:
        """A ticket for the request. Whoever calls this owes `ended`.

        Args:
            ignored: Parameters that its dialect already could not honour.

        Raises:
            ShuttingDown: The daemon drains.
            ModelNotFound, UpstreamUnreachable: Nobody can run it.
            UnsupportedParameter: In strict mode.
            RateLimited: Its caller has had what it may have for now.
            QueueFull: It would have to wait, and too many do.
            DeadlineUnmeetable: It would not be answered in time.
        """
        decision = self._decide(
            request, caller=caller, hints=hints, request_id=request_id, ignored=ignored, now=now
        )
        if decision.limited is not None:
            raise decision.limited
        if not decision.accepted:
            raise self._refusal(decision, hints, now)
        if decision.place is not None:
            self._reservations.came(decision.place)
        decision.ticket.expected_wait_s = decision.outlook.start_s
        self._limits.take(decision.ticket, now)
        return decision.ticket

    def ended(self, ticket: Ticket, record: RequestRecord, now: float) -> None:
        """A request that was let in has ended; what it held of its caller's limits is settled."""
        self._limits.settle(ticket, record, now)

    def forecast(
        self,
        request: Request,
        *,
        caller: Caller,
        hints: Hints,
        ignored: Collection[str],
        now: float,
    ) -> Forecast:
        """What `admit` would decide; holds no place. Raises as it does, but for refusals."""
        decision = self._decide(
            request, caller=caller, hints=hints, request_id="", ignored=ignored, now=now
        )
        outlook = decision.outlook
        retry_after_s = None
        refused = ""
        if decision.limited is not None:
            refused = decision.limited.code
            retry_after_s = decision.limited.retry_after_s
        elif not decision.accepted:
            crowded = decision.crowded and outlook.ever
            refused = (QueueFull if crowded else DeadlineUnmeetable).code
            retry_after_s = self._retry_after_s(decision, hints) if outlook.ever else None
        return Forecast(
            refused=refused,
            wait_s=outlook.start_s,
            service_s=decision.ticket.cost.service_s,
            position=outlook.position,
            deadline_s=decision.ticket.deadline_at - now,
            retry_after_s=retry_after_s,
        )

    def timeout_s(self, hints: Hints) -> float:
        """How long a request may take: what is configured, or less if its client waits less."""
        timeout_s = self._timeouts.request_timeout_seconds
        return timeout_s if hints.timeout_s is None else min(timeout_s, hints.timeout_s)

    def _decide(
        self,
        request: Request,
        *,
        caller: Caller,
        hints: Hints,
        request_id: str,
        ignored: Collection[str],
        now: float,
    ) -> Decision:
        if self.draining:
            raise ShuttingDown(
                "The gateway is shutting down.",
                retry_after_s=self._timeouts.request_timeout_seconds / 4,
            )
        serving = self._pool.require(request.model)
        if self._strict_params:
            _require_honoured(request, ignored, serving)
        ticket = self._ticket(request, caller, hints, request_id, now)
        self._scheduler.price(ticket)
        place = self._place_of(ticket, hints, now)
        held = self._reservations.before(ticket.flow, ticket.priority, place, now)
        outlook = self._scheduler.outlook(
            ticket, now, held_s=held.work_s, flow_held_s=held.flow_work_s, held=held.count
        )
        crowded = self._queue.full() and (
            self._pool.free_for(request.model) is None or not self._queue.empty()
        )
        return Decision(
            ticket=ticket,
            outlook=outlook,
            held=held,
            place=place,
            crowded=crowded,
            limited=self._limits.refusal(ticket, now),
        )

    def _ticket(
        self, request: Request, caller: Caller, hints: Hints, request_id: str, now: float
    ) -> Ticket:
        return Ticket(
            request_id=request_id,
            number=next(self._numbers),
            caller=caller,
            request=request,
            arrived_at=now,
            deadline_at=now + self.timeout_s(hints),
            priority=class_of(request, caller, hints, self._scheduling.background_prompts),
            flow=flow_of(caller, hints),
            session=hints.session,
        )

    def _place_of(self, ticket: Ticket, hints: Hints, now: float) -> Place | None:
        """The place that was promised to it, if it comes back."""
        if not (hints.place or hints.retry_count) or not len(self._reservations):
            return None
        return self._reservations.find(_key(ticket, hints), hints.place, now)

    def _refusal(self, decision: Decision, hints: Hints, now: float) -> Overloaded:
        ticket, outlook = decision.ticket, decision.outlook
        whole_s = ticket.deadline_at - now
        if not outlook.ever:
            what = "first token" if ticket.request.stream else "whole answer"
            return DeadlineUnmeetable(
                f"The {what} would take about {outlook.needs_s:.0f} s here, even if nothing else"
                f" ran, and may take {whole_s:.3g} s. Send a shorter prompt, ask for fewer tokens,"
                " stream the answer, or allow more time."
            )
        after_s = self._retry_after_s(decision, hints)
        place = None
        if self._scheduling.reservations:
            place = self._reservations.hold(
                id=self._new_place(),
                key=_key(ticket, hints),
                flow=ticket.flow,
                priority=ticket.priority,
                work_s=ticket.cost.service_s,
                retry_count=hints.retry_count,
                after_s=after_s,
                former=decision.place,
                now=now,
            )
            if place is not None:
                after_s = place.returns_at - now
        promise = Promise(
            place=place.id if place else "", wait_s=outlook.start_s, position=outlook.position
        )
        if decision.crowded:
            return QueueFull(
                f"The queue is full ({self._settings.max_queue_size} requests are waiting)."
                f" Come back in {after_s:.1f} s.",
                retry_after_s=after_s,
                promise=promise,
            )
        return DeadlineUnmeetable(
            f"Its turn would come in about {outlook.start_s:.0f} s, and it may take"
            f" {whole_s:.3g} s in all. Come back in {after_s:.1f} s.",
            retry_after_s=after_s,
            promise=promise,
        )

    def _retry_after_s(self, decision: Decision, hints: Hints) -> float:
        """When to come back: a while before its turn, in as few steps as can be."""
        ticket, outlook = decision.ticket, decision.outlook
        each_s = ticket.cost.service_s / self._scheduler.slots(ticket)
        # Before that it would be refused again.
        least_s = outlook.needs_s - outlook.may_take_s
        if least_s <= 0.0:
            # It would be in time, but others would not: not before as much was done.
            least_s = each_s
        if decision.crowded:
            over = outlook.position - self._queue.bound + 1
            least_s = max(least_s, over * each_s)
        early = max(least_s, outlook.start_s - EARLY_PART_MAX * outlook.may_take_s)
        wanted = max(least_s, outlook.start_s - EARLY_PART * outlook.may_take_s)
        step_max_s = STEP_PART * self._settings.retry_after_max_seconds
        steps = max(1, math.ceil(early / step_max_s))
        if hints.retry_count is not None:
            # More than it has left would be in vain: then as far as these reach.
            steps = min(steps, max(1, SDK_RETRIES - hints.retry_count))
        return max(RETRY_AFTER_MIN_S, min(wanted / steps, step_max_s))

    def queue_full(self) -> QueueFull:
        """The refusal of a request that lost its place to a race."""
        return QueueFull("The queue is full.", retry_after_s=RETRY_AFTER_MIN_S)


def _key(ticket: Ticket, hints: Hints) -> tuple[str, bytes]:
    return ticket.caller.name, hints.fingerprint


def _require_honoured(
    request: Request, ignored: Collection[str], serving: Sequence[Upstream]
) -> None:
    """Somebody must honour every parameter."""
    dropped = [unsupported_as_written(upstream.backend, request) for upstream in serving]
    missing = [*ignored, *min(dropped, key=len)]
    if missing:
        raise UnsupportedParameter(
            f"Not supported here: {', '.join(missing)}. (The gateway runs with strict_params.)",
            param=missing[0],
        )
