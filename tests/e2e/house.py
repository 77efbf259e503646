"""A whole gateway in this process, as the daemon runs it: its wiring, runner and loops.

    async with opened(ollama) as house:
        answer = await house.chat(say("hi"))

Only the time that is waited for late connections at the end is left out.
"""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import attrs
from multidict import CIMultiDict

from gateway.backends.echo import MODEL as ECHO_MODEL
from gateway.backends.echo import EchoBackend
from gateway.config.schema import Backend, Config, Generation, Scheduling, Server
from gateway.core.clock import LoopClock
from gateway.core.errors import ConfigError
from gateway.daemon.background import background
from gateway.daemon.life import Life
from gateway.daemon.reload import Reloader
from gateway.daemon.wiring import Daemon, wire
from gateway.telemetry import logs as telemetry_logs
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.logs import RequestLog
from gateway.web.reload import Reloaded
from gateway.web.server import GatewayRunner
from tests.e2e import ollama
from tests.e2e.ollama import ScriptedOllama
from tests.web.raw import HANG_S, Client

CHAT: Final = "/v1/chat/completions"
KEY: Final = "sk-e2e-0123456789abcdefghijklmnop"
WITH_KEY: Final = {"Authorization": f"Bearer {KEY}"}

ANY_WAIT: Final = Scheduling(deadlines=False)
"""Whoever has room in the queue is let in, however long it may take: for a queue that is
filled with answers of which nobody knows how long they are."""

Body = dict[str, Any]


def say(text: str, **fields: Any) -> Body:
    """The body of a chat; the default model unless another is named."""
    messages = [{"role": "user", "content": text}]
    return {"model": "default", "messages": messages, **fields}


def short(text: str, **fields: Any) -> Body:
    """A chat whose answer is known to be short, so that some may wait for it."""
    return say(text, max_tokens=2, **fields)


def http_post(body: bytes, *headers: str, path: str = CHAT) -> bytes:
    """A POST as bytes, for a raw connection."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def http_chat(body: Body, *headers: str) -> bytes:
    return http_post(json.dumps(body).encode(), *headers)


@attrs.frozen
class Answer:
    """One answer, whole or streamed, read to its end."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """Of a whole answer with one choice."""
        return str(self.document["choices"][0]["message"]["content"])

    @property
    def error(self) -> dict[str, Any]:
        """What is in the envelope; fails when it is not one."""
        return error_of(self.document)

    @property
    def records(self) -> list[str]:
        """The data of each event of a stream, comments left out."""
        events = self.body.decode().split("\n\n")
        assert events.pop() == "", "the stream does not end with an event"
        data = [event for event in events if not event.startswith(": ")]
        assert all(event.startswith("data: ") and "\n" not in event for event in data)
        return [event.removeprefix("data: ") for event in data]

    @property
    def comments(self) -> list[str]:
        """What else was said in a stream, each without its colon."""
        events = self.body.decode().split("\n\n")
        return [event.removeprefix(": ") for event in events if event.startswith(": ")]

    @property
    def chunks(self) -> list[Any]:
        """Of a whole stream: what stands before the `[DONE]` that it must end with."""
        *records, last = self.records
        assert last == "[DONE]"
        return [json.loads(record) for record in records]

    @property
    def streamed_text(self) -> str:
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk["choices"]
        )

    @property
    def broken(self) -> dict[str, Any]:
        """The error that a stream ended with; fails when it looks like a whole one."""
        records = self.records
        assert "[DONE]" not in records
        assert '"finish_reason":"' not in self.body.decode()
        return error_of(json.loads(records[-1]))


def streamed(received: bytes) -> Answer:
    """A whole chunked answer as it came over a raw connection."""
    top, _, body = received.partition(b"\r\n\r\n")
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        chunks.append(body[:length])
        body = body[length + 2 :]
    assert chunks[-1] == b"", "cut off"
    return Answer(int(top.split(b" ")[1]), CIMultiDict(), b"".join(chunks))


def error_of(document: Any) -> dict[str, Any]:
    assert set(document) == {"error"}
    error = document["error"]
    more = {"estimated_wait_ms", "queue_position"}  # of a refusal that knows its turn
    assert set(error) - more == {"message", "type", "param", "code"}
    return dict(error)


class Told(RequestLog):
    """The request log, and an ear at it."""

    def __init__(self, log: RequestLog) -> None:
        vars(self).update(vars(log))
        self._heard = asyncio.Event()
        self.exchanges: list[Exchange] = []

    def exchanged(self, exchange: Exchange) -> None:
        super().exchanged(exchange)
        self.exchanges.append(exchange)
        self._heard.set()

    async def wait(self, count: int) -> list[Exchange]:
        """All of them, as soon as there are so many."""
        async with asyncio.timeout(HANG_S):
            while len(self.exchanges) < count:
                self._heard.clear()
                await self._heard.wait()
        return self.exchanges


@attrs.define(eq=False, kw_only=True)
class House:
    """The gateway as it runs.

    Attributes:
        config: What is read at the next reload.
        mistakes: Instead of that, if there are any.
    """

    daemon: Daemon
    life: Life
    reloader: Reloader
    config: Config
    runner: GatewayRunner
    port: int
    session: aiohttp.ClientSession
    told: Told
    written: io.StringIO
    clients: list[Client] = attrs.field(factory=list)
    mistakes: list[str] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def echo(self) -> EchoBackend:
        """The backend, where it is one that echoes."""
        backend = self.daemon.pool.upstreams[0].backend
        assert isinstance(backend, EchoBackend)
        return backend

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        """One request, its answer read to the end."""
        async with (
            asyncio.timeout(HANG_S),
            self.session.request(method, self.url + path, headers=headers, data=data) as response,
        ):
            body = await response.read()
            return Answer(response.status, CIMultiDict(response.headers), body)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, path: str = CHAT
    ) -> Answer:
        """A body as it stands."""
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        return await self.ask("POST", path, headers=all_headers, data=body)

    async def chat(self, body: Body, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.post(json.dumps(body).encode(), headers)

    async def forecast(self, body: Body, headers: Mapping[str, str] | None = None) -> Any:
        """What a dry run of this chat says."""
        answer = await self.post(json.dumps(body).encode(), headers, path=f"{CHAT}?dry_run=1")
        assert answer.status == 200
        return answer.document

    async def reload(self, **tables: Any) -> Reloaded:
        """With these tables in the place of those that were read last."""
        self.config = attrs.evolve(self.config, **tables)
        return await self.reloader.reload()

    def read(self) -> Config:
        """As the files of a daemon are read."""
        if self.mistakes:
            raise ConfigError(self.mistakes)
        return self.config

    async def connect(self, **options: Any) -> Client:
        """A raw connection."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.clients.append(client)
        return client

    async def send(self, data: bytes) -> Client:
        """A new raw connection on which this was sent."""
        client = await self.connect()
        client.send(data)
        return client

    def lines(self) -> list[dict[str, Any]]:
        """Everything in the log so far."""
        assert self.daemon.logs.flush()
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def request_lines(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == "request"]

    async def metrics(self) -> dict[str, float]:
        """Each series of /metrics, labels as they are written, and its value."""
        return await self.metrics_as(self.key_if_any)

    async def metrics_as(self, headers: Mapping[str, str]) -> dict[str, float]:
        page = (await self.get("/metrics", headers)).body.decode()
        return {
            name: float(value)
            for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", page, re.MULTILINE)
        }

    @property
    def key_if_any(self) -> dict[str, str]:
        return WITH_KEY if self.daemon.config.auth.api_key else {}

    def assert_at_rest(self) -> None:
        """Nothing runs, nothing waits, and no slot is lost."""
        assert self.daemon.service.active == 0
        assert self.daemon.queue.qsize() == 0
        assert [upstream.in_flight for upstream in self.daemon.pool.upstreams] == [0]


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody go on until this is so."""
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 (what it looks at tells nobody)
            await asyncio.sleep(0)


def config_for(engine: ScriptedOllama | None, **tables: Any) -> Config:
    """A configuration for this engine, else the one that echoes; no warm-up, a free port."""
    if engine is None:
        backend = Backend(kind="echo", slots=4)
        default_model = ECHO_MODEL
    else:
        backend = Backend(kind="ollama", url=engine.url, slots=1)
        default_model = ollama.MODEL
    tables.setdefault("server", Server())
    tables["server"] = attrs.evolve(tables["server"], host="127.0.0.1", port=0)
    tables.setdefault("generation", Generation(warm_up=False))
    tables["generation"] = attrs.evolve(tables["generation"], default_model=default_model)
    tables.setdefault("backend", backend)
    return Config(**tables)


@asynccontextmanager
async def opened(
    engine: ScriptedOllama | None = None, *, up: bool = True, **tables: Any
) -> AsyncIterator[House]:
    """A running gateway.

    Args:
        engine: None: the one that echoes.
        up: Wait until the engine was found.
        tables: Of the configuration, by name.
    """
    config = config_for(engine, **tables)
    written = io.StringIO()
    logs = telemetry_logs.setup(config.logging.level, "json", written)
    logs.requests = told = Told(logs.requests)
    daemon = await wire(config, clock=LoopClock(), logs=logs)
    life = Life(daemon, asyncio.Event())
    daemon.app.on_startup.append(life.begin_warm_up)
    daemon.app.on_shutdown.append(life.end_leftovers)
    daemon.app.on_cleanup.append(life.close_backends)
    runner = GatewayRunner(daemon.app, settings=daemon.connections, settle_s=0.0)
    found = asyncio.Event()
    daemon.pool.listeners.append(found.set)
    house: House
    reloader = Reloader(
        daemon,
        reread=lambda: house.read(),  # noqa: PLW0108 - it comes later
        change_connections=runner.change,
    )
    loops = (daemon.worker.run(), daemon.health.run(), daemon.engines.run(), life.warm_up())
    async with background(*loops):
        try:
            await runner.setup()
            assert await life.listen(runner)
            if up:
                async with asyncio.timeout(HANG_S):
                    await found.wait()
            async with aiohttp.ClientSession(
                # One connection for each request: after some refusals it is closed.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session:
                house = House(
                    daemon=daemon,
                    life=life,
                    reloader=reloader,
                    config=config,
                    runner=runner,
                    port=runner.addresses[0][1],
                    session=session,
                    told=told,
                    written=written,
                )
                try:
                    yield house
                finally:
                    for client in house.clients:
                        client.writer.transport.abort()
        finally:
            await runner.cleanup()
            logs.close()
