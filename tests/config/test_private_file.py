import os
import stat
import threading
from pathlib import Path

import pytest

from gateway.config import private_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "SERVICE_GROUP", "no-such-group")
    path = tmp_path / "keys.toml"
    private_file.write(path, "ä")
    assert path.read_text("utf-8") == "ä"
    assert mode_of(path) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_the_daemon_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_file, "_service_group", lambda: 54321)
    path = tmp_path / "keys.toml"
    private_file.write(path, "x")
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (0, 54321, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    path.chmod(0o660)
    private_file.write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (12345, 54321, 0o660)


def test_what_others_may_is_taken_away_and_nothing_is_given(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("old")
    for before, after in ((0o644, 0o640), (0o607, 0o600), (0o400, 0o400)):
        path.chmod(before)
        private_file.write(path, "new")
        assert mode_of(path) == after


def test_a_link_stays_one(tmp_path: Path) -> None:
    path, link = tmp_path / "real.toml", tmp_path / "keys.toml"
    path.write_text("old")
    link.symlink_to(path)
    private_file.write(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        private_file.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_who_change_it_do_so_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")

    def count() -> None:
        for _ in range(20):
            with private_file.locked(tmp_path):
                private_file.write(path, str(int(path.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "80"
