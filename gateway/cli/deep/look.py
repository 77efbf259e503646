"""Looks at this machine. The I/O of judge_machine.py."""

import ctypes
import errno
import http.client
import os
import pwd
import resource
import socket
from pathlib import Path
from typing import Final

from gateway.cli.deep.judge_machine import Account, Entry, Port
from gateway.cli.deep.judge_models import Memory
from gateway.cli.deep.sockets import listeners, owner

SERVICE_USER: Final = "gateway"
UNIT: Final = Path("/etc/systemd/system/gateway.service")
SERVICE_STATE_DIRECTORY: Final = "/var/lib/gateway"

_TIME_ERROR: Final = 5  # adjtimex(2): nobody keeps the clock right
_TIMEX_BYTES: Final = 512  # larger than any struct timex
_ASK_TIMEOUT_S: Final = 2.0
_GPUS: Final = ("/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128")


def port(host: str, number: int) -> Port:
    """Listen there for a moment."""
    unprivileged_from = _unprivileged_from()
    error = _listen(host, number)
    taken = error == errno.EADDRINUSE
    holders = [process for one in listeners(number) if taken and (process := owner(one))]
    return Port(
        host=host,
        port=number,
        error=error,
        owner=", ".join(f"{process.name} (pid {process.pid})" for process in holders),
        # The service manager holds it for the gateway: asking would start it.
        gateway=any(process.pid == 1 for process in holders)
        or (taken and _is_gateway(host, number)),
        unprivileged_from=unprivileged_from,
    )


def synchronised() -> bool | None:
    """Whether something keeps the clock right, as the kernel sees it; None where it can't tell."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):  # no Linux
        return None
    status: int = adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if status < 0 else status != _TIME_ERROR


def memory(meminfo: Path = Path("/proc/meminfo")) -> Memory | None:
    """None where the kernel won't say."""
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return None
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in kib or "MemTotal" not in kib:
        return None
    return Memory(total=kib["MemTotal"] * 1024, available=kib["MemAvailable"] * 1024)


def has_gpu() -> bool:
    return any(Path(device).exists() for device in _GPUS)


def account() -> Account:
    """Whom the daemon runs as: the service's user for root, where there is one, else ourselves."""
    if os.geteuid() == 0:
        try:
            found = pwd.getpwnam(SERVICE_USER)
        except KeyError:
            pass
        else:
            groups = os.getgrouplist(SERVICE_USER, found.pw_gid)
            return Account(SERVICE_USER, found.pw_uid, frozenset(groups))
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"user {os.geteuid()}"
    return Account(name, os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def service_state_directory() -> str:
    """What the unit hands the daemon; "" where there is no unit."""
    return SERVICE_STATE_DIRECTORY if UNIT.exists() else ""


def entry(path: Path) -> Entry:
    """This file or folder; where there is none, the nearest folder in which it would be made."""
    for place in (path, *path.absolute().parents):
        try:
            found = place.stat()
        except OSError:
            continue
        return Entry(
            path=path,
            mode=found.st_mode,
            uid=found.st_uid,
            gid=found.st_gid,
            missing=place != path,
        )
    return Entry(path=path, missing=True)


def free_bytes(path: Path) -> int | None:
    """On the disk where this path is, or will be."""
    for folder in (path, *path.absolute().parents):
        try:
            found = os.statvfs(folder)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None


def files_limit() -> int | None:
    """How far the daemon may raise its limit on open files; None: without end."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _listen(host: str, number: int) -> int:
    """The number of the error, 0 for none."""
    try:
        found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except OSError:
        return errno.EADDRNOTAVAIL
    family, kind, protocol, _, address = found[0]
    try:
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does
            tried.bind(address)
            tried.listen(1)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _is_gateway(host: str, number: int) -> bool:
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(reached, number, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().headers.get("Server") == "gateway"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unprivileged_from() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text("ascii"))
    except (OSError, ValueError):
        return 1024
