"""What the daemon asks of its process: memory, files, standard streams, garbage collection."""

import ctypes
import faulthandler
import gc
import logging
import os
import resource
from typing import Final

from gateway.config.schema import Limits

log = logging.getLogger("gateway")

MALLOC_SETTINGS: Final = (
    (-1, 256 * 1024),  # M_TRIM_THRESHOLD, bytes
    (-3, 128 * 1024),  # M_MMAP_THRESHOLD, bytes
    (-8, 2),  # M_ARENA_MAX
)

OTHER_FILES: Final = 512
"""Files that are not clients: engines, the log, what Python has open."""

COLLECT_EVERY: Final = 10_000
"""New container objects between two looks at the youngest; Python's own is 700."""


def fill_standard_streams() -> None:
    """Whoever starts us may have closed them, and the next descriptors get their numbers.

    libuv aborts the process when it closes one of its own below 3, and anything that is
    printed would end up in somebody's connection.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def keep_files_private() -> None:
    """Have every file and folder that is made from here on be its owner's alone."""
    os.umask(0o077)


def give_memory_back() -> None:
    """Have glibc return large blocks to the system instead of keeping holes of their size.

    By itself it learns from the first large block that is freed to take the next
    ones from its heap, which then stays as large as it ever was. mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc
        return
    for parameter, value in MALLOC_SETTINGS:
        mallopt(parameter, value)


def tell_where_it_was_aborted() -> None:
    """Have every thread's stack on standard error when the process is aborted.

    That is how a service manager's watchdog ends a daemon whose event loop stands
    still, and nobody else knows by then what held it. Names of files and functions
    alone, no values.
    """
    faulthandler.enable(file=2, all_threads=True)


def make_room_for_connections(limits: Limits) -> None:
    """Raise the soft limit on open files above what connections may use, as far as it goes.

    Out of descriptors, uvloop closes whoever connects without a word.
    """
    needed = limits.connections_max + limits.connections_reserved + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < needed:
        log.warning("only %d files may be open; limits.connections_max wants %d", wanted, needed)


def spare_the_collector() -> None:
    """Make garbage collections rare, and have them pass over what never becomes garbage.

    A request leaves hardly any cycles behind, yet by Python's own thresholds its
    objects make the collector walk the whole heap many times a second: 60 of 450
    microseconds a request (bench/overhead.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 50)
