import errno
import os
import socket
from pathlib import Path

from gateway.cli.deep import look
from gateway.cli.deep.judge_models import Memory


def test_a_free_port_is_free_and_stays_so() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    assert look.port("127.0.0.1", number).error == 0
    assert look.port("127.0.0.1", number).error == 0


def test_a_taken_port_is_told_with_its_process() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        number = taken.getsockname()[1]
        # It accepts, and says nothing.
        found = look.port("127.0.0.1", number)
    assert found.error == errno.EADDRINUSE
    assert found.owner.endswith(f"(pid {os.getpid()})")
    assert not found.gateway


def test_an_address_of_another_machine_is_none_of_ours() -> None:
    assert look.port("192.0.2.1", 8000).error == errno.EADDRNOTAVAIL
    assert look.port("no-such-host.invalid", 8000).error == errno.EADDRNOTAVAIL


def test_memory_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:  50 kB\nHugePages: 0\n")
    assert look.memory(meminfo) == Memory(total=102_400, available=51_200)
    meminfo.write_text("MemTotal:  100 kB\n")
    assert look.memory(meminfo) is None
    assert look.memory(tmp_path / "none") is None


def test_a_missing_folder_is_judged_by_where_it_would_be_made(tmp_path: Path) -> None:
    found = look.entry(tmp_path / "a" / "b")
    assert found.missing
    assert (found.path, found.mode) == (tmp_path / "a" / "b", tmp_path.stat().st_mode)
    assert not look.entry(tmp_path).missing
    assert look.free_bytes(tmp_path / "a" / "b") == look.free_bytes(tmp_path)
