"""Sockets that somebody else opened: which are taken, and what they change."""

import os
import socket
from collections.abc import Iterator

import pytest

from gateway.config.schema import Auth, Config, Server
from gateway.core.errors import ConfigError
from gateway.daemon import sockets
from gateway.daemon.sockets import Address, addresses_of, listening_on, passed, unused_settings

PID = 4711
LOCAL = Address("127.0.0.1", 8000)
PUBLIC = Address("0.0.0.0", 8000)
KEYED = Config(auth=Auth(api_key="a-key-of-more-than-eight"))


class Descriptors:
    """Stand in a row, as a service manager passes them; the row begins where it can here."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.count = 0

    def add(self, descriptor: int) -> None:
        os.dup2(descriptor, self.first + self.count)
        self.count += 1


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Iterator[Descriptors]:
    row = Descriptors(200)
    monkeypatch.setattr(sockets, "FIRST_DESCRIPTOR", row.first)
    yield row
    for descriptor in range(row.first, row.first + row.count):
        try:
            os.close(descriptor)
        except OSError:
            pass


def environ_of(count: object, pid: int = PID, names: str = "") -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "A": "b"}


def listener(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    made.listen()
    return made


def test_listening_sockets_are_taken_and_the_variables_with_them(row: Descriptors) -> None:
    with listener() as v4, listener(socket.AF_INET6) as v6:
        row.add(v4.fileno())
        row.add(v6.fileno())
        environ = environ_of(2, names="http:http6")
        taken = passed(environ, PID)
        assert environ == {"A": "b"}
        assert addresses_of(taken) == [
            Address("127.0.0.1", v4.getsockname()[1]),
            Address("::1", v6.getsockname()[1]),
        ]
        assert not any(one.get_inheritable() for one in taken)
        for one in taken:
            one.close()


@pytest.mark.parametrize("environ", [{}, environ_of(1, pid=PID + 1), {"LISTEN_FDS": "1"}])
def test_what_was_meant_for_another_process_is_not_touched(environ: dict[str, str]) -> None:
    assert passed(environ, PID) == ()
    assert "LISTEN_FDS" not in environ


@pytest.mark.parametrize("count", ["0", "", "-1", "many", "1.0", "99999"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="must be how many sockets were passed"):
        passed(environ_of(count), PID)


def test_more_than_there_are_is_refused_by_number_and_name(row: Descriptors) -> None:
    with listener() as one:
        row.add(one.fileno())
        with pytest.raises(ConfigError) as refused:
            passed(environ_of(2, names="http:other"), PID)
    (mistake,) = refused.value.mistakes
    assert mistake.startswith("LISTEN_FDS = 2: descriptor 201 (other) is no socket;")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("file", "is no socket"),
        ("datagram", "is no TCP socket"),
        ("unix", "is no TCP socket"),
        ("silent", "does not listen"),
        ("connected", "does not listen"),
    ],
)
def test_what_can_not_be_served_on_is_refused(row: Descriptors, kind: str, fault: str) -> None:
    with (
        listener() as behind,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
        socket.socket() as silent,
        socket.create_connection(behind.getsockname()) as connected,
        open(os.devnull) as file,
    ):
        made = {
            "file": file.fileno(),
            "datagram": datagram.fileno(),
            "unix": unix.fileno(),
            "silent": silent.fileno(),
            "connected": connected.fileno(),
        }
        row.add(made[kind])
        with pytest.raises(ConfigError, match=fault):
            passed(environ_of(1), PID)


def test_the_address_takes_the_place_of_the_configured_one() -> None:
    config = listening_on(Config(server=Server(host="192.0.2.1", port=9)), [LOCAL])
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8000)
    assert listening_on(config, []) is config


def test_a_public_socket_needs_a_key_whatever_the_file_says() -> None:
    for addresses in ([PUBLIC], [LOCAL, Address("192.0.2.1", 8000)], [Address("::", 8000)]):
        with pytest.raises(ConfigError) as refused:
            listening_on(Config(server=Server(host="127.0.0.1")), addresses)
        (mistake,) = refused.value.mistakes
        assert f"the passed socket {addresses[-1]}: insecure_bind: " in mistake
    assert listening_on(KEYED, [PUBLIC]).server.host == "0.0.0.0"


def test_of_several_the_most_public_counts_and_every_host_is_served() -> None:
    config = listening_on(KEYED, [LOCAL, Address("192.0.2.1", 80), Address("::1", 8000)])
    assert (config.server.host, config.server.port) == ("192.0.2.1", 80)
    assert config.server.allowed_hosts == ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("server", "unused"),
    [
        (Server(), []),
        (Server(host="127.0.0.1", port=8000), []),
        (Server(host="0.0.0.0", port=9000), ["server.host", "server.port"]),
    ],
)
def test_a_setting_that_says_otherwise_is_named(server: Server, unused: list[str]) -> None:
    assert unused_settings(server, [LOCAL]) == unused
    assert unused_settings(server, []) == []
