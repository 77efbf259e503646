"""The daemon as a process of its own: `gateway serve`, its signals, its log and its exit code."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from tests.e2e.ollama import MODEL
from tests.web.raw import Client, Reply

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 20.0
"""A process that takes longer hangs."""

Line = dict[str, Any]


@attrs.define(eq=False)
class Process:
    """One running daemon. `lines` is its log so far."""

    child: asyncio.subprocess.Process
    port: int = 0
    lines: list[Line] = attrs.field(factory=list)
    clients: list[Client] = attrs.field(factory=list)

    async def line(self, wanted: Callable[[Line], bool]) -> Line:
        """The next line of the log that is so."""
        assert self.child.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while text := await self.child.stderr.readline():
                self.lines.append(json.loads(text))
                if wanted(self.lines[-1]):
                    return self.lines[-1]
        raise AssertionError(f"the log has ended: {self.lines}")

    async def says(self, text: str) -> Line:
        return await self.line(lambda line: text in line.get("message", ""))

    async def listening(self) -> None:
        line = await self.line(lambda line: line["event"] == "listening")
        self.port = int(line["message"].rpartition(":")[2])

    async def send(self, data: bytes) -> Client:
        """A new connection on which this was sent."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        client.send(data)
        return client

    async def ask(self, data: bytes) -> Reply:
        return await (await self.send(data)).some()

    async def get(self, path: str) -> Reply:
        return await self.ask(_get(path))

    async def queued(self, count: int) -> None:
        """Until so many requests wait."""
        wanted = f"\nrequest_queue_depth {count}\n".encode()
        client = await self.send(b"")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                client.send(_get("/metrics"))
                if wanted in (await client.some()).body:
                    return

    async def exit_code(self) -> int:
        """As soon as it has ended; the rest of its log is in `lines` then."""
        assert self.child.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            rest = await self.child.stderr.read()
            self.lines += [json.loads(text) for text in rest.splitlines()]
            return await self.child.wait()

    def has(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines)


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def environment(url: str, **variables: str) -> Mapping[str, str]:
    """Of a daemon that serves from the Ollama there; nothing of our own but what Python needs."""
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PORT": "0",
        "MODEL_NAME": MODEL,
        "OLLAMA_URL": url,
        "GATEWAY__BACKEND__KIND": "ollama",
        "GATEWAY__GENERATION__WARM_UP": "false",
        **variables,
    }


@asynccontextmanager
async def spawned(
    directory: Path, *command: str, environ: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> AsyncIterator[Process]:
    """A process that has just begun; killed at the end if it still runs."""
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
        pass_fds=pass_fds,
    )
    process = Process(child)
    try:
        yield process
    finally:
        for client in process.clients:
            client.writer.transport.abort()
        if child.returncode is None:
            child.kill()
        await child.communicate()


@asynccontextmanager
async def serving(directory: Path, url: str, **variables: str) -> AsyncIterator[Process]:
    """A daemon that listens."""
    environ = environment(url, **variables)
    async with spawned(
        directory, sys.executable, "-m", "gateway", "serve", environ=environ
    ) as process:
        await process.listening()
        yield process
