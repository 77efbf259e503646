"""What letting one more request in would mean, and when those get their turn who wait. Pure."""

import math
from typing import Final

import attrs

from gateway.config.schema import Scheduling
from gateway.core.messages import EmbedRequest
from gateway.core.ticket import Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.agenda import Ahead
from gateway.scheduling.lane import Lane
from gateway.scheduling.prefix import chain_of, chars_of
from gateway.scheduling.rules.model_affinity import CHEAP_LOAD_S
from gateway.scheduling.rules.prefix_affinity import GAIN_CHARS
from gateway.scheduling.state import State

STALE_S: Final = 300.0
"""A price that no answer has confirmed for so long is a guess again."""


@attrs.define(eq=False, kw_only=True)
class Outlook:
    """What would become of a request that is let in now.

    Attributes:
        start_s: Until its slot.
        needs_s: Until its promise is kept: the whole answer, or the first token of
            a stream, with the safety that is wanted.
        may_take_s: The part that it may fill of the time until its deadline.
        fits: Whether it may be let in.
        ever: Whether it would be if nothing else were there.
        position: How many are before it.
    """

    start_s: float
    needs_s: float
    may_take_s: float
    fits: bool
    ever: bool
    position: int


@attrs.frozen(kw_only=True)
class Turn:
    """When a waiting request gets its slot.

    Attributes:
        why: What it waits for, in words.
    """

    position: int
    start_s: float
    why: str


class Prospects:
    """Looks at the state, and changes nothing in it.

    Args:
        newcomers: Whether there can be more than one caller.
    """

    def __init__(self, state: State, settings: Scheduling, *, newcomers: bool) -> None:
        self._state = state
        self._settings = settings
        self._newcomers = newcomers

    def price(self, ticket: Ticket) -> None:
        """Fill in what the ticket is expected to cost, and when it is due."""
        request = ticket.request
        if isinstance(request, EmbedRequest):
            # Nothing of it stays in a slot for the next.
            ticket.prompt_chars = chars_of(request)
        else:
            ticket.chain = chain_of(request)
            ticket.prompt_chars = ticket.chain[-1][0] if ticket.chain else 0
        upstreams = self._state.plan.lane(ticket).upstreams
        cached = max([self._state.cached_chars(upstream, ticket) for upstream in upstreams])
        if len(self._state.plan):
            # Others come before it: of what slots hold now, that will be there in any order
            # which all of them have too.
            cached = min(cached, self._state.plan.common_chars(request.model, ticket.chain))
        self._set_cost(ticket, upstreams[0], cached)

    def outlook(
        self,
        ticket: Ticket,
        now: float,
        *,
        held_s: float = 0.0,
        flow_held_s: float = 0.0,
        held: float = 0.0,
    ) -> Outlook:
        """What letting it in would mean, for itself and for those who were let in before.

        Args:
            held_s, flow_held_s: Work of places held before it, all and of its own flow.
            held: How many such places.
        """
        cost = ticket.cost
        own_s = cost.prefill_s if ticket.request.stream else cost.service_s
        lane = self._state.plan.lane(ticket)
        load_s = self._state.load_s(lane, ticket.model)
        whole_s = ticket.deadline_at - now
        ever = (
            own_s + load_s <= whole_s
            or not self._settings.deadlines
            or not self._confident(lane.upstreams[0], ticket, now)
        )
        if not len(lane.agenda) and lane.free:
            # Nobody waits: a slot that stays free for who may come back serves nobody. And
            # whoever waits beside this lane could not use it.
            return Outlook(
                start_s=0.0,
                needs_s=load_s + own_s,
                may_take_s=whole_s,
                fits=ever,
                ever=ever,
                position=0,
            )
        if lane.wants(ticket.model):
            load_s = 0.0  # It is among what comes before.
        slots = lane.slots
        busy = self._state.busy(lane, now)
        line_s = busy.work_s + lane.work_s(ticket.priority) + held_s
        waits_s = line_s
        if self._settings.fairness:
            share = self._state.accounts.share(ticket.flow, ticket.caller.weight, now)
            own_line_s = lane.flow_work_s(ticket.flow) + flow_held_s
            ahead_s = self._state.accounts.ahead_s(ticket.flow)
            first_s = min(own_line_s, max(0.0, -ahead_s))  # before all others
            shared_s = own_line_s - first_s + max(0.0, ahead_s)
            own_waits_s = busy.work_s + first_s + shared_s / max(share, 1e-3)
            line_s = min(line_s, own_waits_s)
            # What it has waiting may not need more than its share: the rest is for those
            # who share with it, and would else be taken by whoever asks most often.
            waits_s = own_waits_s if own_line_s + max(0.0, ahead_s) > 0.0 else line_s
        start_s = line_s / slots
        variance_s2 = (busy.variance_s2 + lane.agenda.variance_s2) / (slots * slots)
        if not ticket.request.stream:
            variance_s2 += cost.spread_s * cost.spread_s
        own_s += load_s + self._settings.safety * math.sqrt(variance_s2)
        needs_s = max(start_s, waits_s / slots) + own_s
        may_take_s = whole_s - self._kept_free_s(lane, ticket, whole_s)
        fits = needs_s <= may_take_s
        if fits and self._settings.deadlines:
            # The rules may have to give way to all that is due before.
            latest_s = (busy.work_s + lane.agenda.ahead(ticket.due_at).work_s) / slots + own_s
            if latest_s > whole_s:
                fits, needs_s = False, latest_s
        return Outlook(
            start_s=start_s,
            needs_s=needs_s,
            may_take_s=may_take_s,
            fits=not self._settings.deadlines or (fits and self._all_kept(ticket, lane, busy, now)),
            ever=ever,
            position=lane.count(ticket.priority) + round(held),
        )

    def turn(self, ticket: Ticket, now: float) -> Turn:
        """When a ticket that waits would get its slot, if nobody else came."""
        lane = self._state.plan.lane(ticket)
        position, ahead_s = lane.agenda.turn_of(ticket)
        work_s = self._state.busy(lane, now).work_s + ahead_s
        loaded = not self._state.load_s(lane, ticket.model)
        return Turn(
            position=position,
            start_s=work_s / lane.slots,
            why="a slot" if loaded else "a slot, then its model has to be loaded",
        )

    def slots(self, ticket: Ticket) -> int:
        """How many slots could run it."""
        return self._state.plan.lane(ticket).slots

    def _all_kept(self, ticket: Ticket, own: Lane, busy: Ahead, now: float) -> bool:
        """Whether everybody who was let in before stays in time.

        Args:
            own, busy: Its lane, and what that still has to do.
        """
        service_s, model = ticket.cost.service_s, ticket.model
        for lane, part in self._state.plan.lanes_beside(own):
            load_s = 0.0 if lane.wants(model) else self._state.load_s(lane, model)
            kept = lane.agenda.keeps(
                service_s * part + load_s,
                due_at=ticket.due_at,
                slots=lane.slots,
                busy=busy if lane is own else self._state.busy(lane, now),
                safety=self._settings.safety,
                now=now,
            )
            if not kept:
                return False
        return True

    def _kept_free_s(self, lane: Lane, ticket: Ticket, whole_s: float) -> float:
        """The part of the time before its deadline that this request may not fill."""
        settings = self._settings
        part = 0.0
        if settings.priorities and ticket.priority is ticket.priority.BATCH:
            part = 1.0 - settings.batch_share
        elif settings.fairness and self._newcomers and self._is_served(lane, ticket.flow):
            part = settings.newcomer_share
        free_s = part * whole_s
        if (settings.model_affinity and self._models_compete(lane, ticket.model)) or (
            settings.prefix_affinity and self._prompts_compete(ticket)
        ):
            # Room for the order to stay with one model, or one conversation, for a while.
            free_s = max(free_s, min(settings.affinity_wait_max_seconds, whole_s / 3))
        return free_s

    def _is_served(self, lane: Lane, flow: str) -> bool:
        """Whether a flow has something waiting."""
        return lane.flow_work_s(flow) > 0.0

    def _models_compete(self, lane: Lane, model: str) -> bool:
        return any(
            other != model
            and max(self._state.load_cost_s(lane, other), self._state.load_cost_s(lane, model))
            > CHEAP_LOAD_S
            for other in lane.models
        )

    def _prompts_compete(self, ticket: Ticket) -> bool:
        """Whether others wait whose prompts begin otherwise, and it is long enough to matter."""
        chars = ticket.prompt_chars
        if not ticket.chain or chars < GAIN_CHARS or not len(self._state.plan):
            return False
        return self._state.plan.common_chars(ticket.model, ticket.chain) < chars - GAIN_CHARS

    def _set_cost(self, ticket: Ticket, upstream: Upstream, cached_chars: int) -> None:
        concurrency = upstream.sure_slots if len(self._state.plan) else upstream.in_flight + 1
        concurrency = max(1, min(concurrency, upstream.sure_slots))
        ticket.cost = self._state.price(ticket, upstream, cached_chars, concurrency=concurrency)
        ticket.priced_for = (upstream.name, cached_chars, concurrency)
        ticket.due_at = ticket.deadline_at
        if ticket.request.stream:
            ticket.due_at += ticket.cost.decode_s

    def _confident(self, upstream: Upstream, ticket: Ticket, now: float) -> bool:
        """Whether a price is sure enough to say never.

        One that nothing has confirmed for long is not: who refuses everybody learns
        nothing, and would never see that a machine has become faster.
        """
        if STALE_S < now - self._state.engine(upstream).observed_at < math.inf:
            return False
        name = upstream.named(ticket.model)
        if isinstance(ticket.request, EmbedRequest):
            return self._state.costs.confident_of_reading(upstream.name, name)
        return self._state.costs.confident(upstream.name, name)
