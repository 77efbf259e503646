"""Clients that hold a connection and get nowhere: silent, slow heads, stalled bodies, non-readers.

The four in which a server that only waits collects them until it has no room left.
While they are there, /health is asked all the time.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from time import perf_counter
from typing import Final

import attrs
import uvloop

from bench import figures
from bench.figures import KIB, MIB, Figure
from bench.processes import Child
from bench.sites import Site
from bench.wire import HOST, connect, get, openai_chat, post

TRICKLE_S: Final = 1.0
HEALTH_EACH_S: Final = 0.02
WATCH_EACH_S: Final = 0.25
OPENED_AT_ONCE: Final = 200
RECEIVE_BUFFER_BYTES: Final = 4096
SLOW_TIMEOUT_S: Final = 3.0
CLOSED_WITHIN_S: Final = SLOW_TIMEOUT_S + 5.0
SLOW_CLIENTS: Final = 1_600
SLOW_GROWTH_BYTES_MAX: Final = 32 * MIB + SLOW_CLIENTS * 16 * KIB
MANY_SLOW_CLIENTS: Final = 10_000
MANY_GROWTH_BYTES_MAX: Final = 96 * MIB
MANY_HELD_S: Final = 5.0
FILES_BESIDES: Final = 500

# So large that it does not fit into the socket buffers of both sides.
_ENDLESS: Final = openai_chat("tokens:2000x4096", stream=True).payload
_HALF_HEAD: Final = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\n".encode()
_HALF_BODY: Final = post("/v1/chat/completions", b"{" + b" " * 999)[:-990]


@attrs.frozen
class Kind:
    """A way to be slow: what is sent first, and what again and again."""

    first: bytes
    again: bytes = b""


SILENT: Final = Kind(b"")
SLOW_HEAD: Final = Kind(_HALF_HEAD, b"X-Slow: 1\r\n")
STALLED_BODY: Final = Kind(_HALF_BODY, b" ")
NON_READER: Final = Kind(_ENDLESS)


@attrs.frozen
class Held:
    """What came of holding connections.

    Attributes:
        opened: Connections that were accepted.
        closed_after_s: From the last opened until the server had closed all; None if
            it had not by the end of the wait.
        left: Connections still open then.
        grown_bytes: Resident memory at its highest, above what it was before.
        health_s: How long each answer of /health took meanwhile.
        health_faults: Answers of /health that were not 200.
    """

    opened: int
    closed_after_s: float | None
    left: int
    grown_bytes: int
    health_s: list[float]
    health_faults: int

    @property
    def health_p99_s(self) -> float:
        return figures.quantile(self.health_s, 0.99)


class _SlowConnection:
    """A plain socket: an event loop's transport reads, and would empty a non-reader's buffers."""

    def __init__(self, kind: Kind) -> None:
        self._again = kind.again
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if kind is NON_READER:
            # Before connecting: the window that TCP offers is fixed then.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._first = kind.first

    async def open(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (HOST, port))
        if self._first:
            await loop.sock_sendall(self._socket, self._first)

    def trickle(self) -> None:
        if self._again:
            try:
                self._socket.send(self._again)
            except OSError:  # The server has closed, which is what it should.
                self._again = b""

    def close(self) -> None:
        self._socket.close()


def slow_clients_1600(site: Site) -> Iterator[Figure]:
    """1,600 connections of all four kinds; the server has to close them by itself."""
    more = f"""\
[limits]
connections_max = {SLOW_CLIENTS + 100}

[timeouts]
head_timeout_seconds = {SLOW_TIMEOUT_S}
body_timeout_seconds = {SLOW_TIMEOUT_S}
write_timeout_seconds = {SLOW_TIMEOUT_S}
"""
    kinds = {SILENT: 520, SLOW_HEAD: 520, STALLED_BODY: 520, NON_READER: 40}
    assert sum(kinds.values()) == SLOW_CLIENTS
    with site.serving(more=more) as gateway:
        held = uvloop.run(hold(gateway, kinds, wait_s=4 * CLOSED_WITHIN_S))
    name = f"{SLOW_CLIENTS:,} slow clients"
    after = held.closed_after_s
    yield Figure(
        name=f"{name}: closed",
        goal=f"all within their {SLOW_TIMEOUT_S:.0f} s + 5 s",
        measured=f"{held.left} still open" if after is None else f"all after {after:.1f} s",
        passed=after is not None and after <= CLOSED_WITHIN_S,
        values={"left": held.left},
    )
    yield _health(name, held, p99_s_max=0.5)
    yield _growth(name, held, bytes_max=SLOW_GROWTH_BYTES_MAX)


def slow_clients_10000(site: Site) -> Iterator[Figure]:
    """10,000 connections that stay open for a while; about memory and /health alone."""
    name = f"{MANY_SLOW_CLIENTS:,} slow clients"
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files_max < MANY_SLOW_CLIENTS + FILES_BESIDES:
        yield Figure(
            name=name,
            goal="+96 MiB, /health p99 ≤ 2 s",
            measured=f"not taken: only {files_max:,} open files allowed (ulimit -n)",
            passed=None,
        )
        return
    more = f"""\
[limits]
connections_max = {MANY_SLOW_CLIENTS + 100}

[timeouts]
head_timeout_seconds = 60.0
body_timeout_seconds = 60.0
"""
    third = MANY_SLOW_CLIENTS // 3
    kinds = {SILENT: MANY_SLOW_CLIENTS - 2 * third, SLOW_HEAD: third, STALLED_BODY: third}
    with site.serving(more=more) as gateway:
        held = uvloop.run(hold(gateway, kinds, wait_s=MANY_HELD_S))
    yield _health(name, held, p99_s_max=2.0)
    yield _growth(name, held, bytes_max=MANY_GROWTH_BYTES_MAX)


def _health(name: str, held: Held, *, p99_s_max: float) -> Figure:
    wrong = f", {held.health_faults} not 200" if held.health_faults else ""
    return Figure(
        name=f"{name}: /health p99",
        goal=f"≤ {p99_s_max * 1e3:,.0f} ms",
        measured=f"{held.health_p99_s * 1e3:.0f} ms of {len(held.health_s)} answers{wrong}",
        passed=held.health_p99_s <= p99_s_max and not held.health_faults,
        values={"p99_s": held.health_p99_s},
    )


def _growth(name: str, held: Held, *, bytes_max: int) -> Figure:
    each_bytes = held.grown_bytes / max(1, held.opened)
    return Figure(
        name=f"{name}: memory",
        goal=f"≤ +{bytes_max / MIB:.0f} MiB",
        measured=f"+{held.grown_bytes / MIB:.1f} MiB, {each_bytes / KIB:.1f} KiB each",
        passed=held.grown_bytes <= bytes_max,
        values={"grown_bytes": held.grown_bytes},
    )


async def hold(server: Child, kinds: dict[Kind, int], *, wait_s: float) -> Held:
    """Open so many slow connections of each kind, and watch for `wait_s` at the most."""
    before_bytes = highest_bytes = server.memory_bytes()
    health_s: list[float] = []
    health_faults = 0
    slow: list[_SlowConnection] = []

    async def ask_health() -> None:
        nonlocal health_faults
        connection = await connect(server.port)
        while True:
            began_at = perf_counter()
            try:
                if connection.lost:
                    connection = await connect(server.port)
                exchange = await connection.exchange(get("/health"))
                health_faults += exchange.status != 200
            except OSError:
                health_faults += 1
            # With the time to connect again: that is what a probe sees.
            health_s.append(perf_counter() - began_at)
            await asyncio.sleep(HEALTH_EACH_S)

    async def trickle() -> None:
        while True:
            await asyncio.sleep(TRICKLE_S)
            for connection in slow:
                connection.trickle()

    async with _running(ask_health(), trickle()):
        try:
            await _open(server.port, kinds, slow)
            opened_at = perf_counter()
            closed_after_s = None
            while (waited_s := perf_counter() - opened_at) < wait_s:
                await asyncio.sleep(WATCH_EACH_S)
                highest_bytes = max(highest_bytes, server.memory_bytes())
                # The one that remains is that of /health.
                if server.connections() <= 1:
                    closed_after_s = waited_s
                    break
            left = max(0, server.connections() - 1)
        finally:
            for connection in slow:
                connection.close()
    return Held(
        opened=len(slow),
        closed_after_s=closed_after_s,
        left=left,
        grown_bytes=highest_bytes - before_bytes,
        health_s=health_s,
        health_faults=health_faults,
    )


async def _open(port: int, kinds: dict[Kind, int], slow: list[_SlowConnection]) -> None:
    wanted = [kind for kind, count in kinds.items() for _ in range(count)]
    for start in range(0, len(wanted), OPENED_AT_ONCE):
        some = [_SlowConnection(kind) for kind in wanted[start : start + OPENED_AT_ONCE]]
        slow += some
        await asyncio.gather(*(connection.open(port) for connection in some))


@contextlib.asynccontextmanager
async def _running(*loops: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run endless loops beside the block; one that dies ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
