"""The state directory, held by one daemon at a time.

The lock is the kernel's (flock): it ends with the process, however that ends, and the
file that stays behind means nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

FILE_NAME: Final = "lock"

_PID_BYTES_MAX: Final = 32


class StateLocked(Exception):
    """Another daemon works with this directory."""


class StateUnusable(Exception):
    """Nothing can be kept there."""


@contextmanager
def held(directory: str) -> Iterator[None]:
    """Own the directory while the block lasts; makes it, if it is not there.

    Args:
        directory: Empty: nothing is kept, and there is nothing to own.

    Raises:
        StateLocked: state_locked: somebody else owns it, who is untouched by this.
        StateUnusable: It can't be made or written to.
    """
    if not directory:
        yield
        return
    path = Path(directory) / FILE_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(_unusable(path.parent, error)) from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
        raise StateLocked(
            f"state_locked: {path.parent} is in use by another gateway"
            f"{f' (process {owner})' if owner.isdecimal() else ''}; end that one, or give this"
            " one a server.state_directory of its own."
        ) from error
    except OSError as error:
        raise StateUnusable(_unusable(path.parent, error)) from error
    # For who comes second; a full disk is no reason not to start.
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _unusable(directory: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOTDIR | errno.EEXIST:
            fix = "it must be a directory"
        case errno.EACCES | errno.EPERM:
            fix = f"give it to the gateway's user: chown -R USER {directory}"
        case errno.EROFS:
            fix = "it is on a read-only file system; a unit allows it with ReadWritePaths="
        case _:
            fix = "nothing can be kept there"
    return f"server.state_directory: {directory} can't be used: {error.strerror}; {fix}."
