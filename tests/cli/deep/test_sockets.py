import os
import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from gateway.cli.deep.sockets import Listener, listeners, owner


@pytest.mark.parametrize(
    ("family", "host", "address", "beyond"),
    [
        (socket.AF_INET, "127.0.0.1", IPv4Address("127.0.0.1"), False),
        (socket.AF_INET, "0.0.0.0", IPv4Address("0.0.0.0"), True),
        (socket.AF_INET6, "::1", IPv6Address("::1"), False),
        (socket.AF_INET6, "::", IPv6Address("::"), True),
    ],
)
def test_a_listener_is_found_with_its_address_and_its_process(
    family: int, host: str, address: IPv4Address | IPv6Address, beyond: bool
) -> None:
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        port = listening.getsockname()[1]
        assert listeners(port) == []
        listening.listen(1)
        (found,) = listeners(port)
        assert (found.address, found.port, found.beyond) == (address, port, beyond)
        process = owner(found)
        assert process is not None
        assert process.pid == os.getpid()
        assert process.environ is not None
        assert process.environ.keys() & {"PATH", "HOME"}


def test_a_mapped_address_is_judged_by_what_it_maps() -> None:
    assert not Listener(IPv6Address("::ffff:127.0.0.1"), 1, "1").beyond
    assert Listener(IPv6Address("::ffff:10.0.0.1"), 1, "1").beyond


def test_what_can_not_be_seen_is_nobody(tmp_path: Path) -> None:
    assert listeners(1, proc=tmp_path) == []
    (tmp_path / "7" / "fd").mkdir(parents=True)
    assert owner(Listener(IPv4Address("127.0.0.1"), 1, "1"), proc=tmp_path) is None
