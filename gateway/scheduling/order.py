"""Who goes next, among those for whom a slot is free. Pure.

Each rule narrows the tickets to those that it prefers, from the one that must
not give way to the one that may; among what is left the oldest goes.

1. Urgency: who must not wait for whom.
2. Shares: who has had less than its part.
3. What is loaded: the model, then the prompt, so that no work is done twice.
4. Shares again, as far as the rules before it left a choice; then arrival.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from gateway.config.schema import Scheduling
from gateway.core.ticket import Ticket
from gateway.scheduling.rules.model_affinity import TURN_LOADS, ModelAffinity
from gateway.scheduling.rules.prefix_affinity import PrefixAffinity
from gateway.scheduling.rules.priority import Priorities
from gateway.scheduling.rules.scene import Rule, Scene
from gateway.scheduling.rules.shares import Fairest, Shares, flows_of

LOOKED_AT_MAX: Final = 64
"""Tickets of the most urgent class that the rules after it look at: the oldest of each flow,
in equal parts, and one of each in any case."""


class Policy(Protocol):
    """An order of service."""

    def choose(self, tickets: Sequence[Ticket], scene: Scene) -> Ticket:
        """The ticket to grant now.

        Args:
            tickets: All for which a slot is free now, in order of arrival; one or more.
        """
        ...

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        """A ticket has got a slot, whoever chose it.

        Args:
            load_s: Seconds of model loading that it costs; 0.0 when its model was in memory.
            cached_chars: Of its prompt, found in its slot.
        """
        ...


class Order:
    """The rules that are switched on, one after the other.

    In a queue that is longer than LOOKED_AT_MAX, a ticket that is not among the
    oldest of its flow waits for that first, whatever is loaded.
    """

    def __init__(self, settings: Scheduling) -> None:
        wait_max_s = settings.affinity_wait_max_seconds
        rules: list[Rule] = []
        if settings.priorities:
            rules.append(Priorities(settings.class_wait_max_seconds))
        rules.append(_Oldest())
        if settings.fairness:
            loads = TURN_LOADS if settings.model_affinity else 0.0
            rules.append(Shares(settings.fairness_quantum_seconds, loads))
        if settings.model_affinity:
            rules.append(ModelAffinity(wait_max_s))
        if settings.prefix_affinity:
            rules.append(PrefixAffinity(wait_max_s))
        if settings.fairness:
            rules.append(Fairest())
        self._rules = rules

    def choose(self, tickets: Sequence[Ticket], scene: Scene) -> Ticket:
        for rule in self._rules:
            if len(tickets) == 1:
                break
            tickets = rule.narrow(tickets, scene)
        return tickets[0]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        for rule in self._rules:
            rule.granted(ticket, now=now, load_s=load_s, cached_chars=cached_chars)


class FirstComeFirstServed:
    """By arrival alone, to compare with."""

    def choose(self, tickets: Sequence[Ticket], scene: Scene) -> Ticket:
        return tickets[0]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass


class _Oldest:
    """Keeps the oldest of each flow, so that a long queue costs no more than a short one."""

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        if len(tickets) <= LOOKED_AT_MAX:
            return tickets
        flows = flows_of(tickets)
        if len(flows) == 1:
            return tickets[:LOOKED_AT_MAX]
        left = dict.fromkeys(flows, max(LOOKED_AT_MAX // len(flows), 1))
        oldest = []
        for ticket in tickets:
            if left[ticket.flow]:
                left[ticket.flow] -= 1
                oldest.append(ticket)
        return oldest

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass
