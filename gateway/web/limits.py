"""Who may hold a connection: a table of the open ones, and no I/O.

A connection is *headless* until it has sent the head of its first request. Headless
ones cost their owner nothing and are all the same, so they give way first, the oldest
before the others. Their timeouts are all equally long: the order of arrival is the
order of the deadlines, and one timer for the oldest is enough for all of them.
"""

import enum
import ipaddress
from typing import Final, Generic, TypeVar

import attrs

from gateway.config.schema import Limits

C = TypeVar("C")

_EXEMPT: Final = ""


class Verdict(enum.Enum):
    """What a new connection is good for."""

    SERVED = enum.auto()
    HEALTH_ONLY = enum.auto()
    """Everything is taken; this one is of the reserve, on which only /health is answered."""
    ADDRESS_REFUSED = enum.auto()
    """As REFUSED, because its address has its share already."""
    REFUSED = enum.auto()
    """Not in the table; told so and closed."""


@attrs.frozen
class Admission(Generic[C]):
    """The verdict on a connection, and which other one must be closed for it."""

    verdict: Verdict
    evicted: C | None = None


class ConnectionTable(Generic[C]):
    """The open connections, bounded in all and per address.

    At most `connections_max` are served and `connections_reserved` more answer
    /health; no address but loopback holds more than `connections_per_address_max`.
    """

    def __init__(self, limits: Limits, head_timeout_s: float) -> None:
        self._limits = limits
        self._head_timeout_s = head_timeout_s
        self._addresses: dict[C, str] = {}
        self._per_address: dict[str, int] = {}
        self._reserve: set[C] = set()
        self._deadlines: dict[C, float] = {}

    def change(self, limits: Limits, head_timeout_s: float) -> None:
        """These hold for who connects from now on.

        A shorter timeout does not overtake those who are headless now: they are cut first.
        """
        self._limits = limits
        self._head_timeout_s = head_timeout_s

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, connection: C) -> bool:
        return connection in self._addresses

    @property
    def next_deadline_at(self) -> float | None:
        """When the oldest headless connection is overdue; None if there is none."""
        return next(iter(self._deadlines.values()), None)

    def admit(self, connection: C, address: str, now: float) -> Admission[C]:
        """Decide on a new connection; unless refused, it is in the table afterwards.

        Args:
            address: The client's, "" where there is none (a Unix socket).
        """
        shared_by = _network(address)
        if self._per_address.get(shared_by, 0) >= self._limits.connections_per_address_max:
            return Admission(Verdict.ADDRESS_REFUSED)
        evicted = None
        verdict = Verdict.SERVED
        if len(self._addresses) - len(self._reserve) >= self._limits.connections_max:
            evicted = self._oldest_headless(of_reserve=False)
            if evicted is None:
                verdict = Verdict.HEALTH_ONLY
                if len(self._reserve) >= self._limits.connections_reserved:
                    evicted = self._oldest_headless(of_reserve=True)
                    if evicted is None:
                        return Admission(Verdict.REFUSED)
        if evicted is not None:
            self.forget(evicted)
        self._addresses[connection] = shared_by
        if shared_by != _EXEMPT:
            self._per_address[shared_by] = self._per_address.get(shared_by, 0) + 1
        if verdict is Verdict.HEALTH_ONLY:
            self._reserve.add(connection)
        self._deadlines[connection] = now + self._head_timeout_s
        return Admission(verdict, evicted)

    def head_complete(self, connection: C) -> None:
        """It has sent a request; harmless for one that is not in the table."""
        self._deadlines.pop(connection, None)

    def forget(self, connection: C) -> None:
        """It is closed; harmless for one that is not in the table."""
        shared_by = self._addresses.pop(connection, None)
        if shared_by is None:
            return
        self._deadlines.pop(connection, None)
        self._reserve.discard(connection)
        if shared_by != _EXEMPT:
            left = self._per_address[shared_by] - 1
            assert left >= 0
            if left:
                self._per_address[shared_by] = left
            else:
                del self._per_address[shared_by]

    def take_overdue(self, now: float) -> list[C]:
        """The headless ones whose time is up, oldest first; each is given out once."""
        overdue = []
        for connection, deadline_at in self._deadlines.items():
            if deadline_at > now:
                break
            overdue.append(connection)
        for connection in overdue:
            del self._deadlines[connection]
        return overdue

    def _oldest_headless(self, *, of_reserve: bool) -> C | None:
        # Passes over the other kind: few of the reserve before one that is not,
        # and many only where none of the others is headless, which can't be,
        # since those were looked for first.
        for connection in self._deadlines:
            if (connection in self._reserve) == of_reserve:
                return connection
        return None


def _network(address: str) -> str:
    """What one client holds: its IPv4 address, its IPv6 /64; "" for who is not counted.

    Loopback is not: a proxy there stands for many.
    """
    if address == _EXEMPT:
        return _EXEMPT
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return _EXEMPT if ip.is_loopback else str(ipaddress.ip_network((ip, 64), strict=False))
        ip = ip.ipv4_mapped
    return _EXEMPT if ip.is_loopback else str(ip)
