"""Who goes next, among those for whom a slot is free. Pure: rules see tickets and nothing else."""

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.core.ticket import Ticket


class Policy(Protocol):
    """An order of service."""

    def choose(
        self, tickets: Iterable[Ticket], runnable: Callable[[Ticket], bool]
    ) -> Ticket | None:
        """The ticket to grant now, or None when no slot is free for any of them.

        Must be work-conserving: a ticket for which `runnable` holds must not
        wait while none at all is chosen.
        """
        ...


class FirstComeFirstServed:
    """By arrival. A ticket whose model is busy doesn't hold up those of another model."""

    def choose(
        self, tickets: Iterable[Ticket], runnable: Callable[[Ticket], bool]
    ) -> Ticket | None:
        first: Ticket | None = None
        for ticket in tickets:
            if (first is None or ticket.number < first.number) and runnable(ticket):
                first = ticket
        return first
