"""The slots that can run the same models, and what waits for them. Pure."""

from collections.abc import Iterator, Sequence

import attrs

from gateway.core.ticket import Priority, Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.agenda import Agenda

Key = tuple[str, ...]
"""Names of upstreams, in the order of the pool."""


@attrs.define(eq=False, slots=True)
class _Sum:
    """What waits of one flow."""

    count: int = 0
    work_s: float = 0.0


class Lane:
    """Some upstreams together, and the work that waits for them.

    Another lane may share upstreams with this one: then the part of its work
    that falls to them counts here too.
    """

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self.upstreams = tuple(upstreams)
        self.agenda = Agenda()
        self._work_s = [0.0] * len(Priority)
        self._counts = [0] * len(Priority)
        self._flows: dict[str, _Sum] = {}
        self._models: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """As many as work may be promised for."""
        return max(1, sum(upstream.sure_slots for upstream in self.upstreams if upstream.up))

    @property
    def free(self) -> bool:
        """Whether a slot is free that work may be promised for."""
        return any(
            upstream.up and upstream.in_flight < upstream.sure_slots for upstream in self.upstreams
        )

    @property
    def models(self) -> Iterator[str]:
        """The models that something waits for."""
        return iter(self._models)

    def wants(self, model: str) -> bool:
        """Whether something waits for this model."""
        return model in self._models

    def part_of(self, upstreams: Sequence[Upstream]) -> float:
        """The part of work for these upstreams that falls to ours."""
        theirs = sum(upstream.sure_slots for upstream in upstreams)
        shared = sum(upstream.sure_slots for upstream in upstreams if upstream in self.upstreams)
        return shared / theirs if theirs else 0.0

    def add(self, ticket: Ticket, part: float) -> None:
        self.agenda.add(ticket, part=part)
        self._count(ticket, part, 1)

    def remove(self, ticket: Ticket, part: float) -> None:
        self.agenda.remove(ticket)
        self._count(ticket, part, -1)

    def work_s(self, priority: Priority) -> float:
        """What waits in this class and in more urgent ones, in seconds of a slot."""
        if len(self.agenda) == self._counts[priority]:
            return self._work_s[priority]
        return sum(self._work_s[: priority + 1])

    def count(self, priority: Priority) -> int:
        """How many wait in this class and in more urgent ones."""
        return sum(self._counts[: priority + 1])

    def flow_work_s(self, flow: str) -> float:
        """What waits of one flow, in seconds of a slot."""
        waiting = self._flows.get(flow)
        return waiting.work_s if waiting else 0.0

    def _count(self, ticket: Ticket, part: float, sign: int) -> None:
        work_s = ticket.cost.service_s * part * sign
        priority = ticket.priority
        self._counts[priority] += sign
        self._work_s[priority] = self._work_s[priority] + work_s if self._counts[priority] else 0.0
        models = self._models
        models[ticket.model] = models.get(ticket.model, 0) + sign
        if not models[ticket.model]:
            del models[ticket.model]
        flow = self._flows.get(ticket.flow)
        if flow is None:
            flow = self._flows[ticket.flow] = _Sum()
        flow.count += sign
        flow.work_s += work_s
        if not flow.count:
            del self._flows[ticket.flow]
