"""Which requests wait, for which slots. Pure."""

from collections.abc import Collection, Set
from typing import Final

from gateway.core.ticket import Chain, Ticket
from gateway.pool.pool import Pool
from gateway.scheduling.lane import Key, Lane

NAMES_MAX: Final = 256
"""Spellings of models whose lane is remembered; callers can make up any number."""


class Plan:
    """Owns the waiting tickets, each in every lane that it has a part in."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lanes: dict[Key, Lane] = {}
        # Of each its own lane first, then those beside it.
        self._waiting: dict[Ticket, list[tuple[Lane, float]]] = {}
        self._by_model: dict[str, Lane] = {}
        # By model: the marks of all prompts that wait, and how many have each.
        self._marks: dict[str, dict[int, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._waiting

    @property
    def lanes(self) -> Collection[Lane]:
        """All that anything has wanted since upstreams last came or went."""
        return self._lanes.values()

    def lane(self, ticket: Ticket) -> Lane:
        """The slots that could run it."""
        model = ticket.request.model
        lane = self._by_model.get(model)
        if lane is None:
            if len(self._by_model) >= NAMES_MAX:
                self._by_model.clear()
            lane = self._by_model[model] = self._lane_for(model)
        return lane

    def lanes_beside(self, lane: Lane) -> list[tuple[Lane, float]]:
        """Each lane that shares slots with this one, itself first, and the part of work it gets."""
        beside = [(lane, 1.0)]
        if len(self._lanes) > 1:
            for other in self._lanes.values():
                part = other.part_of(lane.upstreams)
                if part and other is not lane:
                    beside.append((other, part))
        return beside

    def add(self, ticket: Ticket) -> None:
        """It waits."""
        self._place(ticket)
        if ticket.chain:
            marks = self._marks.setdefault(ticket.model, {})
            for _, mark in ticket.chain:
                marks[mark] = marks.get(mark, 0) + 1

    def remove(self, ticket: Ticket) -> bool:
        """Whether it waited; it does no more."""
        places = self._waiting.pop(ticket, None)
        if places is None:
            return False
        for lane, part in places:
            lane.remove(ticket, part)
        if ticket.chain:
            self._forget_marks(ticket)
        return True

    def common_chars(self, model: str, chain: Chain) -> int:
        """How much of a prompt is also the beginning of every one that waits."""
        marks = self._marks.get(model, {})
        everybody = len(self._waiting)
        for chars, mark in reversed(chain):
            if marks.get(mark) == everybody:
                return chars
        return 0

    def told_apart(self, model: str, held: Set[int]) -> bool:
        """Whether a slot with these marks holds more of some waiting prompts than of others."""
        if len(self._marks) != 1:
            return True  # Of another model it holds nothing.
        marks = self._marks.get(model)
        if marks is None:
            return True
        everybody = len(self._waiting)
        return any(marks.get(mark, everybody) != everybody for mark in held)

    def rebuild(self) -> None:
        """Upstreams came or went: which slots can run what is another matter now."""
        self._lanes.clear()
        self._by_model.clear()
        tickets = list(self._waiting)
        self._waiting.clear()
        for ticket in tickets:
            self._place(ticket)

    def _lane_for(self, model: str) -> Lane:
        """As it is, or a new one with its part of all that waits."""
        serving = self._pool.serving(model) or self._pool.upstreams
        key = tuple([upstream.name for upstream in serving])
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(serving)
            for ticket, places in self._waiting.items():
                part = lane.part_of(places[0][0].upstreams)
                if part:
                    lane.add(ticket, part)
                    places.append((lane, part))
        return lane

    def _place(self, ticket: Ticket) -> None:
        places = self._waiting[ticket] = self.lanes_beside(self.lane(ticket))
        for lane, part in places:
            lane.add(ticket, part)

    def _forget_marks(self, ticket: Ticket) -> None:
        marks = self._marks[ticket.model]
        for _, mark in ticket.chain:
            marks[mark] -= 1
            if not marks[mark]:
                del marks[mark]
        if not marks:
            del self._marks[ticket.model]
