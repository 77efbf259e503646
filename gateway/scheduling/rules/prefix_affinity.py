"""Prefer the prompt that a slot holds the most of, in turns. Pure.

What a slot holds is lost with the next prompt that doesn't share it. Two
conversations that take turns request by request evaluate everything each time;
grouped, only the first request of each group does. As with models, a group has
its turn until another ticket was passed over for too long. A turn ends when
such a ticket is granted, or when nobody of the group waits any more and another
begins; from then on all are patient again: otherwise, under a load where
everybody waits longer than the bound, there would be no groups at all.
"""

import math
from collections.abc import Sequence
from typing import Final

import attrs

from gateway.core.ticket import Ticket
from gateway.scheduling.rules.scene import Scene

GAIN_CHARS: Final = 256
"""A smaller difference is not worth an order: some 64 tokens, a second on a small box."""


TURN_READS: Final = 4.0
"""A turn lasts at least so many times what reading another prompt takes, or little else is done."""


@attrs.define(eq=False)
class PrefixAffinity:
    """Keeps those whose prompts share the most with what a slot holds, but for GAIN_CHARS.

    Among these, those of the session that was granted last: it may share more
    than the marks of its prompt show.

    Attributes:
        wait_max_s: How long a ticket is passed over, from its arrival or from
            the beginning of the turn, whichever is later; at least TURN_READS times
            what reading its prompt takes.
    """

    wait_max_s: float
    _turn_began_at: float = attrs.field(default=-math.inf, init=False)
    _session: str = attrs.field(default="", init=False)
    _late: Sequence[Ticket] = attrs.field(default=(), init=False)
    """Those that were found late when tickets were last narrowed."""

    def narrow(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        nearest = self._nearest(tickets, scene)
        if len(nearest) == len(tickets):
            return tickets
        long_ago = scene.now - self.wait_max_s
        if self._turn_began_at >= long_ago or tickets[0].arrived_at >= long_ago:
            return nearest
        preferred = set(nearest)
        late = [
            ticket for ticket in tickets if ticket.arrived_at < long_ago and ticket not in preferred
        ]
        if not late:
            return nearest
        turn_s = TURN_READS * scene.reads_s(late[0])
        if scene.now - max(late[0].arrived_at, self._turn_began_at) <= turn_s:
            return nearest
        self._late = late
        return late

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        if ticket in self._late or _begins(ticket, cached_chars):
            self._turn_began_at = now
        self._late = ()
        self._session = ticket.session

    def _nearest(self, tickets: Sequence[Ticket], scene: Scene) -> Sequence[Ticket]:
        if scene.told_apart(tickets[0]):
            cached = list(map(scene.cached_chars, tickets))
            bound = max(cached) - GAIN_CHARS
            if min(cached) <= bound:
                tickets = [
                    ticket for ticket, chars in zip(tickets, cached, strict=True) if chars > bound
                ]
        if not self._session:
            return tickets
        return [ticket for ticket in tickets if ticket.session == self._session] or tickets


def _begins(ticket: Ticket, cached_chars: int) -> bool:
    """Whether it is the first of its group: most of a long prompt was not there.

    What all prompts have in common, such as one long system prompt, makes no group.
    """
    chars = ticket.prompt_chars if ticket.chain else 0
    return chars >= GAIN_CHARS and cached_chars < chars / 2
