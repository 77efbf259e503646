"""A scripted engine: a real TCP server that plays bytes, pauses and every way of going away.

    engine.play(head(200), chunk(b"one"), pause, RESET)

plays one request's answer: each `play` is for one request, in order of arrival,
on whatever connection it comes. Nothing waits for time; a `Pause` waits for the
test, and the test for it.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Literal, Self

import attrs


class _Step:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


CLOSE: Final = _Step("CLOSE")
"""Close the connection in an orderly way."""

RESET: Final = _Step("RESET")
"""Close it so that the peer gets a reset."""

HALF_CLOSE: Final = _Step("HALF_CLOSE")
"""Send no more, go on reading."""

HANG: Final = _Step("HANG")
"""Say nothing until the peer has gone; then `engine.gone` is set."""


class Pause:
    """Play stops here until `go` is set; `reached` says that it does."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


Step = bytes | Pause | _Step


@attrs.frozen
class Request:
    """What the engine was sent. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def head(
    status: int = 200, framing: Literal["chunked", "close"] | int = "chunked", **headers: str
) -> bytes:
    """A status line and headers; an int frames the body by its length."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    match framing:
        case "chunked":
            lines.append("Transfer-Encoding: chunked")
        case "close":
            lines.append("Connection: close")
        case length:
            lines.append(f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END: Final = b"0\r\n\r\n"
"""The last chunk."""


def whole(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A complete answer that leaves the connection open."""
    return head(status, len(body), **headers) + body


class FakeEngine:
    """The server. `url` is where; `requests` is what came; `connections` counts them."""

    url: str

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def play(self, *steps: Step) -> None:
        """What to answer the next request that nothing was planned for yet."""
        self._scripts.append(steps)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                await self._play(self._scripts.popleft(), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _play(
        self,
        steps: tuple[Step, ...],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, Pause):
                step.reached.set()
                await step.go.wait()
            elif step is HALF_CLOSE:
                writer.write_eof()
            elif step is HANG:
                # Data may come, the end does once the peer has gone.
                while await reader.read(65536):
                    pass
                self.gone.set()
            elif step is RESET:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None when it has ended."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *fields = text.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = line.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
    }
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([piece async for piece in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    size = -1
    while size:
        size = int(await reader.readline(), 16)
        yield (await reader.readexactly(size + 2))[:-2]
