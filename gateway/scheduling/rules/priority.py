"""Interactive before normal before batch, but nobody for ever. Pure."""

from collections.abc import Sequence

import attrs

from gateway.core.ticket import Ticket
from gateway.scheduling.rules.scene import Scene


@attrs.frozen
class Priorities:
    """Keeps the most urgent class there is.

    A ticket that has waited longer than `wait_max_s` counts as one of that
    class: from then on it competes by the rules that follow, no more.
    """

    wait_max_s: float

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        classes = [ticket.priority for ticket in tickets]
        if classes.count(classes[0]) == len(classes):
            return tickets
        most_urgent = min(classes)
        long_ago = scene.now - self.wait_max_s
        return [
            ticket
            for ticket in tickets
            if ticket.priority is most_urgent or ticket.arrived_at < long_ago
        ]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass
