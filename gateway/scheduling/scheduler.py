"""The plan: what runs, what waits, and what one more request would mean. Pure.

Everything that decides is here or below, on values and `now`; the queue and the
worker are the asyncio around it, and a simulator can run it as it is.

Two orders meet. By due times every promise is kept if it can be (`agenda.py`);
by the rules (`order.py`) callers get their shares and nothing is loaded twice.
The rules decide, as long as the plan by due times stays possible.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.config.schema import Scheduling
from gateway.core.messages import Embeddings, Finished, FinishReason, GenerateRequest, totals
from gateway.core.ticket import Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.choice import Choice
from gateway.scheduling.estimate import CostModel, together
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.microbatch import BatchBounds, companions
from gateway.scheduling.order import Order, Policy
from gateway.scheduling.prefix import chain_of
from gateway.scheduling.prospects import Outlook, Prospects, Turn
from gateway.scheduling.state import Running, State

OBSERVED_EVERY_S: Final = 0.02
"""On an engine so fast that it ends requests more often than this, a sample will do."""


class Scheduler:
    """Owns the state: what happens is told to it, and it tells what follows.

    Args:
        max_tokens: Of an answer whose request names no limit.
        newcomers: Whether there can be more than one caller.
        order: The order of service; as the settings say, if None.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        costs: CostModel,
        settings: Scheduling,
        max_tokens: int,
        newcomers: bool,
        order: Policy | None = None,
    ) -> None:
        self.costs = costs
        self.accounts = Accounts(quantum_s=settings.fairness_quantum_seconds)
        self._settings = settings
        self._order: Policy = order or Order(settings)
        self._state = State(pool=pool, costs=costs, accounts=self.accounts, max_tokens=max_tokens)
        self._prospects = Prospects(self._state, settings, newcomers=newcomers)
        self._choice = Choice(self._state, self._order, promises=settings.deadlines)
        pool.listeners.append(self._pool_changed)

    def change(self, settings: Scheduling, *, max_tokens: int, newcomers: bool) -> None:
        """Decide by these from now on; as in the constructor. What was promised stays promised."""
        if settings != self._settings:
            self._settings = settings
            self._order = Order(settings)
        self.accounts.quantum_s = settings.fairness_quantum_seconds
        self._state.max_tokens = max_tokens
        self._prospects = Prospects(self._state, settings, newcomers=newcomers)
        self._choice = Choice(self._state, self._order, promises=settings.deadlines)

    # --- What would be --------------------------------------------------------

    def price(self, ticket: Ticket) -> None:
        """Fill in what the ticket is expected to cost, and when it is due."""
        self._prospects.price(ticket)

    def prompt_tokens(self, request: GenerateRequest, upstream: Upstream) -> int:
        """About how many tokens its prompt would have there, judged by those that ran."""
        chain = chain_of(request)
        return self.costs.prompt_tokens(
            upstream.named(request.model),
            chars=chain[-1][0] if chain else 0,
            messages=len(request.messages) + len(request.prompts),
        )

    def outlook(
        self,
        ticket: Ticket,
        now: float,
        *,
        held_s: float = 0.0,
        flow_held_s: float = 0.0,
        held: float = 0.0,
    ) -> Outlook:
        """See `Prospects.outlook`."""
        return self._prospects.outlook(
            ticket, now, held_s=held_s, flow_held_s=flow_held_s, held=held
        )

    def turn(self, ticket: Ticket, now: float) -> Turn:
        """See `Prospects.turn`."""
        return self._prospects.turn(ticket, now)

    def slots(self, ticket: Ticket) -> int:
        """How many slots could run it."""
        return self._prospects.slots(ticket)

    def choose(self, tickets: Sequence[Ticket], now: float) -> Ticket:
        """See `Choice.choose`."""
        return self._choice.choose(tickets, now)

    def cached_chars(self, upstream: Upstream, ticket: Ticket) -> int:
        """How much of its prompt a slot of this upstream holds."""
        return self._state.cached_chars(upstream, ticket)

    # --- What happens -------------------------------------------------------

    def wait(self, ticket: Ticket, now: float) -> None:
        """It was let in and waits for a slot."""
        if ticket not in self._state.plan:
            self._state.accounts.arrived(ticket.flow, ticket.caller.weight, now)
            self._state.plan.add(ticket)
            self._review_slots(now)

    def left(self, ticket: Ticket, now: float) -> None:
        """It waits no more and got no slot."""
        if self._state.plan.remove(ticket):
            self._state.accounts.left(ticket.flow, now)

    def too_late(self, ticket: Ticket, now: float) -> bool:
        """Whether nothing of it could be there in time any more."""
        if now >= ticket.deadline_at:
            return True
        return self._settings.deadlines and now + ticket.cost.prefill_s / 2 > ticket.deadline_at

    def started(
        self, ticket: Ticket, upstream: Upstream, now: float, members: Sequence[Ticket] = ()
    ) -> None:
        """It has got a slot of this upstream, which counts as busy already.

        Args:
            members: Those who are computed in one call, where `ticket` is that call's own:
                any of them may be gone, and even be back, while the call goes on.
        """
        members = members or (ticket,)
        for member in members:
            if not self._state.plan.remove(member):
                self._state.accounts.arrived(member.flow, member.caller.weight, now)
        engine = self._state.engine(upstream)
        name = upstream.named(ticket.model)
        swaps = not self._state.has(upstream, ticket.model)
        load_s = self._state.costs.load_s(upstream.name, name) if swaps else 0.0
        cached = engine.took(name, ticket.chain, swaps=swaps)
        self._order.granted(ticket, now=now, load_s=load_s, cached_chars=cached)
        concurrency = max(1, upstream.in_flight)
        work = self._state.work(ticket, cached)
        cost = ticket.cost
        if len(members) > 1:
            work = together([self._state.work(member, 0) for member in members])
        if len(members) > 1 or ticket.priced_for != (upstream.name, cached, concurrency):
            cost = self._state.costs.price(upstream.name, name, work, concurrency=concurrency)
        running = self._state.running[ticket] = Running(
            upstream=upstream,
            model=name,
            started_at=now,
            slot_s=engine.occupancy.started(now),
            load_s=load_s,
            cost=cost,
            work=work,
            swaps=swaps,
            cached_chars=cached,
            shares=_shares(members),
        )
        for member, part in running.shares.items():
            self._state.accounts.charge(member.flow, running.expected_s * part)

    def running(self, ticket: Ticket) -> Running | None:
        """Where it runs, if it does."""
        return self._state.running.get(ticket)

    def answered(self, ticket: Ticket, ends: Sequence[Finished], now: float) -> None:
        """It has its whole answer: learn from what the engine tells of it."""
        running = self._state.running[ticket]
        upstream, engine = running.upstream, self._state.engine(running.upstream)
        usage, timings = totals(ends, n=ticket.request.n)
        seen_s = now - running.started_at
        together = engine.occupancy.mean_since(running.slot_s, seen_s, now)
        upstream.ran(ticket.model, timings.load_s)
        if now - engine.observed_at >= OBSERVED_EVERY_S or not self._state.costs.confident(
            upstream.name, running.model
        ):
            engine.observed_at = now
            self._state.costs.observe(
                upstream.name,
                running.model,
                running.work,
                concurrency=max(1, round(together)),
                usage=usage,
                timings=timings,
                capped=any(end.reason is FinishReason.LENGTH for end in ends),
                seen_s=seen_s,
            )
        if engine.learner is not None:
            engine.learner.observe(
                running.model,
                concurrency=together,
                timings=timings,
                tokens=usage.completion,
                seen_s=seen_s,
                now=now,
            )
            self._review_slots(now)

    def companions(
        self,
        ticket: Ticket,
        upstream: Upstream,
        waiting: Iterable[Ticket],
        bounds: BatchBounds,
        now: float,
    ) -> list[Ticket]:
        """Who comes along in the call of the one whose turn it is, with nobody else too late."""
        found = companions(ticket, waiting, bounds, now)
        if not found or not self._settings.deadlines:
            return found
        lane = self._state.plan.lane(ticket)
        busy_s, _ = self._state.left(lane, now)
        name = upstream.named(ticket.model)
        works = [self._state.work(member, 0) for member in (ticket, *found)]
        while found:
            cost = self._state.costs.price(
                upstream.name,
                name,
                together(works),
                concurrency=max(1, min(upstream.in_flight + 1, upstream.sure_slots)),
            )
            # Nobody has to come along: so here an estimate may also be wrong.
            cost_s = cost.service_s + self._settings.safety * cost.spread_s
            if lane.agenda.may_go_first(
                ticket, cost_s, slots=lane.slots, busy_s=busy_s, now=now, beside=found
            ):
                break
            found.pop()
            works.pop()
        return found

    def embedded(
        self, ticket: Ticket, embeddings: Embeddings, *, sent_at: float, now: float
    ) -> None:
        """The call in its slot has given all vectors: learn from how long the engine took."""
        running = self._state.running[ticket]
        upstream, load_s = running.upstream, embeddings.load_s or 0.0
        upstream.ran(ticket.model, embeddings.load_s)
        self._state.engine(upstream).observed_at = now
        self._state.costs.observe_reading(
            upstream.name,
            running.model,
            running.work,
            tokens=embeddings.prompt_tokens,
            seen_s=max(now - sent_at - load_s, 0.0),
        )

    def ended(self, ticket: Ticket, now: float) -> None:
        """It has given back its slot."""
        running = self._state.running.pop(ticket)
        self._state.engine(running.upstream).occupancy.ended(now)
        expected_s, measured_s = running.expected_s, now - running.started_at
        for member, part in running.shares.items():
            self._state.accounts.settle(member.flow, expected_s * part, measured_s * part)
            self._state.accounts.left(member.flow, now)

    def _review_slots(self, now: float) -> None:
        """Let those who learn how many they run at once try one more, or leave it."""
        for engine in self._state.engines.values():
            learner = engine.learner
            if learner is None:
                continue
            # Looking at all promises costs time; mostly there is nothing to decide.
            if learner.on_trial or learner.may_probe(len(self._state.plan), math.inf, now):
                learner.review(*self._pressure(engine.upstream, now), now)
            slots, sure = learner.slots, learner.sure_slots
            if (slots, sure) != (engine.upstream.slots, engine.upstream.sure_slots):
                engine.upstream.resize(slots, sure=sure)
                self._state.plan.rebuild()

    def _pressure(self, upstream: Upstream, now: float) -> tuple[int, float]:
        """How many wait for this upstream, and the time to spare before the tightest promise."""
        waiting, slack_s = 0, math.inf
        for lane in self._state.plan.lanes:
            if upstream in lane.upstreams:
                waiting = max(waiting, len(lane.agenda))
                busy_s = self._state.busy(lane, now).work_s
                slack_s = min(
                    slack_s, lane.agenda.slack_s(slots=lane.slots, busy_s=busy_s, now=now)
                )
        return waiting, slack_s

    def _pool_changed(self) -> None:
        self._state.plan.rebuild()
        self._state.forget_gone()
        for engine in self._state.engines.values():
            if not engine.upstream.up:
                engine.lost()


def _shares(members: Sequence[Ticket]) -> Mapping[Ticket, float]:
    """The part of one slot that each of them has used, by what they cost alone."""
    if len(members) == 1:
        return {members[0]: 1.0}
    whole_s = sum(member.cost.service_s for member in members)
    if whole_s <= 0.0:
        return {member: 1.0 / len(members) for member in members}
    return {member: member.cost.service_s / whole_s for member in members}
