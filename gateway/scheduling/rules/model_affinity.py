"""Stay with the model that is in memory, in turns. Pure.

Where two models don't fit side by side, A B A B loads each time. So one model
has its turn, until nothing waits for it or until another model's ticket was
passed over for too long. A turn begins with a load. What others have waited
before that doesn't count again: or, once all wait for longer than the bound,
each grant would be a load.
"""

import math
from collections.abc import Sequence
from typing import Final

import attrs

from gateway.core.ticket import Ticket
from gateway.scheduling.rules.scene import Scene

CHEAP_LOAD_S: Final = 0.25
"""A load that is done before anybody notices need not be avoided."""

TURN_LOADS: Final = 4.0
"""A turn lasts at least so many loads: then they take a fifth of the time at the most."""


@attrs.define(eq=False)
class ModelAffinity:
    """Keeps those who need no load, as long as nobody else has waited too long.

    Attributes:
        wait_max_s: How long a ticket is passed over, from its arrival or from
            the beginning of the turn, whichever is later; at least TURN_LOADS
            times what its load takes. With several models waiting, each has
            its turn, the one of the oldest ticket first.
    """

    wait_max_s: float
    _turn_began_at: float = attrs.field(default=-math.inf, init=False)

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        models = [ticket.request.model for ticket in tickets]
        model = models[0]
        if models.count(model) == len(models):
            return tickets
        loaded: list[Ticket] = []
        others: list[Ticket] = []
        for ticket in tickets:
            (loaded if scene.swap_s(ticket) < CHEAP_LOAD_S else others).append(ticket)
        if not others:
            return tickets
        if loaded:
            late = self._late(others, scene)
            if late is None:
                return loaded
            model = late.model
        return [ticket for ticket in others if ticket.model == model]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        if load_s >= CHEAP_LOAD_S:
            self._turn_began_at = now

    def _late(self, others: Sequence[Ticket], scene: Scene) -> Ticket | None:
        """The oldest that was passed over for too long."""
        for ticket in others:
            passed_s = scene.now - max(ticket.arrived_at, self._turn_began_at)
            if passed_s <= self.wait_max_s:
                return None
            if passed_s > TURN_LOADS * scene.swap_s(ticket):
                return ticket
        return None
