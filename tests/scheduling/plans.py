"""What plans are made of: tickets whose cost and due time a test has chosen."""

from gateway.core.ticket import Cost, Priority, Ticket
from tests.engines import ticket


def due(
    number: int,
    due_at: float,
    service_s: float = 1.0,
    *,
    spread_s: float = 0.0,
    flow: str = "",
    model: str = "m",
    priority: Priority = Priority.NORMAL,
) -> Ticket:
    """A ticket that takes so long, all of it writing, and is due then."""
    made = ticket(number, model=model, deadline_at=due_at)
    made.cost = Cost(prefill_s=0.0, decode_s=service_s, spread_s=spread_s)
    made.due_at = due_at
    made.flow = flow
    made.priority = priority
    return made
