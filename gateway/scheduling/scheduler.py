"""The plan: what runs, what waits, and what one more request would mean. Pure.

Everything that decides is here or below, on values and `now`; the queue and the
worker are the asyncio around it, and a simulator can run it as it is.

Two orders meet. By due times every promise is kept if it can be (`agenda.py`);
by the rules (`order.py`) callers get their shares and nothing is loaded twice.
The rules decide, as long as the plan by due times stays possible.
"""

import math
import operator
from collections.abc import Sequence, Set
from typing import Final

import attrs

from gateway.config.schema import Scheduling
from gateway.core.messages import Finished, FinishReason, Timings, Usage
from gateway.core.ticket import Cost, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.agenda import Ahead
from gateway.scheduling.engine import Engine
from gateway.scheduling.estimate import CostModel, Work
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.lane import Lane
from gateway.scheduling.order import Order, Policy
from gateway.scheduling.plan import Plan
from gateway.scheduling.prefix import chain_of, shared_chars
from gateway.scheduling.rules.model_affinity import CHEAP_LOAD_S
from gateway.scheduling.rules.prefix_affinity import GAIN_CHARS
from gateway.scheduling.rules.scene import Scene

_DUE_AT: Final = operator.attrgetter("due_at")


OBSERVED_EVERY_S: Final = 0.02
"""On an engine so fast that it ends requests more often than this, a sample will do."""


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


@attrs.define(eq=False, kw_only=True)
class Running:
    """A request in its slot.

    Attributes:
        model: In the engine's spelling.
        slot_s: Seconds of slots that its upstream had given when it began.
        load_s: What loading its model first is expected to take.
        cost: What it is expected to take after that.
        swaps: Its model has to be loaded first.
        cached_chars: Of its prompt, found in the slot.
    """

    upstream: Upstream
    model: str
    started_at: float
    slot_s: float
    load_s: float
    cost: Cost
    work: Work
    swaps: bool
    cached_chars: int

    @property
    def expected_s(self) -> float:
        """How long it holds the slot."""
        return self.load_s + self.cost.service_s


class Scheduler:
    """Owns the plan.

    Args:
        max_tokens: Of an answer whose request names no limit.
        newcomers: Whether there can be more than one caller.
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
        self._pool = pool
        self._settings = settings
        self._max_tokens = max_tokens
        self._newcomers = newcomers
        self._order: Policy = order or Order(settings)
        self._plan = Plan(pool)
        self._running: dict[Ticket, Running] = {}
        self._engines: dict[str, Engine] = {}
        pool.listeners.append(self._pool_changed)

    # --- What one more would mean -------------------------------------------

    def price(self, ticket: Ticket) -> None:
        """Fill in what the ticket is expected to cost, and when it is due."""
        request = ticket.request
        ticket.chain = chain_of(request)
        upstreams = self._plan.lane(ticket).upstreams
        cached = max([self.cached_chars(upstream, ticket) for upstream in upstreams])
        if len(self._plan):
            # Others come before it: of what slots hold now, that will be there in any order
            # which all of them have too.
            cached = min(cached, self._plan.common_chars(request.model, ticket.chain))
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
        lane = self._plan.lane(ticket)
        load_s = self._load_s(lane, ticket.model)
        whole_s = ticket.deadline_at - now
        ever = (
            own_s + load_s <= whole_s
            or not self._settings.deadlines
            or not self._confident(lane.upstreams[0], ticket.model)
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
        busy = self._busy(lane, now)
        line_s = busy.work_s + lane.work_s(ticket.priority) + held_s
        waits_s = line_s
        if self._settings.fairness:
            share = self.accounts.share(ticket.flow, ticket.caller.weight, now)
            own_line_s = lane.flow_work_s(ticket.flow) + flow_held_s
            ahead_s = self.accounts.ahead_s(ticket.flow)
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
        lane = self._plan.lane(ticket)
        position, ahead_s = lane.agenda.turn_of(ticket)
        work_s = self._busy(lane, now).work_s + ahead_s
        loaded = not self._load_s(lane, ticket.model)
        return Turn(
            position=position,
            start_s=work_s / lane.slots,
            why="a slot" if loaded else "a slot, then its model has to be loaded",
        )

    def slots(self, ticket: Ticket) -> int:
        """How many slots could run it."""
        return self._plan.lane(ticket).slots

    # --- What happens -------------------------------------------------------

    def wait(self, ticket: Ticket, now: float) -> None:
        """It was let in and waits for a slot."""
        if ticket not in self._plan:
            self.accounts.arrived(ticket.flow, ticket.caller.weight, now)
            self._plan.add(ticket)
            self._review_slots(now)

    def left(self, ticket: Ticket, now: float) -> None:
        """It waits no more and got no slot."""
        if self._plan.remove(ticket):
            self.accounts.left(ticket.flow, now)

    def choose(self, tickets: Sequence[Ticket], now: float) -> Ticket:
        """Who gets the slot that is free.

        Args:
            tickets: Those whom a free slot could run, in order of arrival; at least one.
        """
        if len(tickets) == 1:
            return tickets[0]
        scene = self._scene(now)
        chosen = self._order.choose(tickets, scene)
        if not self._settings.deadlines:
            return chosen
        lane = self._plan.lane(chosen)
        upstream = lane.upstreams[0]
        cost = self._price(
            chosen, upstream, scene.cached_chars(chosen), concurrency=upstream.sure_slots
        )
        cost_s = scene.swap_s(chosen) + cost.service_s
        # Without loads: those that others need don't come before who is due first.
        busy_s, _ = self._left(lane, now)
        if lane.agenda.may_go_first(chosen, cost_s, slots=lane.slots, busy_s=busy_s, now=now):
            return chosen
        return min(tickets, key=_DUE_AT)  # Of equals the first, which is the oldest.

    def too_late(self, ticket: Ticket, now: float) -> bool:
        """Whether nothing of it could be there in time any more."""
        if now >= ticket.deadline_at:
            return True
        return self._settings.deadlines and now + ticket.cost.prefill_s / 2 > ticket.deadline_at

    def started(self, ticket: Ticket, upstream: Upstream, now: float) -> None:
        """It has got a slot of this upstream, which counts as busy already."""
        if not self._plan.remove(ticket):
            self.accounts.arrived(ticket.flow, ticket.caller.weight, now)
        engine = self._engine(upstream)
        load_s = self._swap_s(upstream, ticket)
        swaps = not self._has(upstream, ticket.model)
        name = upstream.named(ticket.model)
        cached = engine.took(name, ticket.chain, swaps=swaps)
        self._order.granted(ticket, now=now, load_s=load_s, cached_chars=cached)
        concurrency = max(1, upstream.in_flight)
        work = self._work(ticket, cached)
        cost = ticket.cost
        if ticket.priced_for != (upstream.name, cached, concurrency):
            cost = self.costs.price(upstream.name, name, work, concurrency=concurrency)
        running = self._running[ticket] = Running(
            upstream=upstream,
            model=name,
            started_at=now,
            slot_s=engine.occupancy.started(now),
            load_s=load_s,
            cost=cost,
            work=work,
            swaps=swaps,
            cached_chars=cached,
        )
        self.accounts.charge(ticket.flow, running.expected_s)

    def running(self, ticket: Ticket) -> Running | None:
        """Where it runs, if it does."""
        return self._running.get(ticket)

    def answered(self, ticket: Ticket, ends: Sequence[Finished], now: float) -> None:
        """It has its whole answer: learn from what the engine tells of it."""
        running = self._running[ticket]
        upstream, engine = running.upstream, self._engine(running.upstream)
        usage, timings = _summed(ends)
        seen_s = now - running.started_at
        together = engine.occupancy.mean_since(running.slot_s, seen_s, now)
        upstream.ran(ticket.model, timings.load_s)
        if now - engine.observed_at >= OBSERVED_EVERY_S or not self.costs.confident(
            upstream.name, running.model
        ):
            engine.observed_at = now
            self.costs.observe(
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

    def ended(self, ticket: Ticket, now: float) -> None:
        """It has given back its slot."""
        running = self._running.pop(ticket)
        self._engine(running.upstream).occupancy.ended(now)
        self.accounts.settle(ticket.flow, running.expected_s, now - running.started_at)
        self.accounts.left(ticket.flow, now)

    # --- Slots --------------------------------------------------------------

    def _engine(self, upstream: Upstream) -> Engine:
        engine = self._engines.get(upstream.name)
        if engine is None:
            engine = self._engines[upstream.name] = Engine(upstream)
        return engine

    def _review_slots(self, now: float) -> None:
        """Let those who learn how many they run at once try one more, or leave it."""
        for engine in self._engines.values():
            learner = engine.learner
            if learner is None:
                continue
            # Looking at all promises costs time; mostly there is nothing to decide.
            if learner.on_trial or learner.may_probe(len(self._plan), math.inf, now):
                learner.review(*self._pressure(engine.upstream, now), now)
            slots, sure = learner.slots, learner.sure_slots
            if (slots, sure) != (engine.upstream.slots, engine.upstream.sure_slots):
                engine.upstream.resize(slots, sure=sure)
                self._plan.rebuild()

    def _pressure(self, upstream: Upstream, now: float) -> tuple[int, float]:
        """How many wait for this upstream, and the time to spare before the tightest promise."""
        waiting, slack_s = 0, math.inf
        for lane in self._plan.lanes:
            if upstream in lane.upstreams:
                waiting = max(waiting, len(lane.agenda))
                busy_s = self._busy(lane, now).work_s
                slack_s = min(
                    slack_s, lane.agenda.slack_s(slots=lane.slots, busy_s=busy_s, now=now)
                )
        return waiting, slack_s

    def _pool_changed(self) -> None:
        self._plan.rebuild()
        for engine in self._engines.values():
            if not engine.upstream.up:
                engine.lost()

    # --- What is promised ---------------------------------------------------

    def _busy(self, lane: Lane, now: float) -> Ahead:
        """What the lane's slots still have to do, and the loads before what waits."""
        work_s, variance_s2 = self._left(lane, now)
        for model in lane.models:
            work_s += self._load_s(lane, model)
        return Ahead(work_s, variance_s2)

    def _left(self, lane: Lane, now: float) -> tuple[float, float]:
        """What runs in the lane's slots: seconds that are left of it, and their variance."""
        work_s = variance_s2 = 0.0
        for running in self._running.values():
            if running.upstream in lane.upstreams:
                work_s += self._left_of(running, now)
                variance_s2 += running.cost.spread_s * running.cost.spread_s
        return work_s, variance_s2

    def _left_of(self, running: Running, now: float) -> float:
        so_far_s = now - running.started_at - running.load_s
        if so_far_s <= 0.0:
            return running.cost.service_s - so_far_s
        return self.costs.left_s(
            running.upstream.name,
            running.model,
            running.work,
            running.cost,
            so_far_s,
            concurrency=running.upstream.sure_slots,
        )

    def _all_kept(self, ticket: Ticket, own: Lane, busy: Ahead, now: float) -> bool:
        """Whether everybody who was let in before stays in time.

        Args:
            own, busy: Its lane, and what that still has to do.
        """
        service_s, model = ticket.cost.service_s, ticket.model
        for lane, part in self._plan.lanes_beside(own):
            load_s = 0.0 if lane.wants(model) else self._load_s(lane, model)
            kept = lane.agenda.keeps(
                service_s * part + load_s,
                due_at=ticket.due_at,
                slots=lane.slots,
                busy=busy if lane is own else self._busy(lane, now),
                safety=self._settings.safety,
                now=now,
            )
            if not kept:
                return False
        return True

    # --- Time that is kept free ---------------------------------------------

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
            and max(self._load_cost_s(lane, other), self._load_cost_s(lane, model)) > CHEAP_LOAD_S
            for other in lane.models
        )

    def _prompts_compete(self, ticket: Ticket) -> bool:
        """Whether others wait whose prompts begin otherwise, and it is long enough to matter."""
        chars = ticket.chain[-1][0] if ticket.chain else 0
        if chars < GAIN_CHARS or not len(self._plan):
            return False
        return self._plan.common_chars(ticket.model, ticket.chain) < chars - GAIN_CHARS

    # --- Costs --------------------------------------------------------------

    def _set_cost(self, ticket: Ticket, upstream: Upstream, cached_chars: int) -> None:
        concurrency = upstream.sure_slots if len(self._plan) else upstream.in_flight + 1
        concurrency = max(1, min(concurrency, upstream.sure_slots))
        ticket.cost = self._price(ticket, upstream, cached_chars, concurrency=concurrency)
        ticket.priced_for = (upstream.name, cached_chars, concurrency)
        ticket.due_at = ticket.deadline_at
        if ticket.request.stream:
            ticket.due_at += ticket.cost.decode_s

    def _price(
        self, ticket: Ticket, upstream: Upstream, cached_chars: int, *, concurrency: int
    ) -> Cost:
        name = upstream.named(ticket.model)
        work = self._work(ticket, cached_chars)
        return self.costs.price(upstream.name, name, work, concurrency=concurrency)

    def _work(self, ticket: Ticket, cached_chars: int) -> Work:
        request = ticket.request
        return Work(
            prompt_chars=ticket.chain[-1][0] if ticket.chain else 0,
            messages=len(request.messages),
            cached_chars=cached_chars,
            max_tokens=request.max_tokens or self._max_tokens,
            answers=request.n,
        )

    def _load_s(self, lane: Lane, model: str) -> float:
        """What it takes until a slot of the lane has the model, beyond what runs there."""
        for upstream in lane.upstreams:
            if self._has(upstream, model):
                return 0.0
        return self._load_cost_s(lane, model)

    def _load_cost_s(self, lane: Lane, model: str) -> float:
        upstream = lane.upstreams[0]
        return self.costs.load_s(upstream.name, upstream.named(model))

    def _swap_s(self, upstream: Upstream, ticket: Ticket) -> float:
        if self._has(upstream, ticket.model):
            return 0.0
        return self.costs.load_s(upstream.name, upstream.named(ticket.model))

    def _has(self, upstream: Upstream, model: str) -> bool:
        """Whether a model is in memory there, or being loaded for what runs."""
        if upstream.holds(model):
            return True
        name = upstream.named(model)
        return any(
            running.swaps and running.upstream is upstream and running.model == name
            for running in self._running.values()
        )

    def _confident(self, upstream: Upstream, model: str) -> bool:
        return self.costs.confident(upstream.name, upstream.named(model))

    # --- What is there ------------------------------------------------------

    def cached_chars(self, upstream: Upstream, ticket: Ticket) -> int:
        """How much of its prompt a slot of this upstream holds."""
        return self._engine(upstream).cached_chars(upstream.named(ticket.model), ticket.chain)

    def _scene(self, now: float) -> Scene:
        """Before a choice: a ticket would get the best of the slots that are free.

        The rules ask for every ticket, but most want the same few models: what the
        slots hold of a model is looked up once.
        """
        swaps_s: dict[str, float] = {}
        marks: dict[str, list[Set[int]]] = {}

        def swap_s(ticket: Ticket) -> float:
            if ticket.tried:
                return self._least_swap_s(ticket)
            model = ticket.request.model
            known = swaps_s.get(model)
            if known is None:
                known = swaps_s[model] = self._least_swap_s(ticket)
            return known

        def cached_chars(ticket: Ticket) -> int:
            if ticket.tried:
                held = self._free_marks(ticket)
            else:
                model = ticket.request.model
                known = marks.get(model)
                if known is None:
                    known = marks[model] = self._free_marks(ticket)
                held = known
            if len(held) == 1:
                return shared_chars(held[0], ticket.chain)
            return max([shared_chars(one, ticket.chain) for one in held], default=0)

        def told_apart(ticket: Ticket) -> bool:
            if ticket.tried:
                return True
            held = self._free_marks(ticket)
            return len(held) != 1 or self._plan.told_apart(ticket.model, held[0])

        def reads_s(ticket: Ticket) -> float:
            upstream = self._plan.lane(ticket).upstreams[0]
            cost = self._price(
                ticket, upstream, cached_chars(ticket), concurrency=upstream.sure_slots
            )
            return cost.prefill_s

        return Scene(
            now=now,
            swap_s=swap_s,
            cached_chars=cached_chars,
            told_apart=told_apart,
            reads_s=reads_s,
            accounts=self.accounts,
        )

    def _least_swap_s(self, ticket: Ticket) -> float:
        return min([self._swap_s(upstream, ticket) for upstream in self._free(ticket)], default=0.0)

    def _free_marks(self, ticket: Ticket) -> list[Set[int]]:
        """What the upstreams with a free slot hold of its model, the marks of each."""
        return [
            self._engine(upstream).marks(upstream.named(ticket.model))
            for upstream in self._free(ticket)
        ]

    def _free(self, ticket: Ticket) -> list[Upstream]:
        serving = self._pool.serving(ticket.model, ticket.tried)
        return [upstream for upstream in serving if upstream.free > 0]


def _summed(ends: Sequence[Finished]) -> tuple[Usage, Timings]:
    """Of all answers to one request."""
    usage, timings = ends[0].usage, ends[0].timings
    for end in ends[1:]:
        usage, timings = usage + end.usage, timings + end.timings
    return usage, timings
