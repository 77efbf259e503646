"""Places held for whom was refused: a rejection is a promise. Pure.

A refused client is told a moment of its own to come back, and until then its
work counts as work that is ahead of everybody who comes later. Not all come
back: held work counts by the part that did so far, as airlines count seats.
A client that stays away loses its place a little after its moment.
"""

import heapq
import itertools
import math
from collections.abc import Iterable
from typing import Final

import attrs

from gateway.core.ticket import Priority

LATE_S: Final = 0.5
LATE_PART: Final = 0.1
"""A client may come back this much later than it was told, and by this part of the delay."""

RETURNING: Final = (0.95, 0.9, 0.2)
"""Of clients that count their retries, by the count so far: an SDK tries three times."""

RETURNING_UNKNOWN: Final = 0.3
"""Of all others."""

_GONE_MAX: Final = 100
"""Places that are held no more, and that are kept until their time nevertheless."""

_NEWEST: Final = 0.05
"""Weight of the newest observation of who came back."""


@attrs.define(eq=False, slots=True)
class Place:
    """A place in the line.

    Attributes:
        id: What the client may show to be known again.
        key: Caller and fingerprint, by which its SDK's retry is known.
        seniority: The number of its first rejection: the order of the line.
        work_s: What it would take of a slot.
        returning: Index into the rates of return.
        returns_at: When it was told to come back.
        moment: The same as a number of milliseconds, which no other place has.
        gone: It is held no more.
    """

    id: str
    key: tuple[str, bytes]
    flow: str
    priority: Priority
    seniority: int
    work_s: float
    returning: int
    returns_at: float
    moment: int
    gone: bool = False


@attrs.define(eq=False, slots=True)
class Sum:
    """Places of one flow, class and habit together."""

    work_s: float = 0.0
    count: int = 0


@attrs.frozen(slots=True)
class Held:
    """The places before one, as expected work.

    Attributes:
        work_s: Of all of them.
        flow_work_s: Of its own flow.
        count: How many are expected to be served before it.
    """

    work_s: float = 0.0
    flow_work_s: float = 0.0
    count: float = 0.0


NOTHING_HELD: Final = Held()


class Reservations:
    """Owns the places; bounded.

    Attributes:
        returned: Places whose clients came back in time, since the start.
        lost: Places whose clients did not.
    """

    def __init__(self, *, places_max: int) -> None:
        self.places_max = places_max
        self._by_id: dict[str, Place] = {}
        self._by_key: dict[tuple[str, bytes], dict[str, Place]] = {}
        self._sums: dict[tuple[str, Priority, int], Sum] = {}
        self._lost: list[tuple[float, int, Place]] = []
        self._moments: set[int] = set()
        self._rates = [*RETURNING, RETURNING_UNKNOWN]
        self._numbers = itertools.count()
        self.returned = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, key: tuple[str, bytes], id: str, now: float) -> Place | None:
        """The place of a client that is back, by the id it shows or by its request.

        Of several equal requests it is taken for the one that was told this moment.
        """
        self.forget_late(now)
        shown = self._by_id.get(id) if id else None
        if shown is not None and shown.key[0] == key[0]:
            return shown
        same = self._by_key.get(key)
        if not same:
            return None
        return min(same.values(), key=lambda place: abs(place.returns_at - now))

    def before(self, flow: str, priority: Priority, place: Place | None, now: float) -> Held:
        """What is held ahead of a request: everything older of its class or a more urgent one."""
        self.forget_late(now)
        if not self._by_id:
            return NOTHING_HELD
        if place is None:
            parts: Iterable[tuple[str, Priority, int, float, int]] = (
                (*whose, held.work_s, held.count) for whose, held in self._sums.items()
            )
        else:
            parts = (
                (other.flow, other.priority, other.returning, other.work_s, 1)
                for other in self._by_id.values()
                if other.seniority < place.seniority
            )
        work_s = flow_work_s = count = 0.0
        for whose, urgency, returning, held_s, places in parts:
            if urgency <= priority:
                expected = self._rates[returning]
                work_s += expected * held_s
                count += expected * places
                if whose == flow:
                    flow_work_s += expected * held_s
        return Held(work_s, flow_work_s, count)

    def hold(
        self,
        *,
        id: str,
        key: tuple[str, bytes],
        flow: str,
        priority: Priority,
        work_s: float,
        retry_count: int | None,
        after_s: float,
        former: Place | None,
        now: float,
    ) -> Place | None:
        """A place whose client comes back in about `after_s`, at a moment that no other has.

        Args:
            former: The place with which the client came, if it did.

        Returns:
            None when no more places can be held.
        """
        seniority = next(self._numbers) if former is None else former.seniority
        if former is not None:
            self.came(former)
        if len(self._by_id) >= self.places_max:
            return None
        moment = self._own_moment(now + after_s)
        returns_at = moment / 1000.0
        place = Place(
            id=id,
            key=key,
            flow=flow,
            priority=priority,
            seniority=seniority,
            work_s=work_s,
            returning=_returning(retry_count),
            returns_at=returns_at,
            moment=moment,
        )
        self._by_id[id] = place
        self._by_key.setdefault(key, {})[id] = place
        held = self._sums.setdefault((flow, priority, place.returning), Sum())
        held.work_s += work_s
        held.count += 1
        lost_at = returns_at + max(LATE_S, LATE_PART * after_s)
        # Not by its seniority: one that comes back twice has had it before.
        heapq.heappush(self._lost, (lost_at, next(self._numbers), place))
        if len(self._lost) > 2 * len(self._by_id) + _GONE_MAX:
            # Those who come back at once, again and again, must not fill the memory.
            self._lost = [lost for lost in self._lost if not lost[2].gone]
            heapq.heapify(self._lost)
        return place

    def came(self, place: Place) -> None:
        """Its client is back, and needs the place no more."""
        self._note(place, came=True)
        self._drop(place)

    def forget_late(self, now: float) -> None:
        """Give up the places of those who stayed away."""
        while self._lost and self._lost[0][0] <= now:
            place = heapq.heappop(self._lost)[2]
            if not place.gone:
                self._note(place, came=False)
                self._drop(place)

    def _note(self, place: Place, *, came: bool) -> None:
        if came:
            self.returned += 1
        else:
            self.lost += 1
        rate = self._rates[place.returning]
        self._rates[place.returning] = rate + _NEWEST * (float(came) - rate)

    def _drop(self, place: Place) -> None:
        if place.gone:
            return
        place.gone = True
        self._moments.remove(place.moment)
        del self._by_id[place.id]
        same = self._by_key[place.key]
        del same[place.id]
        if not same:
            del self._by_key[place.key]
        whose = (place.flow, place.priority, place.returning)
        held = self._sums[whose]
        held.work_s -= place.work_s
        held.count -= 1
        if not held.count:
            del self._sums[whose]

    def _own_moment(self, at: float) -> int:
        """The first millisecond from there on that nobody else was told."""
        moment = math.ceil(at * 1000.0 - 1e-6)
        while moment in self._moments:
            moment += 1
        self._moments.add(moment)
        return moment


def _returning(retry_count: int | None) -> int:
    """Index into the rates of return."""
    return len(RETURNING) if retry_count is None else min(retry_count, len(RETURNING) - 1)
