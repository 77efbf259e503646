"""Who gets the slot that is free: by the rules, as long as every promise stays possible. Pure."""

import operator
from collections.abc import Sequence, Set
from typing import Final

from gateway.core.ticket import Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.order import Policy
from gateway.scheduling.prefix import shared_chars
from gateway.scheduling.rules.scene import Scene
from gateway.scheduling.state import State

_DUE_AT: Final = operator.attrgetter("due_at")


class Choice:
    """Asks the policy, and the plan whether it may have its way.

    Args:
        promises: Whether deadlines count.
    """

    def __init__(self, state: State, policy: Policy, *, promises: bool) -> None:
        self._state = state
        self._policy = policy
        self._promises = promises

    def choose(self, tickets: Sequence[Ticket], now: float) -> Ticket:
        """Who gets the slot that is free.

        Args:
            tickets: Those whom a free slot could run, in order of arrival; at least one.
        """
        if len(tickets) == 1:
            return tickets[0]
        scene = self._scene(now)
        chosen = self._policy.choose(tickets, scene)
        if not self._promises:
            return chosen
        lane = self._state.plan.lane(chosen)
        upstream = lane.upstreams[0]
        cost = self._state.price(
            chosen, upstream, scene.cached_chars(chosen), concurrency=upstream.sure_slots
        )
        cost_s = scene.swap_s(chosen) + cost.service_s
        # Without loads: those that others need don't come before who is due first.
        busy_s, _ = self._state.left(lane, now)
        if lane.agenda.may_go_first(chosen, cost_s, slots=lane.slots, busy_s=busy_s, now=now):
            return chosen
        return min(tickets, key=_DUE_AT)  # Of equals the first, which is the oldest.

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

        def held_for(ticket: Ticket) -> list[Set[int]]:
            if ticket.tried:
                return self._free_marks(ticket)
            model = ticket.request.model
            known = marks.get(model)
            if known is None:
                known = marks[model] = self._free_marks(ticket)
            return known

        def cached_chars(ticket: Ticket) -> int:
            held = held_for(ticket)
            if len(held) == 1:
                return shared_chars(held[0], ticket.chain)
            return max([shared_chars(one, ticket.chain) for one in held], default=0)

        def told_apart(ticket: Ticket) -> bool:
            if ticket.tried:
                return True
            held = held_for(ticket)
            return len(held) != 1 or self._state.plan.told_apart(ticket.model, held[0])

        def reads_s(ticket: Ticket) -> float:
            upstream = self._state.plan.lane(ticket).upstreams[0]
            cost = self._state.price(
                ticket, upstream, cached_chars(ticket), concurrency=upstream.sure_slots
            )
            return cost.prefill_s

        return Scene(
            now=now,
            swap_s=swap_s,
            cached_chars=cached_chars,
            told_apart=told_apart,
            reads_s=reads_s,
            accounts=self._state.accounts,
        )

    def _least_swap_s(self, ticket: Ticket) -> float:
        return min(
            [self._state.swap_s(upstream, ticket) for upstream in self._free(ticket)], default=0.0
        )

    def _free_marks(self, ticket: Ticket) -> list[Set[int]]:
        """What the upstreams with a free slot hold of its model, the marks of each."""
        return [
            self._state.engine(upstream).marks(upstream.named(ticket.model))
            for upstream in self._free(ticket)
        ]

    def _free(self, ticket: Ticket) -> list[Upstream]:
        serving = self._state.pool.serving(ticket.model, ticket.tried)
        return [upstream for upstream in serving if upstream.room_for(ticket.model)]
