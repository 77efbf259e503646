"""What the service manager receives, on a socket as its own."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from gateway.daemon.notify import STATUS_CHARS_MAX, Notify, from_environ

PID = 4711


@attrs.frozen
class Manager:
    """The other end."""

    address: str
    socket: socket.socket

    def heard(self) -> list[str]:
        """The lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")

    def heard_nothing(self) -> bool:
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = f"@gateway-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        end.setblocking(False)
        yield Manager(address, end)


def test_each_stage_is_told_in_the_words_of_the_protocol(manager: Manager) -> None:
    notify = Notify(manager.address)
    notify.starting(30.0)
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=30000000"]
    notify.ready("serving")
    assert manager.heard() == ["READY=1", "STATUS=serving"]
    notify.status("serving: 1 running")
    assert manager.heard() == ["STATUS=serving: 1 running"]
    notify.alive()
    assert manager.heard() == ["WATCHDOG=1"]
    notify.stopping("draining", 42.0)
    assert manager.heard() == ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=42000000"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_reload_ends_as_ready_whatever_becomes_of_it(manager: Manager, broken: bool) -> None:
    notify = Notify(manager.address)
    notify.ready("serving")
    manager.heard()
    before = time.monotonic_ns() // 1000
    try:
        with notify.reloading():
            state, moment = manager.heard()
            assert manager.heard_nothing()
            if broken:
                raise ValueError
    except ValueError:
        pass
    assert state == "RELOADING=1"
    name, _, usec = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(usec) <= time.monotonic_ns() // 1000
    assert manager.heard() == ["READY=1"]


def test_a_status_is_one_bounded_line_whatever_models_are_called(manager: Manager) -> None:
    Notify(manager.address).status("a\nREADY=1\x1b[31m" + "x" * 1000)
    (line,) = manager.heard()
    assert line.startswith(r"STATUS=a\nREADY=1\x1b[31mxxx")
    assert len(line) <= len("STATUS=") + STATUS_CHARS_MAX


def test_without_a_service_manager_nothing_is_said() -> None:
    notify = Notify()
    assert not notify.listened_to
    notify.ready("serving")
    with notify.reloading():
        notify.alive()


def test_one_that_is_gone_or_takes_nothing_holds_nobody_up(manager: Manager) -> None:
    notify = Notify(manager.address)
    for _ in range(10_000):  # More than any queue of datagrams holds.
        notify.alive()
    assert manager.heard() == ["WATCHDOG=1"]
    manager.socket.close()
    notify.alive()
    notify.ready("serving")


def test_the_environment_names_it_and_is_not_handed_on() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(PID),
        "PATH": "/bin",
    }
    notify = from_environ(environ, PID)
    assert notify.listened_to
    assert notify.watchdog_s == 30.0
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID + 1)},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "٣٠"},
        {},
    ],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(variables: dict[str, str]) -> None:
    environ = {"NOTIFY_SOCKET": "@manager", **variables}
    assert from_environ(environ, PID).watchdog_s is None


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_an_address_that_can_not_be_spoken_to_is_nobody(address: str) -> None:
    notify = from_environ({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, PID)
    assert not notify.listened_to
    assert notify.watchdog_s is None


def test_a_reload_before_it_is_ready_does_not_make_it_so(manager: Manager) -> None:
    with Notify(manager.address).reloading():
        pass
    assert manager.heard_nothing()
