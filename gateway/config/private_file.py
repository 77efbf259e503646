"""Writes a file that only its owner and the daemon may read, whole or not at all."""

import fcntl
import grp
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SERVICE_GROUP: Final = "gateway"
"""The group of the daemon's user, as `make install` makes it."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While the block lasts, nobody else who asks for the same is in theirs.

    Raises:
        OSError: There is no such folder, or it may not be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, text: str) -> None:
    """Replace the file: whoever reads it finds the old one or the new one.

    It keeps its owner, group and mode, less what others may. A new one is 0640
    root:gateway where root makes it and there is that group, else 0600.

    Raises:
        OSError: It can't be written, or not so that it keeps its owner.
    """
    target = path.resolve()  # A link stays one.
    uid, gid, mode = _ownership(target)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _ownership(target: Path) -> tuple[int, int, int]:
    """User, group and mode of the file as it is to be."""
    try:
        found = target.stat()
    except FileNotFoundError:
        gid = _service_group() if os.geteuid() == 0 else None
        if gid is None:
            return os.geteuid(), os.getegid(), 0o600
        return 0, gid, 0o640
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode) & ~stat.S_IRWXO


def _service_group() -> int | None:
    try:
        return grp.getgrnam(SERVICE_GROUP).gr_gid
    except KeyError:
        return None


def _sync(folder: Path) -> None:
    """A rename is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
