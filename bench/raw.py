"""Bytes as they are, there and back: what an attacker sends, and whether the answers are ours.

A connection is given bytes, in one piece or several, and everything that comes until
the server closes is taken apart into answers (RFC 9112 section 6). What can't be
taken apart is as wrong as a wrong status.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import attrs
import orjson

from bench.wire import HOST, dechunked

HANG_S: Final = 10.0
"""Nothing takes that long with the timeouts that these figures set."""

CANARY: Final = "c4n4ry"
"""In what is sent; never in what comes back or is logged."""

ERROR_FIELDS: Final = {"message", "type", "param", "code"}
GET_HEALTH: Final = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
FAULTS_SHOWN_MAX: Final = 5
FAULT_CHARS_MAX: Final = 160
_RECEIVED_BYTES_MAX: Final = 16 * 1024 * 1024


@attrs.frozen
class Answer:
    """One answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What is in the envelope of an error.

        Raises:
            ValueError: The answer is not such an envelope.
        """
        return error_in(self.body)

    def envelope_fault(self) -> str | None:
        """What a refusal lacks of the form that every one has; None if nothing."""
        try:
            code = self.error["code"]
        except ValueError as error:
            return str(error)
        if not code:
            return "no code"
        for name, value in {
            "content-type": "application/json",
            "x-content-type-options": "nosniff",
        }.items():
            if self.headers.get(name) != value:
                return f"{name}: {self.headers.get(name)}"
        if not self.headers.get("x-request-id"):
            return "no x-request-id"
        if "/" in self.headers.get("server", ""):
            return "the server tells its version"
        return None


def error_in(document: bytes | str) -> dict[str, Any]:
    """
    Raises:
        ValueError: It is no JSON, or JSON of another shape than an error's.
    """
    found = orjson.loads(document)
    if not isinstance(found, dict) or set(found) != {"error"}:
        raise ValueError("no envelope")
    error = found["error"]
    if not isinstance(error, dict) or set(error) != ERROR_FIELDS:
        raise ValueError("not the fields of an error")
    return error


@attrs.define
class Findings:
    """What was asked, and what came out wrong."""

    cases: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)

    def add(self, name: str, fault: str | None) -> None:
        """One more case, and what was wrong with it."""
        self.cases += 1
        if fault is not None:
            self.faults[f"{name}: {fault}"[:FAULT_CHARS_MAX]] += 1

    def also(self, name: str, fault: str | None) -> None:
        """Something that holds for all cases together; not one more of them."""
        if fault is not None:
            self.faults[f"{name}: {fault}"[:FAULT_CHARS_MAX]] += 1

    @property
    def wrong(self) -> int:
        return self.faults.total()

    def told(self) -> str:
        """The count, and some of what was wrong, on one line."""
        shown = self.faults.most_common(FAULTS_SHOWN_MAX)
        faults = "".join(f"; {count} × {fault!a}" for fault, count in shown)
        return f"{self.wrong} of {self.cases:,}{faults}"


class _Collector(asyncio.Protocol):
    """Keeps what comes until the other side closes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.changed = asyncio.Event()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport without being one.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()
        if len(self.received) > _RECEIVED_BYTES_MAX:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.changed.set()
        if not self.ended.done():
            self.ended.set_result(None)


class RawConnection:
    """One connection, for those who must see the beginning before the end."""

    def __init__(self, collector: _Collector) -> None:
        self._collector = collector

    @classmethod
    async def open(cls, port: int) -> "RawConnection":
        """
        Raises:
            OSError: Nobody listens there.
        """
        loop = asyncio.get_running_loop()
        _, collector = await loop.create_connection(_Collector, HOST, port)
        return cls(collector)

    def send(self, data: bytes) -> None:
        if not self._collector.ended.done():
            self._collector.transport.write(data)

    async def until(self, part: bytes) -> bool:
        """Whether this has come before the end."""
        collector = self._collector
        while part not in collector.received:
            if collector.ended.done():
                return False
            collector.changed.clear()
            await collector.changed.wait()
        return True

    async def rest(self) -> bytes:
        """Everything, once the server has closed."""
        await self._collector.ended
        return bytes(self._collector.received)

    def abort(self) -> None:
        self._collector.transport.abort()


async def talk(port: int, *pieces: bytes, within_s: float = HANG_S) -> bytes:
    """Send this on a new connection; give all that came until the server closed.

    Raises:
        TimeoutError: It had not closed after `within_s`.
        OSError: Nobody listens there.
    """
    connection = await RawConnection.open(port)
    try:
        async with asyncio.timeout(within_s):
            for number, piece in enumerate(pieces):
                if number:
                    await _arrived(port)
                connection.send(piece)
            return await connection.rest()
    finally:
        connection.abort()


async def _arrived(port: int) -> None:
    """What was sent has arrived: another request was answered after it."""
    other = await RawConnection.open(port)
    other.send(GET_HEALTH)
    await other.rest()


async def ask(port: int, request: bytes, *, method: str = "GET") -> Answer:
    """The one answer to a request that says `Connection: close`.

    Raises:
        ValueError: There was none, or more than one, or no HTTP.
        TimeoutError: The server did not close.
        OSError: Nobody listens there.
    """
    found = answers(await talk(port, request), method=method)
    if len(found) != 1:
        raise ValueError(f"{len(found)} answers")
    return found[0]


def answers(received: bytes, *, method: str = "GET") -> list[Answer]:
    """All answers of a connection, those of 1xx among them.

    Args:
        method: Of the requests; answers to HEAD have no body, whatever they say.

    Raises:
        ValueError: Not HTTP/1.1, not whole, or with bytes between or after.
    """
    found: list[Answer] = []
    while received:
        top, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            raise ValueError("an answer without the end of its head")
        line, *fields = top.decode("latin-1").split("\r\n")
        version, _, status_text = line.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not status_text[:3].isdigit():
            raise ValueError("not an answer of HTTP")
        headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)
        }
        status = int(status_text[:3])
        if method == "HEAD" or status < 200 or status in (204, 304):
            body, received = b"", rest
        elif headers.get("transfer-encoding") == "chunked":
            last = rest.find(b"\r\n0\r\n\r\n")
            whole = last + 7 if last >= 0 else 5 * rest.startswith(b"0\r\n\r\n")
            if not whole:
                raise ValueError("a chunked body without its end")
            body, received = dechunked(rest[:whole]), rest[whole:]
        else:
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                raise ValueError("a body cut short")
            body, received = rest[:length], rest[length:]
        found.append(Answer(status, headers, body))
    return found


def refusal_fault(
    answer: Answer, *, statuses: Collection[int], codes: Collection[str] = ()
) -> str | None:
    """What is wrong with a refusal; None if it is one of these in every respect.

    Args:
        codes: Any will do if empty.
    """
    if answer.status not in statuses:
        return f"status {answer.status}"
    if codes:
        try:
            if answer.error["code"] not in codes:
                return f"code {answer.error['code']}"
        except ValueError as error:
            return str(error)
    if CANARY.encode() in answer.body:
        return "echoes what was sent"
    return answer.envelope_fault()


def log_fault(log: str, *, secrets: Sequence[str] = (CANARY,)) -> str | None:
    """What a log has that it must not: a traceback, or a word of a client's."""
    if (tracebacks := log.count("Traceback (most recent call last)")) > 0:
        return f"{tracebacks} tracebacks"
    return next((f"{secret[:8]}… is in it" for secret in secrets if secret in log), None)


async def health_fault(port: int) -> str | None:
    """Whether /health answers a new connection; what instead if not."""
    try:
        status = (await ask(port, GET_HEALTH)).status
    except (OSError, TimeoutError, ValueError) as error:
        return f"/health: {error!r}"
    return None if status == 200 else f"/health: status {status}"


async def at_once(checks: Iterable[Coroutine[object, object, None]], limit: int) -> None:
    """Run all of these, so many at a time."""
    turns = asyncio.Semaphore(limit)

    async def in_turn(check: Coroutine[object, object, None]) -> None:
        async with turns:
            await check

    async with asyncio.TaskGroup() as group:
        for check in checks:
            group.create_task(in_turn(check))
