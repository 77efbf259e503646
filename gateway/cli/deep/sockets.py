"""Who listens on which port of this machine, as /proc/net/tcp has it. Linux alone."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

import attrs

_LISTEN: Final = "0A"
_ENVIRON_BYTES_MAX: Final = 256 * 1024


@attrs.frozen
class Listener:
    """One listening socket.

    Attributes:
        inode: What /proc/PID/fd calls it.
    """

    address: IPv4Address | IPv6Address
    port: int
    inode: str

    @property
    def beyond(self) -> bool:
        """Whether it can be reached from other machines."""
        mapped = getattr(self.address, "ipv4_mapped", None)
        return not (mapped or self.address).is_loopback


@attrs.frozen
class Process:
    """Whose socket it is.

    Attributes:
        environ: None where it may not be read.
    """

    pid: int
    name: str
    environ: dict[str, str] | None = attrs.field(repr=False)


def listeners(port: int, proc: Path = Path("/proc")) -> list[Listener]:
    """All that listen on this port; none where the kernel won't say."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        found += [one for line in lines if (one := _listener(line)) and one.port == port]
    return found


def owner(listener: Listener, proc: Path = Path("/proc")) -> Process | None:
    """The process that has it open; None where that can't be seen. Root sees all."""
    wanted = f"socket:[{listener.inode}]"
    for folder in proc.iterdir():
        if folder.name.isdecimal() and wanted in _open_files(folder):
            return Process(int(folder.name), _name(folder), _environ(folder))
    return None


def _listener(line: str) -> Listener | None:
    _, local, _, state, *rest = line.split()
    if state != _LISTEN:
        return None
    address, _, port = local.partition(":")
    # Words of 32 bits in the order of the machine, which is little-endian wherever we run.
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    packed = b"".join(words)
    kind = IPv4Address if len(packed) == 4 else IPv6Address
    return Listener(kind(packed), int(port, 16), rest[5])


def _open_files(folder: Path) -> Iterator[str]:
    try:
        entries = list((folder / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield os.readlink(entry)
        except OSError:
            continue


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _environ(folder: Path) -> dict[str, str] | None:
    try:
        with (folder / "environ").open("rb") as file:
            content = file.read(_ENVIRON_BYTES_MAX)
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if b"=" in entry)
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, _, value in pairs
    }
