"""Flows share the slots by their weights. Pure; the accounting is in fairness.py.

The rule comes twice. First, before the rules that use what an engine has
loaded, those flows are kept that are not ahead of the others by more than a
quantum: how far fairness may give way to save work, as the deficit of DLPM
does (Cao et al., "Locality-aware Fair Scheduling in LLM Serving", 2025,
arXiv:2501.14312). Last, among what these rules have left, it is the turn of
the flow that is least far.
"""

from collections.abc import Sequence

import attrs

from gateway.core.ticket import Ticket
from gateway.scheduling.rules.scene import Scene


@attrs.frozen
class Shares:
    """Keeps the flows within a quantum of the one that is least far.

    A quantum is less than the load of a large model takes. If everybody within
    it would need a load, and somebody who is further ahead would not, then it
    is as long as so many loads; or flows that want different models would make
    the engine do nothing but load.

    Attributes:
        quantum_s: Seconds of a slot that a flow may have beyond its part.
        loads: 0.0 where nobody cares which model is loaded.
    """

    quantum_s: float
    loads: float = 0.0

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        flows = flows_of(tickets)
        if len(flows) == 1:
            return tickets
        accounts = scene.accounts
        least_s = min(map(accounts.virtual_s, flows))
        lead_s = {flow: accounts.lead_s(flow, least_s) for flow in flows}
        if max(lead_s.values()) <= self.quantum_s:
            return tickets
        near = [ticket for ticket in tickets if lead_s[ticket.flow] <= self.quantum_s]
        if not self.loads:
            return near
        longer_s = self.loads * min(map(scene.swap_s, near))
        if longer_s <= self.quantum_s:
            return near
        further = [ticket for ticket in tickets if lead_s[ticket.flow] <= longer_s]
        return further if min(map(scene.swap_s, further)) == 0.0 else near

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass


@attrs.frozen
class Fairest:
    """Keeps the flow that is least far; of equals the one that was granted least recently."""

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        flows = flows_of(tickets)
        if len(flows) == 1:
            return tickets
        fairest = min(flows, key=scene.accounts.standing)
        return [ticket for ticket in tickets if ticket.flow == fairest]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass


def flows_of(tickets: Sequence[Ticket]) -> list[str]:
    """Each once, by its oldest ticket, so that even a tie is broken the same way each time."""
    flows = [ticket.flow for ticket in tickets]
    # Counting compares by identity first, which is what nearly always decides.
    return flows[:1] if flows.count(flows[0]) == len(flows) else list(dict.fromkeys(flows))
