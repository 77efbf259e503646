"""Sockets that a service manager opened before it started us. sd_listen_fds(3).

Such a socket outlives the process: who connects while nobody accepts waits in its
backlog for the next process, and is not refused. Its address takes the place of
`server.host` and `server.port`, and is judged as they would be.
"""

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final

import attrs

from gateway.config.addresses import is_loopback
from gateway.config.checks import bind
from gateway.config.schema import Config, Server
from gateway.core.errors import ConfigError

FIRST_DESCRIPTOR: Final = 3

BACKLOG: Final = 4096
"""Who connects during a restart waits here; the kernel's own limit is net.core.somaxconn."""

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@attrs.frozen
class Address:
    """Where a socket listens: an IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def passed(environ: MutableMapping[str, str], pid: int) -> tuple[socket.socket, ...]:
    """The sockets that were opened for this process, () if none were.

    Takes the variables out of the environment: they are not meant for our children.

    Raises:
        ConfigError: What was passed is not what was announced, or nothing to serve on.
    """
    told = {name: environ.pop(name, "") for name in _VARIABLES}
    if told["LISTEN_PID"] != str(pid):
        # Absent, or left over by whoever was started with sockets before us.
        return ()
    count = told["LISTEN_FDS"]
    if not (count.isascii() and count.isdecimal() and 0 < int(count) < 1024):
        raise ConfigError([f"LISTEN_FDS = {count!r}: must be how many sockets were passed."])
    names = told["LISTEN_FDNAMES"].split(":")
    sockets: list[socket.socket] = []
    mistakes: list[str] = []
    for number in range(int(count)):
        descriptor = FIRST_DESCRIPTOR + number
        called = f" ({names[number]})" if number < len(names) and names[number] else ""
        found = _listening(descriptor)
        if isinstance(found, str):
            mistakes.append(
                f"LISTEN_FDS = {count}: descriptor {descriptor}{called} {found};"
                " a socket unit for the gateway has ListenStream=ADDRESS:PORT and Accept=no."
            )
        else:
            sockets.append(found)
    if mistakes:
        for one in sockets:
            one.detach()
        raise ConfigError(mistakes)
    return tuple(sockets)


def _listening(descriptor: int) -> socket.socket | str:
    """The socket behind a descriptor, or what is wrong with it."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return "is no socket"
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        found.detach()  # It is not ours to close.
        return "is no TCP socket"
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        return "does not listen"
    found.set_inheritable(False)
    return found


def addresses_of(sockets: Sequence[socket.socket]) -> list[Address]:
    return [Address(*one.getsockname()[:2]) for one in sockets]


def listening_on(config: Config, addresses: Sequence[Address]) -> Config:
    """The configuration as it is with these addresses in place of `server.host` and `port`.

    Of several the first that others can reach is the one that counts.

    Raises:
        ConfigError: insecure_bind: such an address needs a key.
    """
    if not addresses:
        return config
    public = [address for address in addresses if not is_loopback(address.host)]
    counts = (public or list(addresses))[0]
    others = tuple(address.host for address in addresses if address is not counts)
    adopted = attrs.evolve(
        config,
        server=attrs.evolve(
            config.server,
            host=counts.host,
            port=counts.port,
            allowed_hosts=config.server.allowed_hosts + others,
        ),
    )
    mistakes = [f"the passed socket {counts}: {mistake.text}" for mistake in bind(adopted)]
    if mistakes:
        raise ConfigError(mistakes)
    return adopted


def unused_settings(server: Server, addresses: Sequence[Address]) -> list[str]:
    """The settings of an address that say something else than the sockets do, if there are any."""
    if not addresses:
        return []
    usual = Server()
    hosts = {usual.host, *(address.host for address in addresses)}
    ports = {usual.port, *(address.port for address in addresses)}
    unused = []
    if server.host not in hosts:
        unused.append("server.host")
    if server.port not in ports:
        unused.append("server.port")
    return unused


def of_this_process() -> tuple[socket.socket, ...]:
    return passed(os.environ, os.getpid())
