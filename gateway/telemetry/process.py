"""What the kernel knows of this process: memory, processor time, files, age."""

import os
import resource
import time
from typing import Final

import attrs

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Footprint:
    """What the process holds right now; None where the kernel won't say.

    Attributes:
        cpu_s: Processor time of all threads, user and system, since the start.
    """

    resident_bytes: int | None
    cpu_s: float
    open_fds: int | None
    max_fds: int


@attrs.frozen
class Disk:
    """Of the file system that a folder lies on; `free_bytes` is what this process may use."""

    free_bytes: int
    size_bytes: int


def footprint() -> Footprint:
    max_fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Footprint(_resident_bytes(), time.process_time(), _open_fds(), max_fds)


def disk(folder: str) -> Disk | None:
    """Of this folder; None where there is no such folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def machine_bytes() -> int | None:
    """The memory of the machine; unlike `/proc/meminfo`, `ProcSubset=pid` does not hide it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    except (OSError, ValueError):
        return None


def started_at() -> float:
    """When the process began, seconds since the epoch.

    Its age counts from the boot, in `/proc/self/stat`; the moment of the boot
    is in `/proc/stat`, which `ProcSubset=pid` hides, but the clock has it too.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            # The name of the program, in parentheses, may hold anything.
            after_name = stat.read().rpartition(b")")[2].split()
        began_s = int(after_name[19]) / _TICKS_PER_S
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + began_s
    except (OSError, AttributeError):
        return time.time() - time.process_time()


def _resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _open_fds() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # less the one that lists them
    except OSError:  # also when no descriptor is left
        return None
