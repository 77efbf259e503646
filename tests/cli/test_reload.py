import json
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.core import exit_codes
from tests.cli.test_client import Daemon
from tests.cli.test_client import daemon as daemon  # noqa: PLC0414 - a fixture

APPLIED = {
    "key": "queue.max_queue_size",
    "was": "1",
    "now": "2",
    "words": "queue.max_queue_size: 1 -> 2",
}
WAITING = {"key": "server.port", "was": "1", "now": "2", "words": "server.port: 1 -> 2"}


def reloaded(
    applied: list[Any] | None = None, waiting: list[Any] | None = None, *notes: str
) -> dict[str, Any]:
    return {
        "object": "gateway.reload",
        "applied": applied or [],
        "needs_restart": [{**each, "why": "it is bound"} for each in waiting or []],
        "notes": list(notes),
    }


def test_what_was_applied_and_what_was_not_is_told(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(reloaded([APPLIED], [WAITING], "upstream u does not answer yet."))
    assert main(["reload", "--url", daemon.url]) == exit_codes.OK
    assert capsys.readouterr().out.splitlines() == [
        "Applied:",
        "  queue.max_queue_size: 1 -> 2",
        "Needs a restart:",
        "  server.port: 1 -> 2 (it is bound)",
        "upstream u does not answer yet.",
    ]
    ((method, path, _, _),) = daemon.asked
    assert (method, path) == ("POST", "/gateway/reload")


def test_no_change_is_told_too(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(reloaded())
    assert main(["reload", "--url", daemon.url]) == exit_codes.OK
    assert capsys.readouterr().out == "Nothing has changed.\n"


def test_programs_get_the_document_as_it_is(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(reloaded([APPLIED]))
    assert main(["reload", "--json", "--url", daemon.url]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out) == reloaded([APPLIED])


def test_a_refusal_is_a_wrong_configuration_with_each_mistake_on_its_line(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "The old configuration stays in force.\na.toml: x: wrong.\nb.toml: y: wrong."
    daemon.says({"error": {"message": message, "code": "config_refused"}}, 422)
    assert main(["reload", "--url", daemon.url]) == exit_codes.CONFIG
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [f"gateway: {line}" for line in message.splitlines()]


def test_any_other_refusal_is_no_mistake_of_the_configuration(daemon: Daemon) -> None:
    daemon.says({"error": {"message": "It drains.", "code": "shutting_down"}}, 503)
    assert main(["reload", "--url", daemon.url]) == exit_codes.FAILED


def test_a_configuration_that_is_wrong_here_already_is_not_sent_on(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("x = 1")
    assert main(["reload", "--config", str(path)]) == exit_codes.CONFIG
    first, second = capsys.readouterr().err.splitlines()
    assert first == "gateway: nothing was reloaded, since the configuration is wrong:"
    assert second.startswith(f"gateway: {path}: x: ")
