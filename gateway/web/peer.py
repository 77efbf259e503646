"""Which account of this machine holds the other end of a connection over loopback.

Linux tells of every TCP socket whose it is (proc_net_tcp.txt of its documentation). Of one
that nobody holds any more it says root, and no inode: such a one counts as nobody's. In a user
namespace (systemd's `PrivateUsers=`) accounts that are not mapped are all 65534.
"""

import socket
import struct
from pathlib import Path
from typing import Final

_TABLES: Final = {
    socket.AF_INET: Path("/proc/self/net/tcp"),
    socket.AF_INET6: Path("/proc/self/net/tcp6"),
}
_ESTABLISHED: Final = "01"

Address = tuple[str, int]
"""Host, a literal, and port."""


def account(theirs: Address, ours: Address) -> int | None:
    """The user id that holds the socket from which this connection comes.

    Args:
        theirs: As the connection has them, both of one family.

    Returns:
        None where that is not known: the socket is on another machine, closed, or the
        kernel does not tell.
    """
    try:
        family, remote = _spelled(theirs)
        _, local = _spelled(ours)
        return find(_TABLES[family].read_text("ascii"), remote, local)
    except (OSError, ValueError):
        return None


def find(table: str, theirs: str, ours: str) -> int | None:
    """The same, of the kernel's table and of addresses as it spells them."""
    for line in table.splitlines():
        # sl local_address rem_address st queues timer retransmits uid timeout inode …
        fields = line.split()
        if fields[1:4] == [theirs, ours, _ESTABLISHED] and fields[9] != "0":
            return int(fields[7])
    return None


def _spelled(address: Address) -> tuple[socket.AddressFamily, str]:
    host, port = address
    # So has a socket for both families its IPv4 clients; theirs is one for IPv4 alone.
    host = host.removeprefix("::ffff:")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    # 32 bits at a time, as this machine would read them.
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return family, "".join(f"{word:08X}" for word in words) + f":{port:04X}"
