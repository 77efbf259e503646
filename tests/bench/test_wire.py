"""A fast answer that is wrong must never count as fast: what the load generator takes for whole."""

import asyncio
from time import perf_counter
from typing import Any

import orjson
import pytest

from bench import wire
from bench.wire import (
    Ask,
    Connection,
    Exchange,
    dechunked,
    fault_in_completion,
    fault_in_ndjson,
    fault_in_ollama_answer,
    fault_in_sse,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True


def open_connection() -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
WORDS = event({"content": " w0"}) + event({"content": " w1"})
FINISH = event({}, "stop")
USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE_STREAM = ROLE + WORDS + FINISH + DONE


@pytest.mark.parametrize(
    "answer",
    [
        SSE_HEAD + chunk(ROLE) + chunk(WORDS + FINISH) + chunk(DONE) + b"0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_an_answer_ends_at_its_last_byte_however_it_is_cut(answer: bytes) -> None:
    for at in range(1, len(answer)):
        connection, _ = open_connection()
        waiting = connection.start(Ask(b"request"))
        connection.data_received(answer[:at])
        assert not waiting.done()
        connection.data_received(answer[at:])
        assert waiting.done()
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert (waiting.result().head, waiting.result().raw_body) == (head + b"\r\n", rest)


async def test_an_answer_ends_at_its_last_byte_one_byte_at_a_time() -> None:
    answer = SSE_HEAD + chunk(ROLE) + chunk(WORDS) + b"0\r\n\r\n"
    connection, _ = open_connection()
    waiting = connection.start(Ask(b"request"))
    for at in range(len(answer)):
        assert not waiting.done()
        connection.data_received(answer[at : at + 1])
    assert waiting.result().body == ROLE + WORDS


async def test_the_first_token_is_the_first_word_and_not_the_role() -> None:
    connection, _ = open_connection()
    waiting = connection.start(Ask(b"request"))
    connection.data_received(SSE_HEAD + chunk(ROLE))
    before = perf_counter()
    connection.data_received(chunk(WORDS))
    connection.data_received(b"0\r\n\r\n")
    first_token_at = waiting.result().first_token_at
    assert first_token_at is not None
    assert first_token_at >= before


async def test_a_connection_that_closes_midway_is_an_error() -> None:
    connection, _ = open_connection()
    waiting = connection.start(Ask(b"request"))
    connection.data_received(SSE_HEAD + chunk(ROLE))
    connection.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await waiting


async def test_nothing_is_sent_on_a_connection_that_is_lost() -> None:
    connection, transport = open_connection()
    connection.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await connection.exchange(Ask(b"request"))
    assert transport.sent == b""


async def test_a_connection_that_the_server_will_close_is_not_used_again() -> None:
    connection, transport = open_connection()
    waiting = connection.start(Ask(b"request"))
    connection.data_received(b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert waiting.result().status == 503
    assert connection.lost
    assert transport.closed


def test_a_chunked_body_is_put_together() -> None:
    assert dechunked(chunk(b"hel") + chunk(b"l" * 300) + b"0\r\n\r\n") == b"hel" + b"l" * 300


@pytest.mark.parametrize("raw", [b"", b"5\r\nhel", b"zz", chunk(b"hello")])
def test_a_chunked_body_without_its_end_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="without its end"):
        dechunked(raw)


@pytest.mark.parametrize(
    "body",
    [WHOLE_STREAM, ROLE + b": keep-alive\n\n" + WORDS + FINISH + USAGE + DONE],
)
def test_a_whole_stream_has_no_fault(body: bytes) -> None:
    assert fault_in_sse(body, " w0 w1") is None
    assert fault_in_sse(body.replace(b"\n", b"\r\n"), " w0 w1") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        DONE,
        ROLE + WORDS + FINISH,
        ROLE + WORDS + DONE,
        ROLE + WORDS + FINISH + FINISH + DONE,
        ROLE + FINISH + DONE,
        ROLE + WORDS + WORDS + FINISH + DONE,
        ROLE + WORDS + b'data: {"error":{"message":"gone"}}\n\n' + DONE,
    ],
)
def test_a_stream_that_is_not_whole_has_a_fault(body: bytes) -> None:
    assert fault_in_sse(body, " w0 w1") is not None


def test_ollamas_stream_must_be_done_and_say_its_text() -> None:
    line = b'{"message":{"content":" w0"},"done":false}\n'
    last = b'{"message":{"content":""},"done":true}\n'
    assert fault_in_ndjson(line + last, " w0") is None
    assert fault_in_ndjson(line, " w0") is not None
    assert fault_in_ndjson(b"", "") is not None
    assert fault_in_ndjson(line + line + last, " w0") is not None
    assert fault_in_ndjson(line + last + last, " w0") is not None


def test_whole_answers_must_be_finished_and_say_their_text() -> None:
    ollama = b'{"message":{"content":" w0"},"done":%b}'
    assert fault_in_ollama_answer(ollama % b"true", " w0") is None
    assert fault_in_ollama_answer(ollama % b"false", " w0") is not None
    assert fault_in_ollama_answer(ollama % b"true", " w1") is not None
    openai = b'{"choices":[{"message":{"content":" w0"},"finish_reason":%b}]}'
    assert fault_in_completion(openai % b'"stop"', " w0") is None
    assert fault_in_completion(openai % b"null", " w0") is not None
    assert fault_in_completion(openai % b'"stop"', "") is not None


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 503 No\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n", b"<html>"),
        (b"HTTP/1.1 200 OK\r\n", b'{"choices":[]}'),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n", b"not chunks"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_fault_and_no_crash(head: bytes, body: bytes) -> None:
    ask = wire.openai_chat("tokens:1", stream=False)
    assert Exchange(ask, 0.0, head=head, raw_body=body).fault() is not None


def test_both_dialects_are_asked_the_same() -> None:
    ollama = wire.ollama_chat("tokens:8", stream=True)
    openai = wire.openai_chat("tokens:8", stream=True)
    bodies = [ask.payload.partition(b"\r\n\r\n")[2] for ask in (ollama, openai)]
    assert bodies[0] == bodies[1]
    assert wire.PROMPT.encode() in bodies[0]
    assert ollama.text == openai.text
