"""The process under a service manager: its sockets, its words, and who is lost over a restart."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.backends.fake_engine import Pause
from tests.e2e.house import http_chat, say, short
from tests.e2e.ollama import HELLO, ScriptedOllama
from tests.e2e.process import PATIENCE_S, Process, environment, spawned
from tests.web.raw import GET_HEALTH, Client

pytestmark = pytest.mark.slow

LAUNCHER: Final = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve"])
"""
"""What a service manager does between fork and exec."""


@attrs.frozen
class Manager:
    """A service manager: it holds the socket, and hears what is said."""

    listening: socket.socket
    words: socket.socket

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    async def hears(self, wanted: str) -> list[str]:
        """The lines of the next datagram that has this one."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                lines = (await loop.sock_recv(self.words, 4096)).decode().split("\n")
                if wanted in lines:
                    return lines

    async def connect(self, data: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        client.send(data)
        return client


@pytest.fixture
def manager() -> Iterator[Manager]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as words,
    ):
        words.bind(f"\0gateway-test-{os.getpid()}-{listening.getsockname()[1]}")
        words.setblocking(False)
        yield Manager(listening, words)


@asynccontextmanager
async def activated(
    manager: Manager, directory: Path, url: str, **variables: str
) -> AsyncIterator[Process]:
    """A daemon that was given the manager's socket as its descriptor 3."""
    environ: Mapping[str, str] = environment(
        url,
        NOTIFY_SOCKET=manager.words.getsockname().decode().replace("\0", "@", 1),
        LISTEN_FDS="1",
        LISTEN_FDNAMES="gateway.socket",
        **variables,
    )
    descriptor = manager.listening.fileno()
    async with spawned(
        directory,
        *(sys.executable, "-c", LAUNCHER, str(descriptor)),
        environ=environ,
        pass_fds=(descriptor,),
    ) as process:
        yield process


async def test_the_service_manager_hears_of_start_reload_and_end(
    engine: ScriptedOllama, manager: Manager, tmp_path: Path
) -> None:
    async with activated(
        manager, tmp_path, engine.url, WATCHDOG_USEC="400000", SHUTDOWN_GRACE_SECONDS="7"
    ) as process:
        ready = await manager.hears("READY=1")
        assert ready[1].startswith("STATUS=serving: 0 running, 0 waiting, ")
        # What it says is so: in that moment it answers already.
        client = await manager.connect(GET_HEALTH)
        assert (await client.some()).status == 200
        client.writer.close()
        await manager.hears("WATCHDOG=1")
        process.child.send_signal(1)
        reloading = await manager.hears("RELOADING=1")
        assert reloading[1].startswith("MONOTONIC_USEC=")
        await manager.hears("READY=1")
        process.child.terminate()
        stopping = await manager.hears("STOPPING=1")
        # The grace, and what comes after it.
        assert stopping[2] == "EXTEND_TIMEOUT_USEC=19000000"
        assert await process.exit_code() == 0


async def test_ready_is_said_when_the_model_is_warm(
    engine: ScriptedOllama, manager: Manager, tmp_path: Path
) -> None:
    engine.loading = hold = Pause()
    async with activated(
        manager, tmp_path, engine.url, GATEWAY__GENERATION__WARM_UP="true"
    ) as process:
        await process.listening()
        await manager.hears("EXTEND_TIMEOUT_USEC=30000000")
        process.port = manager.port
        assert (await process.get("/ready")).status == 503
        assert not process.has("ready")
        hold.go.set()
        await manager.hears("READY=1")
        assert (await process.get("/ready")).status == 200


async def test_nobody_is_refused_by_a_restart(
    engine: ScriptedOllama, manager: Manager, tmp_path: Path
) -> None:
    """Some keep their connection, some connect anew each time; no one tries again."""
    over = asyncio.Event()
    told: list[str] = []

    async def ask_on(keeps: bool) -> None:
        client = None
        while not over.is_set():
            if client is None:
                client = await manager.connect()
            client.send(http_chat(short("hi")))
            reply = await client.reply()
            told.append("nothing" if reply is None else str(reply.status))
            if not keeps or reply is None or reply.headers.get("connection") == "close":
                client.writer.close()
                client = None
            await asyncio.sleep(0.001)
        if client is not None:
            client.writer.close()

    async def answers(more: int) -> None:
        wanted = len(told) + more
        async with asyncio.timeout(PATIENCE_S):
            while len(told) < wanted:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    variables = {"SLOTS": "4", "GATEWAY__TIMEOUTS__REQUEST_TIMEOUT_SECONDS": "30"}
    clients = [asyncio.create_task(ask_on(bool(number % 2))) for number in range(8)]
    for _ in range(2):
        async with activated(manager, tmp_path, engine.url, **variables) as process:
            await answers(100)
            process.child.terminate()
            assert await process.exit_code() == 0
    async with activated(manager, tmp_path, engine.url, **variables):
        await answers(100)
        over.set()
        await asyncio.gather(*clients)
    assert len(told) >= 300
    assert set(told) == {"200"}


async def test_what_was_accepted_ends_while_others_wait_for_the_next_process(
    engine: ScriptedOllama, manager: Manager, tmp_path: Path
) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    async with activated(manager, tmp_path, engine.url) as first:
        await first.says("upstream default is up")
        running = await manager.connect(http_chat(say("running")))
        await engine.wait_asked(1)
        first.child.terminate()
        await first.says("requests are still to be answered")
        waiting = await manager.connect(GET_HEALTH)
        hold.go.set()
        assert (await running.some()).status == 200
        assert await first.exit_code() == 0
        running.writer.close()
    async with activated(manager, tmp_path, engine.url):
        assert (await waiting.some()).status == 200
        waiting.writer.close()


async def test_a_second_daemon_on_the_state_directory_ends_and_the_first_goes_on(
    engine: ScriptedOllama, manager: Manager, tmp_path: Path
) -> None:
    state = {"STATE_DIRECTORY": str(tmp_path / "state")}
    async with activated(manager, tmp_path, engine.url, **state) as first:
        await first.listening()
        environ = environment(engine.url, **state)
        async with spawned(
            tmp_path, sys.executable, "-m", "gateway", "serve", environ=environ
        ) as second:
            assert await second.exit_code() == 69
        (error,) = [line for line in second.lines if line["level"] == "error"]
        assert error["event"] == "state_locked"
        assert f"(process {first.child.pid})" in error["message"]
        first.port = manager.port
        assert (await first.get("/health")).status == 200
    with contextlib.suppress(ProcessLookupError):
        first.child.kill()
