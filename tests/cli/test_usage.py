import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.config.environment import SHORT_NAMES
from gateway.core import exit_codes
from gateway.telemetry.usage import Counts, Key, day_of
from gateway.telemetry.usage_store import FILE_NAME, SqliteStore
from tests.cli.test_client import Daemon, daemon

__all__ = ["daemon"]


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*SHORT_NAMES, "GATEWAY_CONFIG", "GATEWAY_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Path]:
    """A configuration whose port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        path = tmp_path / "gateway.toml"
        path.write_text(
            f"[server]\nport = {taken.getsockname()[1]}\nstate_directory = '{tmp_path}/state'\n"
        )
        yield path


def keep(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "state", days=10)) as store:
        day = day_of(1_795_348_800.0)
        counts = {
            Key(day, "alice", "m"): Counts(2, 1, 0, 1200, 200, 34, 1.5),
            Key(day, "a-longer-name", "m"): Counts(1, 0, 0, 5, 0, 5, 0.25),
        }
        store.add("a-1", counts)


def test_the_daemon_is_asked_if_one_runs(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says({"object": "gateway.usage", "since": "2026-11-22", "by": "model", "data": []})
    assert main(["usage", "--url", daemon.url, "--since", "2026-11-22", "--by", "model"]) == 0
    assert capsys.readouterr().out == "Nothing was used since 2026-11-22.\n"
    [(_, path, _, _)] = daemon.asked
    assert path == "/gateway/usage?since=2026-11-22&by=model"


def test_without_a_daemon_its_file_is_read(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path)
    assert main(["usage", "--config", str(settings), "--since", "2026-11-22"]) == 0
    assert capsys.readouterr().out == (
        "Since 2026-11-22 (UTC):\n"
        "\n"
        "caller         requests  refused  failed  prompt tokens  of these cached  answer tokens"
        "  slot seconds\n"
        "alice                 2        1       0          1,200              200             34"
        "           1.5\n"
        "a-longer-name         1        0       0              5                0              5"
        "          0.25\n"
    )


def test_as_json_it_is_what_the_daemon_would_say(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path)
    arguments = ["usage", "--config", str(settings), "--since", "2026-11-22", "--by", "day"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "object": "gateway.usage",
        "since": "2026-11-22",
        "by": "day",
        "data": [
            {
                "name": "2026-11-22",
                "requests": 3,
                "refusals": 1,
                "failures": 0,
                "prompt_tokens": 1205,
                "cached_tokens": 200,
                "completion_tokens": 39,
                "slot_seconds": 1.75,
            }
        ],
    }


def test_with_neither_it_says_what_is_missing(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--config", str(settings)]) == exit_codes.UNAVAILABLE
    assert f"there is no {tmp_path}/state/{FILE_NAME}" in capsys.readouterr().err
    settings.write_text(settings.read_text().partition("state_directory")[0])
    assert main(["usage", "--config", str(settings)]) == exit_codes.UNAVAILABLE
    assert "Nor is there a server.state_directory" in capsys.readouterr().err


def test_a_daemon_that_was_named_is_not_replaced_by_a_file(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path)
    port = settings.read_text().partition("port = ")[2].split()[0]
    url = f"http://127.0.0.1:{port}"
    assert main(["usage", "--config", str(settings), "--url", url]) == exit_codes.UNAVAILABLE
    assert f"no gateway answers at {url}" in capsys.readouterr().err


def test_a_damaged_file_is_told_with_its_path(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_bytes(b"no database" * 1000)
    assert main(["usage", "--config", str(settings)]) == exit_codes.CONFIG
    assert f"{FILE_NAME} is damaged (db_corrupt)" in capsys.readouterr().err


def test_a_wrong_day_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--since", "lately"]) == exit_codes.USAGE
    assert "--since: must be a number of days" in capsys.readouterr().err
