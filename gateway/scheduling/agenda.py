"""What was promised: accepted requests that wait, and when each must be done. Pure.

On one machine the order by due time keeps every promise if any order does
(Jackson 1955). So the agenda keeps that order, not to serve by it but to know
how much room there is: one more request fits if the plan by due times still
holds with it, and another order may be served as long as each step of it leaves
that plan possible.

Over several slots the start of a request is bounded by the work before it over
the number of slots: until it starts none of them is idle (Graham 1966).
"""

import bisect
import math
from collections.abc import Collection, Iterator

import attrs

from gateway.core.ticket import Ticket


@attrs.define(eq=False, slots=True)
class Entry:
    """A waiting request as work that is due.

    Attributes:
        service_s: What it takes of the slot it runs in.
        work_s: The part of that which falls to this agenda's slots.
        variance_s2: Of `work_s`.
    """

    due_at: float
    number: int
    ticket: Ticket
    service_s: float
    work_s: float
    variance_s2: float


@attrs.frozen(slots=True)
class Ahead:
    """What comes before a request.

    Attributes:
        work_s: In seconds of a slot.
        variance_s2: Of that.
    """

    work_s: float = 0.0
    variance_s2: float = 0.0


class Agenda:
    """Waiting requests in the order of their due times."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._keys: list[tuple[float, int]] = []
        self.work_s = 0.0
        self.variance_s2 = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def add(self, ticket: Ticket, *, part: float = 1.0) -> None:
        """`part`: the part of its work that falls to these slots."""
        cost = ticket.cost
        entry = Entry(
            due_at=ticket.due_at,
            number=ticket.number,
            ticket=ticket,
            service_s=cost.service_s,
            work_s=cost.service_s * part,
            variance_s2=cost.spread_s * cost.spread_s * part,
        )
        key = (ticket.due_at, ticket.number)
        at = bisect.bisect(self._keys, key)
        self._keys.insert(at, key)
        self._entries.insert(at, entry)
        self.work_s += entry.work_s
        self.variance_s2 += entry.variance_s2

    def remove(self, ticket: Ticket) -> None:
        at = self._at(ticket)
        if at is None:
            return
        entry = self._entries.pop(at)
        del self._keys[at]
        # An empty agenda has no rounding errors left over from a long life.
        self.work_s = self.work_s - entry.work_s if self._entries else 0.0
        self.variance_s2 = max(0.0, self.variance_s2 - entry.variance_s2) if self._entries else 0.0

    def first(self) -> Ticket | None:
        """Whose promise is due first."""
        return self._entries[0].ticket if self._entries else None

    def position(self, due_at: float) -> int:
        """How many are due before."""
        return bisect.bisect(self._keys, (due_at, math.inf))

    def ahead(self, due_at: float) -> Ahead:
        """The work that is due no later."""
        at = self.position(due_at)
        work_s, variance_s2 = self.work_s, self.variance_s2
        for index in range(at, len(self._entries)):
            entry = self._entries[index]
            work_s -= entry.work_s
            variance_s2 -= entry.variance_s2
        return Ahead(max(0.0, work_s), max(0.0, variance_s2))

    def turn_of(self, ticket: Ticket) -> tuple[int, float]:
        """How many that wait are due before it, and their work in seconds of a slot."""
        at = self._at(ticket) or 0
        return at, sum(entry.work_s for entry in self._entries[:at])

    def keeps(
        self, extra_s: float, *, due_at: float, slots: int, busy: Ahead, safety: float, now: float
    ) -> bool:
        """Whether whoever is due after `due_at` stays in time with so much more work before it.

        Args:
            busy: What the slots still have to do before any of this begins.
            safety: Standard deviations that have to stay free.
        """
        at = self.position(due_at)
        if at == len(self._entries):
            return True
        before = self.ahead(due_at)
        work_s = busy.work_s + extra_s + before.work_s
        variance_s2 = busy.variance_s2 + before.variance_s2
        for index in range(at, len(self._entries)):
            entry = self._entries[index]
            variance_s2 += entry.variance_s2
            done_s = work_s / slots + entry.service_s + safety * math.sqrt(variance_s2) / slots
            if now + done_s > entry.due_at:
                return False
            work_s += entry.work_s
        return True

    def may_go_first(
        self,
        ticket: Ticket,
        cost_s: float,
        *,
        slots: int,
        busy_s: float,
        now: float,
        beside: Collection[Ticket] = (),
    ) -> bool:
        """Whether those due before `ticket` stay in time when it takes `cost_s` of a slot first.

        Only by what is expected: the safety that was left when they were let in is
        there to be used. One that can't be saved any more holds up nobody.

        Args:
            beside: Others that go with it, in the same `cost_s`.
        """
        at = max([self._at(one) or 0 for one in (ticket, *beside)])
        if not at:
            return True
        work_s = busy_s
        for index in range(at):
            entry = self._entries[index]
            if beside and (entry.ticket is ticket or entry.ticket in beside):
                continue
            left_s = entry.due_at - now - entry.service_s
            if left_s >= work_s / slots and left_s < (work_s + cost_s) / slots:
                return False
            work_s += entry.work_s
        return True

    def slack_s(self, *, slots: int, busy_s: float, now: float) -> float:
        """By how much the tightest promise is kept, as expected; infinite when nothing waits."""
        slack_s = math.inf
        work_s = busy_s
        for entry in self._entries:
            slack_s = min(slack_s, entry.due_at - now - work_s / slots - entry.service_s)
            work_s += entry.work_s
        return slack_s

    def _at(self, ticket: Ticket) -> int | None:
        at = bisect.bisect_left(self._keys, (ticket.due_at, ticket.number))
        if at < len(self._entries) and self._entries[at].ticket is ticket:
            return at
        return None
