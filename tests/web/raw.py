"""A tiny application on the real runner, and a client that sends bytes as they are."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import attrs
import pytest
from aiohttp import web

from gateway.config.schema import Limits, Timeouts
from gateway.core.errors import GatewayError
from gateway.web.body import BodyBudget, read_body
from gateway.web.connection import ConnectionSettings
from gateway.web.hosts import HostPolicy
from gateway.web.server import GatewayRunner, GatewayServer

HANG_S: Final = 10.0
"""Nothing takes that long; a test that waits it out has found a hang."""

GET_HEALTH: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CANARY: Final = b"c4n4ry"

LIMITS: Final = Limits()
TIMEOUTS: Final = Timeouts()


def post(body: bytes, *headers: str, path: str = "/echo") -> bytes:
    """A POST with a Content-Length."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*frames: bytes) -> bytes:
    """A POST with a chunked body; the frames are sent as they are."""
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(frames)


@attrs.frozen
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What is in the envelope; fails when it is not one."""
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return dict(error)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Reply | None:
        """The next answer, None at the end."""
        try:
            async with asyncio.timeout(HANG_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                lines = head[:-4].decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value
                    for name, _, value in (line.partition(": ") for line in lines[1:])
                }
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Reply(int(lines[0].split(" ")[1]), headers, body)

    async def some(self) -> Reply:
        reply = await self.reply()
        assert reply is not None, "closed without an answer"
        return reply

    async def rest(self) -> bytes:
        """Everything until the end."""
        async with asyncio.timeout(HANG_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


class FullTransport(asyncio.Transport):
    """A connection made by hand, whose client takes what the test says.

    Attributes:
        waiting: Bytes that the client has not taken yet.
    """

    def __init__(self, waiting: int = 100) -> None:
        super().__init__()
        self.waiting = waiting
        self.aborted = False
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self.aborted = True


class Refusals:
    """An on_refusal that remembers."""

    def __init__(self) -> None:
        self.told: list[GatewayError] = []

    def __call__(self, error: GatewayError, *, remote: str, request_id: str) -> None:
        assert request_id
        assert remote == "127.0.0.1"
        self.told.append(error)


class Closings:
    """An on_closed that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, reason: str) -> None:
        self.told.append(reason)
        self._changed.set()

    async def until(self, reason: str) -> None:
        async with asyncio.timeout(HANG_S):
            while reason not in self.told:
                self._changed.clear()
                await self._changed.wait()


@attrs.define(eq=False, kw_only=True)
class Edge:
    """The application as it runs."""

    port: int
    runner: GatewayRunner
    server: GatewayServer
    budget: BodyBudget
    refusals: Refusals
    closed: Closings
    entered: asyncio.Event
    left: asyncio.Event
    release: asyncio.Event
    clients: list[Client] = attrs.field(factory=list)

    async def connect(self, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.clients.append(client)
        return client

    def unconnected(self) -> socket.socket:
        """A socket of one's own."""
        unconnected = socket.socket()
        unconnected.setblocking(False)
        return unconnected

    async def send(self, *pieces: bytes) -> Client:
        """A new connection on which this was sent, piece by piece."""
        client = await self.connect()
        for number, piece in enumerate(pieces):
            if number:
                await self.settle()
            client.send(piece)
        return client

    async def ask(self, *pieces: bytes) -> Reply:
        """The first answer to this on a new connection."""
        return await (await self.send(*pieces)).some()

    async def settle(self) -> None:
        """Let what was sent arrive: a whole request and its answer later it has."""
        with contextlib.closing((client := await self.connect()).writer):
            client.send(GET_HEALTH)
            await client.reply()


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


@contextlib.asynccontextmanager
async def running(
    *,
    limits: Limits = LIMITS,
    timeouts: Timeouts = TIMEOUTS,
    hosts: Iterable[str] = (),
    settle_s: float = 0.0,
    shutdown_timeout_s: float = 1.0,
) -> AsyncIterator[Edge]:
    """GET /health, POST /echo (reads its body), /refuse (doesn't), /wait (answers when released),
    /stream (begins at once), /big and /endless (more than any buffer holds)."""
    budget = BodyBudget(limits.bodies_in_flight_bytes_max)
    refusals = Refusals()
    closed = Closings()
    entered, left, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def echo(web_request: web.Request) -> web.Response:
        entered.set()
        try:
            with budget.share() as share:
                return web.Response(body=await read_body(web_request, limits, timeouts, share))
        finally:
            left.set()

    async def refuse(web_request: web.Request) -> web.Response:
        return web.json_response({}, status=401)

    async def wait(web_request: web.Request) -> web.Response:
        entered.set()
        try:
            await release.wait()
        finally:
            left.set()
        return web.Response(text="released")

    async def stream(web_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(web_request)
        entered.set()
        await release.wait()
        await response.write(b"released")
        return response

    async def big(web_request: web.Request) -> web.Response:
        return web.Response(body=bytes(32 * 1024 * 1024))

    async def endless(web_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            await response.prepare(web_request)
            while True:
                await response.write(bytes(64 * 1024))
        finally:
            left.set()

    async def broken(web_request: web.Request) -> web.Response:
        raise ValueError("a mistake of our own")

    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_post("/echo", echo)
    app.router.add_post("/refuse", refuse)
    app.router.add_get("/wait", wait)
    app.router.add_get("/stream", stream)
    app.router.add_get("/big", big)
    app.router.add_get("/endless", endless)
    app.router.add_get("/broken", broken)

    def encode_error(error: GatewayError, request_id: str) -> bytes:
        envelope = {"message": error.message, "type": "x", "param": None, "code": error.code}
        return json.dumps({"error": envelope}).encode()

    settings = ConnectionSettings(
        timeouts=timeouts,
        limits=limits,
        hosts=HostPolicy(bind_host="127.0.0.1", allowed_hosts=hosts),
        encode_error=encode_error,
        new_request_id=lambda: "req-1",
        on_refusal=refusals,
        on_closed=closed,
    )
    runner = GatewayRunner(
        app, settings=settings, shutdown_timeout_s=shutdown_timeout_s, settle_s=settle_s
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    assert isinstance(runner.server, GatewayServer)
    edge = Edge(
        port=site.port,
        runner=runner,
        server=runner.server,
        budget=budget,
        refusals=refusals,
        closed=closed,
        entered=entered,
        left=left,
        release=release,
    )
    try:
        yield edge
    finally:
        for client in edge.clients:
            client.writer.transport.abort()
        release.set()
        await runner.cleanup()


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing in the log is a traceback or an alarm, and nothing quotes the client."""
    for record in caplog.records:
        assert record.exc_info is None, record
        assert record.levelno < logging.WARNING, record
        assert CANARY.decode() not in record.getMessage()
