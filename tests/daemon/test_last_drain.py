from pathlib import Path

import pytest

from gateway.daemon.last_drain import FILE_NAME, LastDrain


def test_the_next_life_knows_how_many_were_cut_off_and_the_one_after_does_not(
    tmp_path: Path,
) -> None:
    first = LastDrain(str(tmp_path))
    assert first.cut_off is None
    first.save(3)
    assert LastDrain(str(tmp_path)).cut_off == 3
    assert LastDrain(str(tmp_path)).cut_off is None


def test_without_a_state_directory_nothing_is_known() -> None:
    last = LastDrain("")
    last.save(3)
    assert last.cut_off is None


@pytest.mark.parametrize("odd", [b"", b"{", b"[]", b'{"cut_off": -1}', b'{"cut_off": "3"}'])
def test_a_file_that_is_none_of_ours_says_nothing(odd: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(odd)
    assert LastDrain(str(tmp_path)).cut_off is None


def test_a_disk_that_takes_nothing_is_said_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LastDrain(str(tmp_path / "missing")).save(1)
    assert "can't be kept" in caplog.text
