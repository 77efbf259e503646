import errno
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from gateway.cli.deep.finding import MIB
from gateway.cli.deep.judge_machine import (
    Account,
    Entry,
    Port,
    clock,
    keys,
    open_files,
    port,
    readable,
    state,
)
from gateway.config.schema import Config, Limits, StoredKey

NOW = datetime(2026, 11, 22, tzinfo=UTC)
GATEWAY = Account("gateway", 900, frozenset({900, 50}))
ROOT = Account("root", 0, frozenset({0}))
FREE = Port(host="127.0.0.1", port=8000)
FOLDER = Entry(path=Path("/var/lib/gateway"), mode=stat.S_IFDIR | 0o700, uid=900, gid=900)
FILE = Entry(path=Path("/etc/gateway/keys.toml"), mode=stat.S_IFREG | 0o640, uid=0, gid=900)


# --- Port ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "root", "verdict", "said"),
    [
        (FREE, True, "ok", "is free"),
        (attrs.evolve(FREE, error=errno.EADDRINUSE, gateway=True), True, "ok", "a gateway answers"),
        (
            attrs.evolve(FREE, error=errno.EADDRINUSE, owner="nginx (pid 7)"),
            True,
            "fail",
            "taken by nginx (pid 7)",
        ),
        (attrs.evolve(FREE, error=errno.EADDRNOTAVAIL), True, "fail", "no address of this machine"),
        (attrs.evolve(FREE, port=80, error=errno.EACCES), False, "fail", "for root alone"),
        (attrs.evolve(FREE, port=80), True, "warn", "only root may listen"),
        (attrs.evolve(FREE, port=80, unprivileged_from=80), True, "ok", "is free"),
        (attrs.evolve(FREE, error=errno.ENOBUFS), True, "fail", "no buffer space"),
    ],
)
def test_a_port_that_can_not_be_had_says_why_and_what_to_do(
    facts: Port, root: bool, verdict: str, said: str
) -> None:
    found = port(facts, root=root)
    assert found.verdict == verdict
    assert said in found.what
    assert bool(found.fix) == (verdict != "ok")


# --- Clock --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "synchronised", "verdict"),
    [
        (NOW, True, "ok"),
        (NOW, False, "warn"),
        (NOW, None, "skip"),
        (datetime(1970, 1, 2, tzinfo=UTC), True, "fail"),
    ],
)
def test_a_clock_that_nobody_keeps_right_is_told(
    now: datetime, synchronised: bool | None, verdict: str
) -> None:
    assert clock(now, synchronised).verdict == verdict


# --- Files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "account", "may"),
    [
        (0o600, 900, 0, GATEWAY, True),
        (0o040, 0, 50, GATEWAY, True),
        (0o604, 900, 50, GATEWAY, True),
        (0o600, 0, 50, GATEWAY, False),
        (0o604, 0, 0, GATEWAY, True),
        # The owner's own class counts, even where others may more.
        (0o044, 900, 900, GATEWAY, False),
        (0o000, 5, 5, ROOT, True),
    ],
)
def test_who_may_read_is_who_the_kernel_lets(
    mode: int, uid: int, gid: int, account: Account, may: bool
) -> None:
    entry = Entry(path=Path("/x"), mode=mode, uid=uid, gid=gid)
    assert entry.lets(account, 4) == may


@pytest.mark.parametrize(
    ("entry", "verdict", "fix"),
    [
        (FOLDER, "ok", ""),
        (attrs.evolve(FOLDER, missing=True), "ok", ""),
        (attrs.evolve(FOLDER, missing=True, uid=0, gid=0), "fail", "install -d -m 0700 -o gateway"),
        (attrs.evolve(FOLDER, mode=stat.S_IFREG | 0o600), "fail", "name a folder"),
        (attrs.evolve(FOLDER, uid=0, gid=0), "fail", "chown gateway:"),
        (attrs.evolve(FOLDER, mode=stat.S_IFDIR | 0o755), "warn", "chmod 0700"),
        (None, "warn", "STATE_DIRECTORY"),
    ],
)
def test_a_state_directory_of_no_use_is_told_with_its_cure(
    entry: Entry | None, verdict: str, fix: str
) -> None:
    (found,) = state(entry, None, GATEWAY)
    assert found.verdict == verdict
    assert fix in found.fix


@pytest.mark.parametrize(
    ("free", "verdict"), [(1000 * MIB, "ok"), (100 * MIB, "warn"), (1 * MIB, "fail")]
)
def test_a_full_disk_is_told_before_it_is_one(free: int, verdict: str) -> None:
    _, found = state(FOLDER, free, GATEWAY)
    assert (found.about, found.verdict) == ("disk", verdict)


def test_files_that_the_daemon_may_not_read_are_named() -> None:
    closed = attrs.evolve(FILE, path=Path("/etc/gateway/gateway.toml"), gid=0)
    (found,) = readable([FILE, closed], GATEWAY)
    assert found.verdict == "fail"
    assert found.what == "gateway may not read /etc/gateway/gateway.toml"
    assert list(readable([FILE, closed], ROOT)) == []


# --- Keys and connections --------------------------------------------------------------------


def test_a_key_that_ends_soon_or_has_ended_is_told() -> None:
    def key(expires: datetime | None) -> StoredKey:
        return StoredKey(digest=b"", expires=expires)

    stored = {
        "gone": key(NOW),
        "soon": key(NOW + timedelta(days=6)),
        "late": key(NOW + timedelta(days=8)),
        "never": key(None),
    }
    gone, soon = keys(Config(stored_keys=stored), FILE, NOW)
    assert "gone expired on 2026-11-22" in gone.what
    assert "revoke gone" in gone.fix
    assert "soon expires on 2026-11-28" in soon.what
    (well,) = keys(Config(stored_keys={"late": key(None)}), FILE, NOW)
    assert (well.verdict, well.what) == (
        "ok",
        "1 stored in /etc/gateway/keys.toml, closed to others",
    )


def test_a_group_that_could_make_keys_is_told() -> None:
    (found,) = keys(Config(), attrs.evolve(FILE, mode=stat.S_IFREG | 0o660), NOW)
    assert found.verdict == "warn"
    assert found.fix == "chmod g-w /etc/gateway/keys.toml"


@pytest.mark.parametrize(
    ("hard", "service", "verdict"),
    [(None, False, "ok"), (20_000, False, "ok"), (1024, False, "warn"), (1024, True, "skip")],
)
def test_fewer_files_than_connections_are_told(
    hard: int | None, service: bool, verdict: str
) -> None:
    config = Config(limits=Limits(connections_max=1024))
    assert open_files(hard, config, service=service).verdict == verdict
