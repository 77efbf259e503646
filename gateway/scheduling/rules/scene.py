"""What a rule sees, and what a rule is."""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from gateway.core.ticket import Ticket
from gateway.scheduling.fairness import Accounts


@attrs.define(eq=False)
class Scene:
    """The moment at which a choice is made. Rules change nothing in it.

    Attributes:
        now: Clock seconds.
        swap_s: Seconds of model loading that granting a ticket now would cost;
            0.0 when its model is in memory, or already being loaded.
        cached_chars: Characters of a ticket's prompt that the slot holds which it would get.
        told_apart: Whether `cached_chars` can differ between these tickets; asked once,
            where asking for each ticket would cost most of a choice.
        reads_s: Seconds that reading the rest of a ticket's prompt would take.
        accounts: How far each flow is.
    """

    now: float
    swap_s: Callable[[Ticket], float]
    cached_chars: Callable[[Ticket], int]
    told_apart: Callable[[Ticket], bool]
    reads_s: Callable[[Ticket], float]
    accounts: Accounts


class Rule(Protocol):
    """One reason to prefer some tickets to others."""

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        """Those that may still go next: some of `tickets`, in their order, never none.

        Args:
            tickets: One or more, in order of arrival.
        """
        ...

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        """A ticket has got a slot, whoever chose it.

        Args:
            load_s: Seconds of model loading that it costs; 0.0 when its model was in memory.
            cached_chars: Of its prompt, found in its slot.
        """
        ...
