"""What callers have used, over the life and death of a real process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.cli.main import main
from gateway.core import exit_codes
from gateway.telemetry.usage_store import FILE_NAME, SqliteStore
from tests.e2e.house import http_chat, say
from tests.e2e.process import PATIENCE_S, Process, environment, spawned

KEY: Final = "sk-alice-0123456789abcdef"
HEADER: Final = f"Authorization: Bearer {KEY}"

pytestmark = pytest.mark.slow


def settings(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f"""
        [server]
        host = "127.0.0.1"
        state_directory = "{tmp_path / "state"}"
        [auth.keys]
        alice = "{KEY}"
        [callers.alice]
        tokens_per_day = 10000
        admin = true
        """
    )
    return path


def environ(tmp_path: Path) -> Mapping[str, str]:
    return {
        **environment("http://127.0.0.1:1"),
        "GATEWAY__BACKEND__KIND": "echo",
        "MODEL_NAME": "echo",
        "GATEWAY_CONFIG": str(settings(tmp_path)),
    }


@asynccontextmanager
async def daemon(tmp_path: Path) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "gateway", "serve")
    async with spawned(tmp_path, *command, environ=environ(tmp_path)) as process:
        await process.listening()
        yield process


async def chat(process: Process, count: int = 1) -> None:
    """Requests of two tokens each."""
    for _ in range(count):
        assert (await process.ask(http_chat(say("hi"), HEADER))).status == 200


async def usage(process: Process) -> dict[str, Any]:
    """Of today, as its caller is told."""
    request = f"GET /v1/usage HTTP/1.1\r\nHost: localhost\r\n{HEADER}\r\n\r\n"
    document: dict[str, Any] = json.loads((await process.ask(request.encode())).body)
    return document


def stored(tmp_path: Path) -> int:
    """Requests that have reached the file."""
    with closing(SqliteStore(tmp_path / "state", read_only=True)) as store:
        return sum(counts.requests for counts in store.totals("", "caller").values())


async def until_stored(tmp_path: Path, requests: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(stored, tmp_path) < requests:  # noqa: ASYNC110 (it is a file)
            await asyncio.sleep(0.05)


def cli(tmp_path: Path, *arguments: str) -> int:
    return main(["usage", "--config", str(tmp_path / "gateway.toml"), *arguments])


async def test_a_process_that_is_killed_loses_the_last_second_and_a_day_goes_on_in_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(tmp_path) as first:
        await chat(first, 7)
        await until_stored(tmp_path, 7)
        await chat(first, 3)
        os.kill(first.child.pid, signal.SIGKILL)
        await first.child.wait()
    async with daemon(tmp_path) as second:
        told = await usage(second)
        requests = told["usage"]["requests"]
        assert 7 <= requests <= 10
        day = told["limits"]["tokens_per_day"]
        assert (day["limit"], day["remaining"]) == (10_000, 10_000 - 2 * requests)
        await chat(second, 2)
        url = f"http://127.0.0.1:{second.port}"
        monkeypatch.setenv("GATEWAY_KEY", KEY)
        assert await asyncio.to_thread(cli, tmp_path, "--url", url, "--json") == 0
        [asked] = json.loads(capsys.readouterr().out)["data"]
        assert (asked["name"], asked["requests"]) == ("alice", requests + 2)
        second.child.terminate()
        assert await second.exit_code() == exit_codes.OK
    # What had not reached the file by then has at the end; and it can be read without a daemon.
    assert stored(tmp_path) == requests + 2


async def test_a_file_that_is_damaged_stops_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE_NAME).write_bytes(b"no database at all" * 1000)
    command = (sys.executable, "-m", "gateway", "serve")
    async with spawned(tmp_path, *command, environ=environ(tmp_path)) as process:
        assert process.child.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            said = (await process.child.stderr.read()).decode()
            assert await process.child.wait() == exit_codes.CONFIG
    assert f"gateway: {state / FILE_NAME} is damaged (db_corrupt)." in said
    assert "Traceback" not in said
    assert (state / FILE_NAME).read_bytes() == b"no database at all" * 1000
