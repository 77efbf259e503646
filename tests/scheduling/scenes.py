"""What rules decide about: tickets that wait, and the moment at which one is chosen."""

from collections.abc import Collection, Mapping, Sequence

from gateway.core.ticket import Priority, Ticket
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.rules.scene import Scene
from tests.engines import ticket

LOAD_S = 5.0


def waiting(
    number: int,
    *,
    flow: str = "",
    model: str = "m",
    arrived_at: float | None = None,
    priority: Priority = Priority.NORMAL,
    session: str = "",
) -> Ticket:
    """A ticket that arrived in its turn: number 3 at second 3, unless it says otherwise."""
    at = float(number) if arrived_at is None else arrived_at
    made = ticket(number, model=model, arrived_at=at, deadline_at=at + 600.0)
    made.flow = flow
    made.priority = priority
    made.session = session
    return made


def scene(
    now: float = 10.0,
    *,
    loaded: Collection[str] = ("m",),
    load_s: float = LOAD_S,
    cached: Mapping[int, int] | None = None,
    reads_s: float = 0.0,
    accounts: Accounts | None = None,
) -> Scene:
    """`cached` has characters by the ticket's number."""
    held = cached or {}
    return Scene(
        now=now,
        swap_s=lambda ticket: 0.0 if ticket.model in loaded else load_s,
        cached_chars=lambda ticket: held.get(ticket.number, 0),
        told_apart=lambda _: True,
        reads_s=lambda _: reads_s,
        accounts=accounts or accounts_of(),
    )


def accounts_of(*, quantum_s: float = 5.0, **virtual_s: float) -> Accounts:
    """Accounts in which each flow of weight 1 has a request, and is so far."""
    accounts = Accounts(quantum_s=quantum_s)
    for flow in virtual_s:
        accounts.arrived(flow, 1.0, 0.0)
    for flow, seconds in virtual_s.items():
        accounts.charge(flow, seconds)
    return accounts


def numbers(tickets: Sequence[Ticket]) -> list[int]:
    return [ticket.number for ticket in tickets]
