"""Whose turn it is, in seconds of the slot. Pure.

Each flow (a caller, or one of its end users) has a virtual time: the seconds of
a slot that it was given, divided by its weight. The flow that is least far
goes next, so that flows which always have something waiting get time by their
weights, however long their requests are.

This is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) as VTC
uses it for language models (Sheng et al., "Fairness in Serving Large Language
Models", OSDI 2024, arXiv:2401.00588), with seconds measured at the slot in the
place of tokens: a token that was cached costs nothing, and neither does it
here. Two things differ.

What a request costs is known only when it has ended. A flow is charged what is
expected when a slot is granted and what was measured when it is given back, so
that many grants in a row don't look free.

The system's virtual time, where a flow starts that had nothing to do, is what
the last granted flow was at, less the quantum by which the rules let flows get
ahead of each other. So a newcomer is never behind those who compete, and idle
time is worth a quantum at the most. When the last request has left, all flows
are level again.
"""

import math
from collections import OrderedDict
from typing import Final

import attrs

FLOWS_MAX: Final = 10_000
"""Idle flows that are remembered; end users are named by headers."""

WINDOW_S: Final = 60.0

FLOWS_LOOKED_AT_MAX: Final = 64
"""With more of them who want a slot nobody is far ahead for long."""


@attrs.define(eq=False)
class _Account:
    """One flow.

    Attributes:
        active: Its requests that wait or run.
        grant: The number of the last grant it got; 0 before the first.
        idle_since: Clock seconds; of use while `active` is 0.
        present: Whether its weight counts among those who share.
    """

    weight: float
    virtual_s: float
    active: int = 0
    grant: int = 0
    idle_since: float = -math.inf
    present: bool = True


class Accounts:
    """Owns the virtual time of each flow.

    For each request, in this order: `arrived`; `charge` and `settle` as often
    as it gets a slot; `left`. No flow that has a request is ever forgotten;
    the bound of the queue bounds those.

    Args:
        quantum_s: Seconds of a slot by which a flow may get ahead (see rules/shares.py).
        window_s: How long a flow that has left still counts as one to share with.
        flows_max: Idle flows that are remembered.
    """

    def __init__(
        self, *, quantum_s: float, window_s: float = WINDOW_S, flows_max: int = FLOWS_MAX
    ) -> None:
        self.quantum_s = quantum_s
        self._window_s = window_s
        self._flows_max = flows_max
        self._accounts: dict[str, _Account] = {}
        self._active_flows: dict[str, _Account] = {}
        # In the order of idle_since.
        self._idle: OrderedDict[str, _Account] = OrderedDict()
        self._grants = 0
        self._system_s = 0.0
        # No flow is, or ever was, further than this.
        self._furthest_s = 0.0
        self._weights = 0.0

    def arrived(self, flow: str, weight: float, now: float) -> None:
        """A request has entered. Weight: the flow's present one, above 0."""
        self._review_idle(now)
        account = self._accounts.get(flow)
        if account is None:
            account = self._accounts[flow] = _Account(weight, self._system_s)
            self._weights += weight
        else:
            if account.active == 0:
                del self._idle[flow]
                account.virtual_s = max(account.virtual_s, self._system_s)
            self._weights += weight - (account.weight if account.present else 0.0)
            account.weight = weight
            account.present = True
        account.active += 1
        self._active_flows[flow] = account

    def charge(self, flow: str, seconds: float) -> None:
        """A slot was granted, for as long as is expected."""
        account = self._accounts[flow]
        start_s = account.virtual_s - self.quantum_s / account.weight
        self._system_s = max(self._system_s, start_s)
        self._grants += 1
        account.grant = self._grants
        self._move(account, seconds)

    def settle(self, flow: str, expected_s: float, measured_s: float) -> None:
        """The slot was given back: what it really took replaces what was charged."""
        self._move(self._accounts[flow], measured_s - expected_s)

    def left(self, flow: str, now: float) -> None:
        """A request has ended, or has gone without ever having a slot."""
        account = self._accounts[flow]
        assert account.active > 0
        account.active -= 1
        if account.active == 0:
            del self._active_flows[flow]
            if not self._active_flows:
                self._system_s = self._furthest_s
            account.idle_since = now
            self._idle[flow] = account
            if len(self._idle) > self._flows_max:
                self._forget(*self._idle.popitem(last=False))

    def virtual_s(self, flow: str) -> float:
        """How far it is. One that was never heard of stands where it would start."""
        account = self._accounts.get(flow)
        return self._system_s if account is None else account.virtual_s

    def lead_s(self, flow: str, virtual_s: float) -> float:
        """Seconds of a slot that it was given beyond its part, if others are at `virtual_s`."""
        account = self._accounts.get(flow)
        if account is None:
            return self._system_s - virtual_s
        return (account.virtual_s - virtual_s) * account.weight

    def ahead_s(self, flow: str) -> float:
        """Seconds of a slot by which it is ahead of all others who want one, beyond the quantum.

        Until these have caught up it gets none. Negative when it is behind: so many
        it gets before any other.
        """
        account = self._accounts.get(flow)
        if account is None or len(self._active_flows) > FLOWS_LOOKED_AT_MAX:
            return 0.0
        least_s = min(
            (other.virtual_s for other in self._active_flows.values() if other is not account),
            default=None,
        )
        if least_s is None:
            return 0.0
        lead_s = self.lead_s(flow, least_s)
        return lead_s if lead_s < 0.0 else max(0.0, lead_s - self.quantum_s)

    def standing(self, flow: str) -> tuple[float, int]:
        """The order of flows: by virtual time, then the one that was granted least recently."""
        account = self._accounts.get(flow)
        return (self._system_s, 0) if account is None else (account.virtual_s, account.grant)

    def share(self, flow: str, weight: float, now: float) -> float:
        """Its part of the slots, 0 to 1, against all that were active within the window.

        It counts as active itself, so that alone it has 1.0.
        """
        self._review_idle(now)
        account = self._accounts.get(flow)
        own = account.weight if account is not None and account.present else 0.0
        return weight / (weight + max(self._weights - own, 0.0))

    def __len__(self) -> int:
        """Flows that are remembered."""
        return len(self._accounts)

    def _move(self, account: _Account, seconds: float) -> None:
        account.virtual_s += seconds / account.weight
        self._furthest_s = max(self._furthest_s, account.virtual_s)

    def _review_idle(self, now: float) -> None:
        """Those who are idle for a window share no longer; forget who has no debt.

        One who is still ahead of the system is looked at again a window later:
        forgotten, it would come back without its debt.
        """
        while self._idle:
            flow, account = next(iter(self._idle.items()))
            if now - account.idle_since < self._window_s:
                return
            del self._idle[flow]
            if account.virtual_s <= self._system_s:
                self._forget(flow, account)
            else:
                self._absent(account)
                account.idle_since = now
                self._idle[flow] = account

    def _forget(self, flow: str, account: _Account) -> None:
        del self._accounts[flow]
        self._absent(account)

    def _absent(self, account: _Account) -> None:
        if account.present:
            account.present = False
            self._weights -= account.weight
