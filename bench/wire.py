"""The load generator's HTTP client: one connection, one request at a time, no work between bytes.

A connection only collects an answer's bytes and notes when its first token and its
end came. Whether the answer is whole and says what it should is looked at after the
clock has stopped (`Exchange.fault`), so that checking costs the measurement nothing
and a broken answer is still never taken for a fast one.
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any, Final, cast

import attrs
import orjson

from bench.scripted_ollama import FIRST_WORD, LAST_CHUNK, script_of

HOST: Final = "127.0.0.1"
PROMPT: Final = (
    "You are a careful assistant. Summarise for an operator, in two sentences and without"
    " lists, why a bounded queue in front of a language model keeps its promises better than"
    " an unbounded one, and what a caller should do when it is refused."
)

_FIRST_TOKEN: Final = b'"' + FIRST_WORD.encode() + b'"'
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
# Neither NDJSON nor our SSE has a line that is just "0", so this ends a body and nothing else.
_END: Final = b"\r\n" + LAST_CHUNK
# A role chunk and comments may come first. Beyond that nobody looks: an answer that is not a
# stream has no first token, and searching all of a large one would be quadratic.
_PIECES_TO_FIRST_TOKEN_MAX: Final = 8

FindFault = Callable[[bytes, str], str | None]
"""Takes a body and the text it should say; gives what is wrong with it, or None."""


@attrs.frozen
class Ask:
    """A request, ready to send, and how its answer is checked.

    Attributes:
        tokens: What the answer has of them.
        find_fault: None where only the status counts.
    """

    payload: bytes
    tokens: int = 0
    text: str = ""
    find_fault: FindFault | None = None


@attrs.define(eq=False)
class Exchange:
    """One request and its answer; the times are perf_counter seconds."""

    ask: Ask
    sent_at: float
    head: bytes = b""
    raw_body: bytes = b""
    first_token_at: float | None = None
    ended_at: float = 0.0

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    @property
    def took_s(self) -> float:
        return self.ended_at - self.sent_at

    @property
    def body(self) -> bytes:
        return dechunked(self.raw_body) if _CHUNKED.search(self.head) else self.raw_body

    def fault(self) -> str | None:
        """What is wrong with the answer; None if it is whole and right."""
        if self.status != 200:
            return f"status {self.status}: {self.body[:200]!r}"
        if self.ask.find_fault is None:
            return None
        try:
            return _fault_found(self.ask.find_fault, self.body, self.ask.text)
        except (ValueError, LookupError, TypeError) as error:
            return f"unreadable answer ({error!r}): {self.raw_body[:200]!r}"


class Connection(asyncio.Protocol):
    """A keep-alive connection. `exchange` sends and waits for the whole answer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost = False
        self._current: Exchange | None = None
        self._done: asyncio.Future[Exchange]
        self._pieces: list[bytes] = []
        self._tail = b""
        self._got_bytes = 0
        self._body_bytes: int | None = None

    async def exchange(self, ask: Ask) -> Exchange:
        """
        Raises:
            ConnectionError: The server closed before the answer was whole.
        """
        return await self.start(ask)

    def start(self, ask: Ask) -> "asyncio.Future[Exchange]":
        """Send a request; the future is its whole answer."""
        assert self._current is None
        if self.lost:
            raise ConnectionResetError("closed before the request was sent")
        self._done = asyncio.get_running_loop().create_future()
        self._pieces = []
        self._tail = b""
        self._got_bytes = 0
        self._body_bytes = None
        self._current = Exchange(ask, perf_counter())
        self.transport.write(ask.payload)
        return self._done

    @property
    def received(self) -> bytes:
        """What has come of the current answer's body, framing and all, once its head is there."""
        return b"".join(self._pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport without being one.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._current is not None and not self._done.done():
            got = len(self._current.head) + sum(map(len, self._pieces))
            self._done.set_exception(
                ConnectionResetError(f"closed with {got} bytes of an answer: {exc}")
            )

    def data_received(self, data: bytes) -> None:
        if (current := self._current) is None:
            return
        self._pieces.append(data)
        if not current.head:
            if not self._take_head(current):
                return
            data = self._pieces[0]
        self._got_bytes += len(data)
        if (
            current.first_token_at is None
            and len(self._pieces) <= _PIECES_TO_FIRST_TOKEN_MAX
            and _FIRST_TOKEN in b"".join(self._pieces)
        ):
            current.first_token_at = perf_counter()
        if self._body_bytes is None:
            whole = len(data) >= len(_END)
            self._tail = data[-len(_END) :] if whole else (self._tail + data)[-len(_END) :]
            # An empty body's end has no line before it.
            if self._tail in (_END, LAST_CHUNK):
                self._end(current)
        elif self._got_bytes >= self._body_bytes:
            self._end(current)

    def _take_head(self, current: Exchange) -> bool:
        received = b"".join(self._pieces)
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            return False
        current.head = head + b"\r\n"
        if not _CHUNKED.search(current.head):
            length = _CONTENT_LENGTH.search(current.head)
            self._body_bytes = int(length[1]) if length else 0
        self._pieces = [rest]
        return True

    def _end(self, current: Exchange) -> None:
        current.raw_body = b"".join(self._pieces)
        current.ended_at = perf_counter()
        self._current = None
        if _CLOSES.search(current.head):
            self.lost = True
            self.transport.close()
        # The waiter may have been cancelled in this very turn of the loop.
        if not self._done.done():
            self._done.set_result(current)


async def connect(port: int) -> Connection:
    """
    Raises:
        OSError: Nobody listens there.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, HOST, port)
    return connection


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    connection = await connect(port)
    try:
        yield connection
    finally:
        connection.transport.abort()


async def ask_once(port: int, ask: Ask) -> Exchange:
    async with connected(port) as connection:
        return await connection.exchange(ask)


def ignored(answer: "asyncio.Future[Exchange]") -> None:
    """As a callback: an answer that nobody waits for, and that may well never come."""
    if not answer.cancelled():
        answer.exception()


def get(path: str, *, headers: str = "") -> Ask:
    return Ask(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode())


def post(path: str, body: bytes, *, headers: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def chat_body(model: str, *, stream: bool, prompt: str = PROMPT) -> bytes:
    """A chat request as both Ollama and OpenAI understand it."""
    return orjson.dumps(
        {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    )


def ollama_chat(model: str, *, stream: bool, prompt: str = PROMPT) -> Ask:
    body = chat_body(model, stream=stream, prompt=prompt)
    return scripted("/api/chat", model, body, fault_in_ndjson if stream else fault_in_ollama_answer)


def openai_chat(model: str, *, stream: bool, prompt: str = PROMPT) -> Ask:
    body = chat_body(model, stream=stream, prompt=prompt)
    fault = fault_in_sse if stream else fault_in_completion
    return scripted("/v1/chat/completions", model, body, fault)


def scripted(path: str, model: str, body: bytes, find_fault: FindFault) -> Ask:
    """A request for what the name of the model orders."""
    script = script_of(model)
    assert script is not None, model
    return Ask(post(path, body), tokens=script.count, text=script.text, find_fault=find_fault)


@functools.lru_cache(maxsize=16)
def _fault_found(find_fault: FindFault, body: bytes, text: str) -> str | None:
    """Look at equal bodies once: who passes bytes on gives the same ones over and over."""
    return find_fault(body, text)


def dechunked(raw: bytes) -> bytes:
    """The data of a body in the chunked transfer coding, without extensions or trailers.

    Raises:
        ValueError: It is not in that coding, or not whole.
    """
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = raw.find(b"\r\n", at)
        if line_end < 0:
            raise ValueError("a chunked body without its end")
        size = int(raw[at:line_end], 16)
        at = line_end + 2
        if not size:
            return b"".join(pieces)
        pieces.append(raw[at : at + size])
        at += size + 2


TextOf = Callable[[Any], str]
"""Takes the text out of a part of an answer: of a line, or of a choice."""


def _message_content(part: Any) -> str:
    content: str = part["message"]["content"]
    return content


def _delta_content(part: Any) -> str:
    return part["delta"].get("content") or ""


def fault_in_ndjson(body: bytes, text: str, text_of: TextOf = _message_content) -> str | None:
    """A stream of Ollama's: every line but the last has a piece, the last says done."""
    lines = [orjson.loads(line) for line in body.splitlines()]
    if [line["done"] for line in lines] != [*[False] * (len(lines) - 1), True]:
        return "the stream ended without a done line, or went on after it"
    return differs("".join(map(text_of, lines)), text)


def fault_in_ollama_answer(
    body: bytes, text: str, text_of: TextOf = _message_content
) -> str | None:
    answer = orjson.loads(body)
    if answer["done"] is not True:
        return "the answer is not done"
    return differs(text_of(answer), text)


def fault_in_sse(body: bytes, text: str, text_of: TextOf = _delta_content) -> str | None:
    """A stream of OpenAI's: deltas, one finish_reason, [DONE]; comments are skipped."""
    events = [
        event[len(b"data: ") :]
        for event in body.replace(b"\r\n", b"\n").split(b"\n\n")
        if event.startswith(b"data: ")
    ]
    if not events or events[-1] != b"[DONE]":
        return "the stream ended without [DONE]"
    choices: list[dict[str, Any]] = []
    for event in map(orjson.loads, events[:-1]):
        if "error" in event:
            return f"the stream ended in an error: {event['error']!r}"
        choices += event["choices"]
    finishes = [choice for choice in choices if choice["finish_reason"] is not None]
    if len(finishes) != 1:
        return f"the stream has {len(finishes)} finish chunks"
    return differs("".join(map(text_of, choices)), text)


def fault_in_completion(body: bytes, text: str, text_of: TextOf = _message_content) -> str | None:
    choice = orjson.loads(body)["choices"][0]
    if not choice["finish_reason"]:
        return "the answer has no finish_reason"
    return differs(text_of(choice), text)


def differs(got: str, expected: str) -> str | None:
    """What is wrong with the text of an answer; None if it is the one expected."""
    if got == expected:
        return None
    return f"the answer has {len(got)} characters, not the {len(expected)} expected, or others"
