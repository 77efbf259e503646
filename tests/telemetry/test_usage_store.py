"""What is kept of usage: in memory, and in a file that is treated with care."""

import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from gateway.core.errors import ConfigError
from gateway.telemetry import usage_store
from gateway.telemetry.usage import Counts, Key
from gateway.telemetry.usage_store import (
    APPLICATION_ID,
    FILE_NAME,
    SCHEMA_VERSION,
    MemoryStore,
    SqliteStore,
    Store,
    StoreFailed,
    store_in,
)

DAY = "2026-11-22"
ONE = {Key(DAY, "alice", "m"): Counts(1, 2, 3, 4, 5, 6, 0.5)}


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[SqliteStore]:
    with closing(SqliteStore(directory, **{"days": 400, **options})) as store:
        yield store


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with closing(store_in("" if request.param == "memory" else str(tmp_path), days=3)) as store:
        yield store


def test_what_is_added_adds_up(store: Store) -> None:
    store.add("a-1", ONE)
    store.add("a-2", {**ONE, Key(DAY, "bob", "n"): Counts(requests=7)})
    assert store.totals(DAY, "caller") == {
        "alice": Counts(2, 4, 6, 8, 10, 12, 1.0),
        "bob": Counts(requests=7),
    }
    assert store.totals(DAY, "model").keys() == {"m", "n"}
    assert store.totals(DAY, "day").keys() == {DAY}
    assert store.totals("2026-11-23", "caller") == {}


def test_only_so_many_days_are_kept_the_newest(store: Store) -> None:
    for number in range(1, 8):
        counts = {Key(f"2026-11-0{number}", "alice", "m"): Counts(requests=number)}
        store.add(f"a-{number}", counts)
    assert store.totals("", "day").keys() == {"2026-11-05", "2026-11-06", "2026-11-07"}


def test_a_clock_that_is_years_ahead_for_a_moment_costs_one_day(store: Store) -> None:
    for number, day in enumerate(("2026-11-20", "2026-11-21", "2036-11-21", "2026-11-22")):
        store.add(f"a-{number}", {Key(day, "alice", "m"): Counts(requests=1)})
    assert store.totals("", "day").keys() == {"2026-11-21", "2026-11-22", "2036-11-21"}


def test_a_file_outlives_its_store_and_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with opened(directory) as store:
        store.add("a-1", ONE)
        files = list(directory.iterdir())
        assert {file.name for file in files} == {
            FILE_NAME,
            f"{FILE_NAME}-wal",
            f"{FILE_NAME}-shm",
        }
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    with opened(directory) as store:
        assert store.totals(DAY, "caller") == {"alice": ONE[Key(DAY, "alice", "m")]}


def test_a_file_that_others_may_read_is_made_private(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(0o644)
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_the_file_says_whose_it_is_and_in_which_form(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert reader.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        columns = [name for _, name, *_ in reader.execute("PRAGMA table_info(used)")]
    assert columns == [*Key._fields, *(field.name for field in attrs.fields(Counts))]


def test_a_batch_is_stored_once_however_often_it_is_sent(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        store.add("a-1", ONE)
        store.add("b-1", ONE)
    with opened(tmp_path) as store:
        store.add("b-1", ONE)
        assert store.totals(DAY, "caller")["alice"].requests == 2


def test_after_a_failure_the_connection_is_opened_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        broken = store._connection
        assert broken is not None
        broken.close()  # As good as any other way to break it.
        with pytest.raises(StoreFailed):
            store.add("a-2", ONE)
        store.add("a-2", ONE)
        assert store._connection is not broken
        assert store.totals(DAY, "caller")["alice"].requests == 2


def test_a_commit_that_failed_only_as_it_seemed_is_not_made_twice(tmp_path: Path) -> None:
    """The fsync is reported as failed, but the data was written: nobody can know."""
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        store._connection = _Unsure(store._connection)  # type: ignore[assignment]
        with pytest.raises(StoreFailed, match="disk I/O error"):
            store.add("a-2", ONE)
        store.add("a-2", ONE)
        assert store.totals(DAY, "caller")["alice"].requests == 2


class _Unsure:
    """A connection whose commits reach the disk, and are told to have failed."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> None:
        self._real.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)
        raise sqlite3.OperationalError("disk I/O error")


@contextmanager
def full_disk(bytes_max: int) -> Iterator[None]:
    """No file of this process grows beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_takes_nothing_by_halves_and_everything_later(tmp_path: Path) -> None:
    many = {Key(DAY, f"caller-{number}", "m"): Counts(requests=1) for number in range(2000)}
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        with full_disk(16 * 1024), pytest.raises(StoreFailed):
            store.add("a-2", many)
        assert store.totals(DAY, "caller").keys() == {"alice"}
        store.add("a-2", many)
        assert len(store.totals(DAY, "caller")) == 2001


def test_a_disk_that_is_full_at_the_start_is_no_reason_not_to_start(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with full_disk(0), pytest.raises(StoreFailed):
            store.totals(DAY, "caller")
        assert store.totals(DAY, "caller") == {}


def test_while_another_process_has_the_lock_it_fails_and_then_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_store, "BUSY_S", 0.01)
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreFailed, match="locked"):
                store.add("a-2", ONE)
            other.execute("ROLLBACK")
        store.add("a-2", ONE)
        assert store.totals(DAY, "caller")["alice"].requests == 2


# --- What can't be used ----------------------------------------------------------------


def assert_untouched(path: Path, why: str, **options: Any) -> None:
    """It is refused with its path and what to do, and not one byte of it changes."""
    before = path.read_bytes()
    with (
        opened(path.parent, **options) as store,
        pytest.raises(ConfigError, match=why) as caught,
    ):
        store.totals(DAY, "caller")
    [mistake] = caught.value.mistakes
    assert str(path) in mistake
    assert "move it away" in mistake
    assert path.read_bytes() == before
    if not options.get("read_only"):  # Readers need SQLite's own files beside it.
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def filled(directory: Path) -> Path:
    """A file with many rows, closed."""
    with opened(directory) as store:
        store.add("a-1", {Key(DAY, f"caller-{number}", "m"): Counts(1) for number in range(500)})
    return directory / FILE_NAME


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: b"no database at all, but long enough to look" * 200, "db_corrupt"),
        (lambda data: data[: len(data) // 2], "db_corrupt"),
        (lambda data: data[:4096] + b"\xff" * 4096 + data[8192:], "db_corrupt"),
    ],
    ids=["text", "cut", "torn"],
)
def test_a_damaged_file_is_refused_and_never_touched(
    tmp_path: Path, damage: Any, why: str, read_only: bool
) -> None:
    path = filled(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert_untouched(path, why, read_only=read_only)


def test_a_newer_file_is_refused_and_never_touched(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("PRAGMA journal_mode = DELETE")
        newer.execute("PRAGMA user_version = 2")
    assert_untouched(path, "newer gateway")


def test_the_database_of_something_else_is_refused_and_never_touched(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE accounts (id INTEGER)")
    path.chmod(0o600)
    assert_untouched(path, "something else")


def test_a_wal_that_was_cut_off_costs_its_last_batch_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.add("a-1", ONE)
        size = store.path.with_name(f"{FILE_NAME}-wal").stat().st_size
        store.add("a-2", ONE)
        # As a machine leaves it that loses its power.
        left = tmp_path / "left"
        left.mkdir()
        for suffix in ("", "-wal"):
            data = store.path.with_name(FILE_NAME + suffix).read_bytes()
            (left / (FILE_NAME + suffix)).write_bytes(data if not suffix else data[: size + 100])
    with opened(left) as store:
        assert store.totals(DAY, "caller")["alice"].requests == 1


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with (
        opened(tmp_path / "state") as store,
        pytest.raises(ConfigError, match="can't be opened"),
    ):
        store.totals(DAY, "caller")


def test_whoever_only_reads_changes_nothing_and_makes_no_file(tmp_path: Path) -> None:
    with opened(tmp_path / "nowhere", read_only=True) as store, pytest.raises(StoreFailed):
        store.totals(DAY, "caller")
    assert not (tmp_path / "nowhere").exists()
    filled(tmp_path)
    with opened(tmp_path, read_only=True) as store:
        assert len(store.totals(DAY, "caller")) == 500
        with pytest.raises(StoreFailed, match="readonly"):
            store.add("a-2", ONE)


def test_no_directory_means_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = store_in("", days=400)
    assert isinstance(store, MemoryStore)
    store.add("a-1", ONE)
    assert os.listdir(tmp_path) == []
