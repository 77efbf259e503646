"""An engine with one slot and room for one model, on a clock that only work moves."""

from collections.abc import Callable, Mapping

from gateway.core.ticket import Ticket
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.order import Policy
from gateway.scheduling.rules.scene import Scene


class OneSlot:
    """Serves what waits, one after the other, in the order of a policy.

    Args:
        service_s: What a ticket takes.
        expected_s: What it is charged when it is granted; by default the truth.
        load_s: What a model takes to load; on the account of the ticket that needs it.
        cached_chars: What the slot holds of a ticket's prompt.
    """

    def __init__(
        self,
        policy: Policy,
        accounts: Accounts,
        *,
        service_s: Callable[[Ticket], float] = lambda _: 1.0,
        expected_s: Callable[[Ticket], float] | None = None,
        load_s: float = 0.0,
        cached_chars: Callable[[Ticket], int] = lambda _: 0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.served: list[Ticket] = []
        self.granted_at: dict[Ticket, float] = {}
        self.loads: list[tuple[float, str]] = []
        self.busy_s: dict[str, float] = {}
        self._policy = policy
        self._accounts = accounts
        self._service_s = service_s
        self._expected_s = expected_s or service_s
        self._load_s = load_s
        self._loaded = ""
        self._running_load_s = 0.0
        self._cached_chars = cached_chars
        self._weights = weights or {}

    def arrive(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            self._accounts.arrived(ticket.flow, self._weights.get(ticket.flow, 1.0), self.now)
            self.waiting.append(ticket)

    def scene(self) -> Scene:
        return Scene(
            now=self.now,
            swap_s=self._swap_s,
            cached_chars=self._cached_chars,
            told_apart=lambda _: True,
            reads_s=lambda _: 0.0,
            accounts=self._accounts,
        )

    def grant(self) -> Ticket:
        """Choose, and begin."""
        ticket = self._policy.choose(self.waiting, self.scene())
        self.waiting.remove(ticket)
        load_s = self._swap_s(ticket)
        self._policy.granted(
            ticket, now=self.now, load_s=load_s, cached_chars=self._cached_chars(ticket)
        )
        self._accounts.charge(ticket.flow, load_s + self._expected_s(ticket))
        self.granted_at[ticket] = self.now
        if load_s:
            self.loads.append((self.now, ticket.model))
            self._loaded = ticket.model
        self._running_load_s = load_s
        return ticket

    def end(self, ticket: Ticket) -> None:
        """The ticket that was granted has its answer."""
        load_s = self._running_load_s
        seconds = load_s + self._service_s(ticket)
        self.now += seconds
        self.busy_s[ticket.flow] = self.busy_s.get(ticket.flow, 0.0) + seconds
        self._accounts.settle(ticket.flow, load_s + self._expected_s(ticket), seconds)
        self._accounts.left(ticket.flow, self.now)
        self.served.append(ticket)

    def serve(self) -> Ticket:
        ticket = self.grant()
        self.end(ticket)
        return ticket

    def _swap_s(self, ticket: Ticket) -> float:
        return 0.0 if ticket.model == self._loaded else self._load_s
