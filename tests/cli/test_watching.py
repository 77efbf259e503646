"""Commands that ask a running daemon, before a real one."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.core import exit_codes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a daemon with the engine that says again what it is told."""
    settings = {
        "PORT": "0",
        "MODEL_NAME": "echo",
        "GATEWAY__BACKEND__KIND": "echo",
        "GATEWAY__LOGGING__FORMAT": "json",
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=tmp_path_factory.mktemp("daemon"),
        env=settings,
        stderr=subprocess.PIPE,
    ) as daemon:
        try:
            assert daemon.stderr is not None
            port = ""
            for line in daemon.stderr:
                told = json.loads(line)
                if told["event"] == "listening":
                    port = told["message"].rpartition(":")[2]
                if told["event"] == "ready":
                    break
            assert port
            yield f"http://127.0.0.1:{port}"
        finally:
            daemon.send_signal(signal.SIGKILL)


def test_one_question_is_answered_and_its_answer_stands_alone(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "--url", url, "Good", "morning.", "--max-tokens", "64"]) == exit_codes.OK
    told = capsys.readouterr()
    assert told.out == "Good morning.\n"
    assert "the first after" in told.err


def test_a_refusal_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", url, "--model", "none", "hi"]) == exit_codes.FAILED
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("gateway: ")
    assert len(told.err.splitlines()) == 1


def test_the_status_is_told_to_people_and_to_programs(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["chat", "--url", url, "to", "be", "seen"])
    capsys.readouterr()
    assert main(["status", "--url", url]) == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gateway ")
    assert ": ready, up " in lines[0]
    assert any(line.startswith("slots ") for line in lines)
    assert any("completed" in line and "anonymous" in line for line in lines)
    assert main(["status", "--url", url, "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["object"] == "gateway.status"


def test_models_are_listed_loaded_and_measured(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", "--url", url]) == exit_codes.OK
    head, *rows = capsys.readouterr().out.splitlines()
    name = rows[0].split()[0]
    assert head.split()[0] == "model"
    assert main(["models", "load", name, "--url", url]) == exit_codes.OK
    assert f"{name} is in memory" in capsys.readouterr().out
    assert main(["models", "ctx", name, "--url", url, "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["id"] == name
    assert main(["models", "load", "none", "--url", url]) == exit_codes.FAILED
    assert "no such model" in capsys.readouterr().err


def test_the_bench_counts_what_was_answered(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--requests", "3", "--at-once", "2", "--max-tokens", "8"]
    assert main(["bench", "--url", url, "--json", *options]) == exit_codes.OK
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [step["at_once"] for step in steps] == [1, 2]
    for step in steps:
        assert len(step["requests"]) == 3
        for run in step["requests"]:
            assert run["refused"] == ""
            assert run["tokens"] == 8
            assert run["total_s"] >= run["first_s"] > 0
            assert run["foreseen_s"] is not None
    assert main(["bench", "--url", url, *options]) == exit_codes.OK
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows[2:]] == [["1", "3", "0"], ["2", "3", "0"]]


def test_top_needs_a_terminal(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--url", url]) == exit_codes.USAGE
    assert "terminal" in capsys.readouterr().err


def test_top_draws_and_ends_at_ctrl_c(url: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "top", "--url", url],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as top:
        try:
            os.close(theirs)
            seen = b""
            while b"slots" not in seen or b"engine" not in seen:
                seen += os.read(ours, 65536)
            top.send_signal(signal.SIGINT)
            while True:
                try:
                    if not os.read(ours, 65536):
                        break
                except OSError:  # The other end is closed.
                    break
            assert top.wait(20) == exit_codes.OK
            assert b"Traceback" not in seen
        finally:
            top.kill()
            os.close(ours)


@pytest.mark.parametrize("command", [["status"], ["models", "list"], ["chat", "hi"], ["bench"]])
def test_who_is_not_there_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--url", "http://127.0.0.1:1"]) == exit_codes.UNAVAILABLE
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("gateway: ")
    ]
    assert "no gateway answers at http://127.0.0.1:1" in line
