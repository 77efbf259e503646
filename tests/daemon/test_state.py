"""One daemon for one state directory."""

import multiprocessing
import os
from pathlib import Path

import pytest

from gateway.daemon.state import FILE_NAME, StateLocked, StateUnusable, held


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "state"
    with held(str(directory)):
        assert (directory / FILE_NAME).read_text() == f"{os.getpid()}\n"
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_second_one_is_told_who_has_it_and_changes_nothing(tmp_path: Path) -> None:
    with held(str(tmp_path)):
        with pytest.raises(StateLocked) as refused, held(str(tmp_path)):
            pytest.fail("two own it")
        assert f"{tmp_path} is in use by another gateway (process {os.getpid()})" in str(
            refused.value
        )
        assert str(refused.value).startswith("state_locked: ")
        assert (tmp_path / FILE_NAME).read_text() == f"{os.getpid()}\n"


def test_it_is_free_again_afterwards_and_without_a_directory_always(tmp_path: Path) -> None:
    for _ in range(2):
        with held(str(tmp_path)), held(""), held(""):
            pass


def _die_with_it(directory: str) -> None:
    with held(directory):
        os._exit(9)


def test_a_lock_does_not_outlive_a_process_that_was_killed(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_die_with_it, args=(str(tmp_path),))
    child.start()
    child.join(10.0)
    assert child.exitcode == 9
    assert (tmp_path / FILE_NAME).read_text() == f"{child.pid}\n"
    with held(str(tmp_path)):
        pass


def test_what_is_no_directory_is_a_sentence_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(StateUnusable, match="it must be a directory") as refused,
            held(str(place)),
        ):
            pytest.fail("it is none")
        assert str(place) in str(refused.value)


def test_one_of_somebody_else_is_a_sentence_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # Root may write anywhere.
    with pytest.raises(StateUnusable, match=r"Permission denied; .* chown"), held(str(tmp_path)):
        pytest.fail("it is not ours")
