"""Is the machine ready for the daemon: port, clock, disk, files, permissions? Pure."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import attrs

from gateway.cli.deep.finding import MIB, Finding, Verdict, size_words
from gateway.config.schema import Config, StoredKey
from gateway.daemon.process import OTHER_FILES

FREE_BYTES_FAIL: Final = 16 * MIB
FREE_BYTES_WARN: Final = 256 * MIB

EXPIRES_SOON: Final = timedelta(days=7)

RELEASED: Final = datetime.fromisoformat("2026-01-01T00:00:00Z")
"""No clock that is right shows a time before this program was written."""


@attrs.frozen(kw_only=True)
class Port:
    """What came of trying to listen there.

    Attributes:
        error: The error number; 0: it could be had.
        owner: Who has it, in words; "" where that can't be seen.
        gateway: Whether what answers there is a gateway.
        unprivileged_from: The first port that anybody may bind.
    """

    host: str
    port: int
    error: int = 0
    owner: str = ""
    gateway: bool = False
    unprivileged_from: int = 1024


@attrs.frozen
class Account:
    """Whom the daemon runs as, as far as it matters for files."""

    name: str
    uid: int
    gids: frozenset[int]


@attrs.frozen(kw_only=True)
class Entry:
    """A file or a folder, as the kernel tells of it.

    Attributes:
        missing: It is not there, and the rest is of the folder in which it would be made.
    """

    path: Path
    mode: int = 0
    uid: int = 0
    gid: int = 0
    missing: bool = False

    def lets(self, account: Account, wanted: int) -> bool:
        """Whether it grants these rights of one class (4 read, 2 write, 1 enter)."""
        if account.uid == 0:
            return True
        if account.uid == self.uid:
            granted = self.mode >> 6
        elif self.gid in account.gids:
            granted = self.mode >> 3
        else:
            granted = self.mode
        return granted & wanted == wanted


def port(facts: Port, *, root: bool) -> Finding:
    """Whether the daemon could listen where it should."""
    where = f"{facts.host} port {facts.port}"
    match facts.error:
        case 0 if root and 0 < facts.port < facts.unprivileged_from:
            return Finding(
                "port",
                "warn",
                f"{where} is free, but below {facts.unprivileged_from}, where only root may listen",
                "set server.port (PORT) to a higher one and put a proxy before it (conf/Caddyfile)",
            )
        case 0:
            return Finding("port", "ok", f"{where} is free")
        case errno.EADDRINUSE if facts.gateway:
            return Finding("port", "ok", f"a gateway answers on {where}")
        case errno.EADDRINUSE:
            owner = f" by {facts.owner}" if facts.owner else ""
            return Finding(
                "port", "fail", f"{where} is taken{owner}", "end that, or set server.port (PORT)"
            )
        case errno.EADDRNOTAVAIL:
            fix = "set server.host (HOST) to an address of this machine, or leave it empty"
            return Finding("port", "fail", f"{facts.host} is no address of this machine", fix)
        case errno.EACCES:
            return Finding(
                "port",
                "fail",
                f"{where} is for root alone",
                "set server.port (PORT) to one from 1024 on and put a proxy before it"
                " (conf/Caddyfile)",
            )
        case number:
            fix = "set server.host (HOST) and server.port (PORT)"
            return Finding("port", "fail", f"{where}: {os.strerror(number).lower()}", fix)


def clock(now: datetime, synchronised: bool | None) -> Finding:
    """Whether keys will expire, and log lines will be dated, when they should.

    Args:
        synchronised: As the kernel tells; None where it doesn't.
    """
    fix = "timedatectl set-ntp true (or install chrony)"
    if now < RELEASED:
        return Finding("clock", "fail", f"it shows {now:%Y-%m-%d}, which is long past", fix)
    match synchronised:
        case None:
            return Finding("clock", "skip", "the kernel doesn't tell whether it is synchronised")
        case True:
            return Finding("clock", "ok", f"synchronised; it shows {now:%Y-%m-%d %H:%M}Z")
        case False:
            what = f"nobody keeps it right; it shows {now:%Y-%m-%d %H:%M}Z"
            return Finding("clock", "warn", what, fix)


def state(entry: Entry | None, free_bytes: int | None, account: Account) -> Iterator[Finding]:
    """Whether what must outlive the daemon can be kept.

    Args:
        entry: The state directory; None where none is configured.
        free_bytes: On its disk.
    """
    if entry is None:
        yield Finding(
            "state",
            "warn",
            "there is no state directory: usage, and what was learned of the engines, end with"
            " the daemon",
            "set server.state_directory (STATE_DIRECTORY; the systemd unit sets /var/lib/gateway)",
        )
        return
    path = entry.path
    if entry.missing and not entry.lets(account, 3):
        yield Finding(
            "state",
            "fail",
            f"{path} is not there, and {account.name} may not make it",
            f"install -d -m 0700 -o {account.name} {path}",
        )
    elif entry.missing:
        yield Finding("state", "ok", f"{path} is not there yet; the daemon makes it")
    elif not stat.S_ISDIR(entry.mode):
        yield Finding("state", "fail", f"{path} is no folder", "name a folder, or move it away")
    elif not entry.lets(account, 7):
        yield Finding(
            "state",
            "fail",
            f"{account.name} may not write into {path}",
            f"chown {account.name}: {path} && chmod 0700 {path}",
        )
    elif entry.mode & stat.S_IRWXO:
        what = f"{path} is open to everybody on this machine (mode {entry.mode & 0o7777:04o})"
        yield Finding("state", "warn", what, f"chmod 0700 {path}")
    else:
        yield Finding("state", "ok", f"{account.name} may write into {path}")
    if free_bytes is not None:
        yield _disk(path, free_bytes)


def _disk(path: Path, free_bytes: int) -> Finding:
    what = f"{size_words(free_bytes)} are free for {path}"
    if free_bytes >= FREE_BYTES_WARN:
        return Finding("disk", "ok", what)
    verdict: Verdict = "fail" if free_bytes < FREE_BYTES_FAIL else "warn"
    return Finding(
        "disk", verdict, what, "make room; models that nobody uses are large (ollama rm)"
    )


def readable(entries: Sequence[Entry], account: Account) -> Iterator[Finding]:
    """Whether the daemon may read what it is configured by."""
    for entry in entries:
        if not entry.lets(account, 4):
            yield Finding(
                "files",
                "fail",
                f"{account.name} may not read {entry.path}",
                f"chgrp {account.name} {entry.path} && chmod g+r {entry.path}",
            )


def keys(config: Config, entry: Entry | None, now: datetime) -> Iterator[Finding]:
    """Whether keys hold on, and are kept from others.

    Args:
        entry: The file of `gateway keys`, if there is one.
    """
    ending: Mapping[str, StoredKey] = {
        name: key
        for name, key in config.stored_keys.items()
        if key.expires is not None and key.expires < now + EXPIRES_SOON
    }
    for name, key in ending.items():
        assert key.expires is not None
        gone = key.expires <= now
        yield Finding(
            "keys",
            "warn",
            f"the key of {name} {'expired' if gone else 'expires'} on {key.expires:%Y-%m-%d}",
            f"gateway keys rotate {name} --expires …"
            + (f", or gateway keys revoke {name}" if gone else ""),
        )
    if entry is not None and entry.mode & stat.S_IWGRP:
        yield Finding(
            "keys",
            "warn",
            f"the group of {entry.path} may change it, and so make keys",
            f"chmod g-w {entry.path}",
        )
    elif not ending:
        count = len(config.stored_keys)
        where = "" if entry is None else f" in {entry.path}, closed to others"
        yield Finding("keys", "ok", f"{count or 'none'} stored{where}")


def open_files(hard_limit: int | None, config: Config, *, service: bool) -> Finding:
    """Whether as many connections can be open as are configured.

    Args:
        hard_limit: Of this process, which the daemon may raise its own up to; None: none.
        service: Whether there is a systemd unit, which has a limit of its own.
    """
    limits = config.limits
    needed = limits.connections_max + limits.connections_reserved + OTHER_FILES
    what = (
        f"{needed} may be wanted, {'any number' if hard_limit is None else hard_limit} may be open"
    )
    if hard_limit is None or hard_limit >= needed:
        return Finding("open files", "ok", what)
    fix = f"LimitNOFILE={needed} in the unit, ulimit -Hn, or a lower limits.connections_max"
    return Finding("open files", "skip" if service else "warn", what, fix)
