"""Which Host headers are served: the wall against DNS rebinding.

A page of evil.example whose name was rebound to 127.0.0.1 reaches the port, but
its browser still sends `Host: evil.example`. A name that is not expected is
therefore refused, on public addresses too. An address can't be rebound: a daemon
bound to a wildcard address serves any IP literal.

RFC 9110 section 7.2 (Host), RFC 3986 section 3.2.2 (host syntax).
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from gateway.core.errors import ConfigError

_HOST: Final = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_ALWAYS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})
_KNOWN_MAX: Final = 256


class HostPolicy:
    """Says which Host headers are served: exact names, in any case, with or without a port.

    Args:
        bind_host: The address the daemon listens on. A wildcard ("", 0.0.0.0, ::)
            lets in every IP literal.
        allowed_hosts: Further names or addresses; one with a port is served with
            that port alone.

    Attributes:
        known: Some of the headers that are allowed, as they were sent; to be asked
            before `allows` where a call counts.

    Raises:
        ConfigError: An allowed host that no Host header could ever name.
    """

    def __init__(self, *, bind_host: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._any_address = bind_host in _WILDCARDS
        self._hosts = set(_ALWAYS)
        self._hosts_with_port: set[tuple[str, int]] = set()
        # Only what was allowed: what is refused may differ each time and is not
        # worth remembering.
        self.known: set[str] = set()
        if not self._any_address:
            self._hosts.add(_canonical(bind_host.lower()))
        mistakes = [
            f"server.allowed_hosts: {entry!r} is not a host name, an address, or either with :port"
            for entry in allowed_hosts
            if not self._add(entry)
        ]
        if mistakes:
            raise ConfigError(mistakes)

    def allows(self, host_header: str) -> bool:
        """Whether a request with this Host header is served; anything odd is not."""
        found = _split(host_header)
        if found is None:
            return False
        host, port = found
        if not (
            host in self._hosts
            or (port is not None and (host, port) in self._hosts_with_port)
            or (self._any_address and _is_address(host))
        ):
            return False
        if len(self.known) >= _KNOWN_MAX:
            self.known.clear()
        self.known.add(host_header)
        return True

    def _add(self, entry: str) -> bool:
        found = _split(f"[{entry}]") or _split(entry)
        if found is None:
            return False
        host, port = found
        if port is None:
            self._hosts.add(host)
        else:
            self._hosts_with_port.add((host, port))
        return True


def _split(host_header: str) -> tuple[str, int | None] | None:
    """The host in its canonical spelling and the port, or None for what is no Host header."""
    if not host_header.isascii():
        # str.lower() turns some other letters into ASCII ones.
        return None
    match = _HOST.fullmatch(host_header.lower())
    if match is None:
        return None
    v6, name, port_text = match.group("v6", "name", "port")
    port = None if port_text is None else int(port_text)
    if port is not None and not 0 < port < 65536:
        return None
    if v6 is None:
        return name, port
    try:
        return str(ipaddress.IPv6Address(v6)), port
    except ValueError:
        return None


def _canonical(host: str) -> str:
    return str(ipaddress.ip_address(host)) if _is_address(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
