"""Who sends wrong keys too often has to wait. Pure.

Each address may send so many wrong keys in a minute; the measure is that of
gateway/admission/limits.py, so that after these one more is let through every few seconds.

While an address has to wait, a right key is refused from it too, or whoever guesses would
still learn which one is right; unless that key was used from that address before. Behind one
address there may be a whole office, and one client with an old key must not lock out those
who work there already.

From this machine itself a right key is always taken: there stands the proxy through which
everybody comes, and anybody could lock out all others. What the proxy says of who they are is
not believed: whoever reaches the port without it could say the same.
"""

import ipaddress
from collections import OrderedDict
from typing import Final

from gateway.admission.limits import Meter
from gateway.core.errors import AuthThrottled

ADDRESSES_MAX: Final = 8192
"""Of which failures are remembered, in about 2 MiB; the one that failed longest ago goes."""

KNOWN_MAX: Final = 8192
"""Pairs of address and caller that are remembered."""

THIS_MACHINE: Final = ""
"""Stands for every address of it."""

_IPV6_NETWORK: Final = 64
"""One client has all of such a network to itself (RFC 6177)."""


class AuthThrottle:
    """Counts failures by address.

    Attributes:
        failures_max: In a minute, of one address.
    """

    def __init__(self, failures_max: int) -> None:
        self.failures_max = failures_max
        self._failures: OrderedDict[str, Meter] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def failed(self, address: str, now: float) -> None:
        """A wrong key, or none, has come from there.

        Raises:
            AuthThrottled: There were too many.
        """
        meter = self._failures.pop(address, None) or Meter()
        self._failures[address] = meter
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)
        self._require_room(meter, now)
        meter.add(1, self.failures_max, now)

    def passed(self, address: str, caller: str, now: float) -> None:
        """The key of this caller has come from there.

        Raises:
            AuthThrottled: It has not come from there before, and too many wrong ones have.
        """
        pair = (address, caller)
        if pair in self._known:
            return
        meter = self._failures.get(address)
        if meter is not None and address != THIS_MACHINE:
            self._require_room(meter, now)
        self._known[pair] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _require_room(self, meter: Meter, now: float) -> None:
        wait_s = meter.wait_s(1, self.failures_max, now)
        if wait_s > 0.0:
            raise AuthThrottled(
                "Too many wrong API keys have come from this address."
                f" Come back in {wait_s:.1f} s, with the right one.",
                retry_after_s=wait_s,
            )


def address_of(remote: str | None) -> str:
    """Under which a client's address is counted: a whole network, of IPv6."""
    if remote is None or remote.startswith("127."):
        return THIS_MACHINE
    if ":" not in remote:
        return remote
    try:
        address = ipaddress.IPv6Address(remote.partition("%")[0])
    except ValueError:
        return remote
    if address.ipv4_mapped is not None:
        return address_of(str(address.ipv4_mapped))
    if address.is_loopback:
        return THIS_MACHINE
    return str(ipaddress.IPv6Network((address, _IPV6_NETWORK), strict=False))
