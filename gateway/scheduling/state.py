"""What runs and what waits, and what that costs as things are. Pure."""

from collections.abc import Mapping

import attrs

from gateway.core.messages import EmbedRequest
from gateway.core.ticket import Cost, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.agenda import Ahead
from gateway.scheduling.engine import Engine
from gateway.scheduling.estimate import CostModel, Work
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.lane import Lane
from gateway.scheduling.plan import Plan


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
        shares: Those whose slot it is, each with its part of it: more than one
            where several requests are computed in one call.
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
    shares: Mapping[Ticket, float]

    @property
    def expected_s(self) -> float:
        """How long it holds the slot."""
        return self.load_s + self.cost.service_s


class State:
    """What the scheduler's parts share. Only the scheduler itself changes it.

    Attributes:
        plan: What waits.
        running: What has a slot.
        max_tokens: Of an answer whose request names no limit.
    """

    def __init__(
        self, *, pool: Pool, costs: CostModel, accounts: Accounts, max_tokens: int
    ) -> None:
        self.pool = pool
        self.costs = costs
        self.accounts = accounts
        self.max_tokens = max_tokens
        self.plan = Plan(pool)
        self.running: dict[Ticket, Running] = {}
        # Not by name: another one may take an upstream's place while requests run on the old.
        self.engines: dict[Upstream, Engine] = {}

    def engine(self, upstream: Upstream) -> Engine:
        engine = self.engines.get(upstream)
        if engine is None:
            engine = self.engines[upstream] = Engine(upstream)
        return engine

    def forget_gone(self) -> None:
        """Upstreams that are gone and idle need no engine any more."""
        there = self.pool.upstreams
        gone = [each for each in self.engines if each not in there and not each.in_flight]
        for upstream in gone:
            del self.engines[upstream]

    def cached_chars(self, upstream: Upstream, ticket: Ticket) -> int:
        """How much of its prompt a slot of this upstream holds."""
        return self.engine(upstream).cached_chars(upstream.named(ticket.model), ticket.chain)

    def busy(self, lane: Lane, now: float) -> Ahead:
        """What the lane's slots still have to do, and the loads before what waits."""
        work_s, variance_s2 = self.left(lane, now)
        for model in lane.models:
            work_s += self.load_s(lane, model)
        return Ahead(work_s, variance_s2)

    def left(self, lane: Lane, now: float) -> tuple[float, float]:
        """What runs in the lane's slots: seconds that are left of it, and their variance."""
        work_s = variance_s2 = 0.0
        for running in self.running.values():
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

    def price(
        self, ticket: Ticket, upstream: Upstream, cached_chars: int, *, concurrency: int
    ) -> Cost:
        name = upstream.named(ticket.model)
        work = self.work(ticket, cached_chars)
        return self.costs.price(upstream.name, name, work, concurrency=concurrency)

    def work(self, ticket: Ticket, cached_chars: int) -> Work:
        request = ticket.request
        if isinstance(request, EmbedRequest):
            return Work(
                prompt_chars=ticket.prompt_chars,
                messages=len(request.inputs),
                cached_chars=0,
                max_tokens=1,
                answers=0,
            )
        return Work(
            prompt_chars=ticket.prompt_chars,
            messages=len(request.messages) + len(request.prompts),
            cached_chars=cached_chars,
            max_tokens=request.max_tokens or self.max_tokens,
            answers=request.answers,
        )

    def load_s(self, lane: Lane, model: str) -> float:
        """What it takes until a slot of the lane has the model, beyond what runs there."""
        for upstream in lane.upstreams:
            if self.has(upstream, model):
                return 0.0
        return self.load_cost_s(lane, model)

    def load_cost_s(self, lane: Lane, model: str) -> float:
        upstream = lane.upstreams[0]
        return self.costs.load_s(upstream.name, upstream.named(model))

    def swap_s(self, upstream: Upstream, ticket: Ticket) -> float:
        if self.has(upstream, ticket.model):
            return 0.0
        return self.costs.load_s(upstream.name, upstream.named(ticket.model))

    def has(self, upstream: Upstream, model: str) -> bool:
        """Whether a model is in memory there, or being loaded for what runs."""
        if upstream.holds(model):
            return True
        name = upstream.named(model)
        return any(
            running.swaps and running.upstream is upstream and running.model == name
            for running in self.running.values()
        )
