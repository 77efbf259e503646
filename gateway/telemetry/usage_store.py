"""Where it is kept what callers have used: in memory, or in a SQLite file.

    usage.sqlite3: WAL, synchronous=FULL, STRICT, mode 0600, `user_version` 1

One row for each day, caller and model. A batch is one transaction that also notes the
batch's name, so that one whose commit failed without anybody knowing whether it did can be
sent again. After any failure the connection is opened anew: a second fsync after one that
failed may succeed and have written nothing (Rebello et al., "Can applications recover from
fsync failures?", USENIX ATC 2020).

A file that is no SQLite file, is damaged, or was written by a newer gateway is never
touched, and the daemon does not start with it: daily limits and bills rest on it, so it is
for a person to say that it may begin anew.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import attrs

from gateway.core.errors import ConfigError
from gateway.telemetry.usage import By, Counts, Key, merge, totals

FILE_NAME: Final = "usage.sqlite3"

SCHEMA_VERSION: Final = 1

APPLICATION_ID: Final = 0x67747779
"""Tells our file from others (PRAGMA application_id): "gtwy"."""

BUSY_S: Final = 5.0
"""How long another process may hold the lock before a batch has to wait for the next second."""

# Spelled out: no text is ever put into a statement. The counts stand in the order of `Counts`.
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE used (
    day TEXT NOT NULL,
    caller TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    slot_s REAL NOT NULL,
    PRIMARY KEY (day, caller, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE stored (one INTEGER PRIMARY KEY CHECK (one = 1), batch TEXT NOT NULL) STRICT;
INSERT INTO stored VALUES (1, '');
PRAGMA application_id = 0x67747779;
PRAGMA user_version = 1;
COMMIT;
"""

_ADD: Final = """
INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, caller, model) DO UPDATE SET
    requests = requests + excluded.requests,
    refusals = refusals + excluded.refusals,
    failures = failures + excluded.failures,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    slot_s = slot_s + excluded.slot_s
"""

_TOTALS: Final = """
SELECT
    CASE ? WHEN 'caller' THEN caller WHEN 'model' THEN model ELSE day END AS name,
    sum(requests), sum(refusals), sum(failures),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(slot_s)
FROM used WHERE day >= ? GROUP BY name
"""

# Not as a subquery of the DELETE: SQLite 3.40 passes over the OFFSET there.
_TOO_OLD: Final = "SELECT DISTINCT day FROM used ORDER BY day DESC LIMIT 1 OFFSET ?"
_FORGET: Final = "DELETE FROM used WHERE day <= ?"

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED_OUT: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
)


class StoreFailed(Exception):
    """The store can't be had at the moment; the message says why."""


class Store(Protocol):
    """Keeps counts. Called on one thread; every method may block, and raise StoreFailed."""

    def add(self, batch: str, counts: Mapping[Key, Counts]) -> None:
        """Add these, once: nothing is done if this batch is there already."""
        ...

    def totals(self, since: str, by: By) -> dict[str, Counts]:
        """From this day on, by one part of the key."""
        ...

    def close(self) -> None: ...


class MemoryStore:
    """For a gateway without a state directory.

    Args:
        days: How many days are kept.
    """

    def __init__(self, days: int) -> None:
        self._days = days
        self._counts: dict[Key, Counts] = {}

    def add(self, batch: str, counts: Mapping[Key, Counts]) -> None:
        merge(self._counts, counts.items())
        for day in sorted({key.day for key in self._counts})[: -self._days]:
            for key in [key for key in self._counts if key.day == day]:
                del self._counts[key]

    def totals(self, since: str, by: By) -> dict[str, Counts]:
        return totals(self._counts, since, by)

    def close(self) -> None:
        """There is nothing to close."""


class SqliteStore:
    """The file in a state directory. Opened when it is first needed, and after each failure.

    Every method also raises ConfigError: for a file that can't be used, and would not be
    by waiting.

    Args:
        days: How many days on which there was something are kept. Counted and not dated, so
            that a clock that is years ahead for a moment deletes nothing.
        read_only: Change nothing; for whoever looks while no daemon runs.
    """

    def __init__(self, directory: Path, *, days: int = 0, read_only: bool = False) -> None:
        self.path = directory / FILE_NAME
        self._days = days
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._newest = ""

    def add(self, batch: str, counts: Mapping[Key, Counts]) -> None:
        with self._open() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            [stored] = connection.execute("SELECT batch FROM stored").fetchone()
            if stored == batch:
                return
            connection.executemany(_ADD, (_row(key, one) for key, one in counts.items()))
            newest = max(key.day for key in counts)
            if newest != self._newest:  # It need not be looked for every second.
                connection.executemany(
                    _FORGET, connection.execute(_TOO_OLD, (self._days,)).fetchall()
                )
            connection.execute("UPDATE stored SET batch = ?", (batch,))
        self._newest = newest

    def totals(self, since: str, by: By) -> dict[str, Counts]:
        with self._open() as connection:
            rows = connection.execute(_TOTALS, (by, since)).fetchall()
        return {name: Counts(*counts) for name, *counts in rows}

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection. Whatever goes wrong with it ends it, and is told in our words."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._in_our_words(error) from None

    def _connect(self) -> sqlite3.Connection:
        if not self._read_only:
            _make_private(self.path)
        # As it is, before anything is written: a newer file stays what it is.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rw'}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        [owner] = connection.execute("PRAGMA application_id").fetchone()
        [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if owner != APPLICATION_ID and (tables or version):
            raise self._unusable("is a database of something else")
        if version > SCHEMA_VERSION:
            raise self._unusable("was written by a newer gateway; install that one again")
        [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged()
        if self._read_only:
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not version:
            connection.executescript(_SCHEMA)

    def _in_our_words(self, error: Exception) -> Exception:
        match error:
            case OSError() if error.errno in _LOCKED_OUT:
                return self._unusable(f"can't be opened: {error.strerror}")
            case OSError():
                return StoreFailed(f"{self.path}: {error.strerror}")
            case sqlite3.DatabaseError() if _code(error) in _DAMAGED:
                return self._damaged()
            case _:
                return StoreFailed(f"{self.path}: {error}")

    def _damaged(self) -> ConfigError:
        return self._unusable(
            f"is damaged (db_corrupt). What can be read of it: sqlite3 {self.path} .recover"
        )

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            [
                f"{self.path} {why}. Nothing was changed in it; move it away to begin anew,"
                " or name another server.state_directory."
            ]
        )


def _make_private(path: Path) -> None:
    """The file and its directory, for their owner alone. SQLite's own have the file's mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _row(key: Key, counts: Counts) -> tuple[str | int | float, ...]:
    return (key.day, key.caller, key.model, *attrs.astuple(counts))


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where it is Python's own mistake."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def store_in(directory: str, *, days: int) -> Store:
    """Where counts are kept; in memory alone where there is no state directory."""
    return SqliteStore(Path(directory), days=days) if directory else MemoryStore(days)
