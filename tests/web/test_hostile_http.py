"""Hostile HTTP over real sockets, on both event loops and under both of aiohttp's parsers.

The parser is chosen when aiohttp is imported, so the pure-Python one is tested by
running this module once more in a process of its own.
"""

import asyncio
import logging
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from bench.fuzz import mutate
from gateway.config.schema import Limits, Timeouts
from tests.web.raw import (
    CANARY,
    GET_HEALTH,
    HANG_S,
    Client,
    Edge,
    assert_quiet,
    chunked,
    post,
    running,
)

BODY_BYTES_MAX: Final = 64 * 1024

BAD: Final = (400,)
REFUSED: Final = (400, 403)

HOST: Final = b"Host: localhost\r\n"


def get(*header_lines: bytes, host: bytes = HOST, line: bytes = b"GET /health HTTP/1.1") -> bytes:
    return line + b"\r\n" + host + b"".join(each + b"\r\n" for each in header_lines) + b"\r\n"


def sent_length(*values: bytes) -> bytes:
    lines = (b"Content-Length: " + value for value in values)
    return get(*lines, line=b"POST /echo HTTP/1.1") + b"12345"


def sent_encoding(*header_lines: bytes, version: bytes = b"1.1") -> bytes:
    return get(*header_lines, line=b"POST /echo HTTP/" + version) + b"5\r\nhello\r\n0\r\n\r\n"


def named(host: bytes) -> bytes:
    return get(host=b"Host: " + host + b"\r\n")


def target(path: bytes, method: bytes = b"GET", version: bytes = b" HTTP/1.1") -> bytes:
    return get(line=method + b" " + path + version)


MALFORMED: Final[dict[str, tuple[bytes, tuple[int, ...]]]] = {
    "H1 length and encoding": (
        sent_encoding(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        BAD,
    ),
    "H1 encoding and length": (
        sent_encoding(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        BAD,
    ),
    "H1 length twice": (sent_length(b"5", b"5"), BAD),
    "H1 two lengths": (sent_length(b"5", b"6"), BAD),
    "H1 list of lengths": (sent_length(b"5, 5"), BAD),
    "H1 plus": (sent_length(b"+5"), BAD),
    "H1 minus": (sent_length(b"-1"), BAD),
    "H1 hexadecimal": (sent_length(b"0x5"), BAD),
    "H1 underscore": (sent_length(b"1_0"), BAD),
    "H1 empty": (sent_length(b""), BAD),
    "H1 other digits": (sent_length("٥".encode()), BAD),
    "H1 10^23": (sent_length(b"1" + b"0" * 23), BAD),
    "H2 unknown": (sent_encoding(b"Transfer-Encoding: xchunked"), BAD),
    "H2 identity": (sent_encoding(b"Transfer-Encoding: identity"), BAD),
    "H2 chunked, identity": (sent_encoding(b"Transfer-Encoding: chunked, identity"), BAD),
    "H2 gzip, chunked": (sent_encoding(b"Transfer-Encoding: gzip, chunked"), BAD),
    "H2 twice": (sent_encoding(*[b"Transfer-Encoding: chunked"] * 2), BAD),
    "H2 twice in one": (sent_encoding(b"Transfer-Encoding: chunked, chunked"), BAD),
    "H2 space before the colon": (sent_encoding(b"Transfer-Encoding : chunked"), BAD),
    "H2 vertical tab": (sent_encoding(b"Transfer-Encoding: \x0bchunked"), BAD),
    "H2 Kelvin sign": (sent_encoding("Transfer-Encoding: chun\u212aed".encode()), BAD),
    "H2 in HTTP/1.0": (sent_encoding(b"Transfer-Encoding: chunked", version=b"1.0"), BAD),
    "H3 size ZZ": (chunked(b"ZZ\r\nhello\r\n0\r\n\r\n"), BAD),
    "H3 size -2": (chunked(b"-2\r\nhello\r\n0\r\n\r\n"), BAD),
    "H3 size 0x2": (chunked(b"0x2\r\nhe\r\n0\r\n\r\n"), BAD),
    # The pure-Python parser knows no overflow and waits for the rest of the chunk.
    "H3 overflow": (chunked(b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"), (400, 408)),
    "H3 LF in extension": (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), BAD),
    "H3 no CRLF after the chunk": (chunked(b"5\r\nhelloXX0\r\n\r\n"), BAD),
    "H4 folded": (get(b"X-A: b", b" " + CANARY), BAD),
    "H4 NUL": (get(b"X-A: b\x00" + CANARY), BAD),
    "H4 CR": (get(b"X-A: b\r" + CANARY), BAD),
    "H4 LF": (get(b"X-A: b\n" + CANARY), BAD),
    "H4 no colon": (get(CANARY), BAD),
    "H4 space in a name": (get(b"X A: " + CANARY), BAD),
    "H4 empty name": (get(b": " + CANARY), BAD),
    "H4 bare LF": (GET_HEALTH.replace(b"\r\n", b"\n"), BAD),
    "H5 no Host": (get(host=b""), BAD),
    "H5 no Host in HTTP/1.0": (get(host=b"", line=b"GET /health HTTP/1.0"), BAD),
    "H5 Host twice": (get(host=HOST * 2), BAD),
    "H6 foreign": (named(b"evil.example"), (403,)),
    "H6 foreign with a port": (named(b"evil.example:8000"), (403,)),
    "H7 address as a prefix": (named(b"127.0.0.1.evil.example"), REFUSED),
    "H7 localhost as a prefix": (named(b"localhost.evil.example"), REFUSED),
    "H7 user": (named(b"localhost@evil"), REFUSED),
    "H7 empty": (named(b""), REFUSED),
    "H7 junk": (named(b'a b<>"'), REFUSED),
    "H8 port 99999": (named(b"127.0.0.1:99999"), REFUSED),
    "H8 unclosed": (named(b"[::1"), REFUSED),
    "H9 absolute": (target(b"http://evil.example/health"), REFUSED),
    "H9 absolute with a user": (target(b"http://localhost@evil.example/health"), REFUSED),
    "H9 absolute without an authority": (target(b"http:/health"), REFUSED),
    "H9 absolute ftp": (target(b"ftp://localhost/health"), REFUSED),
    "H12 path in the Host": (named(b"localhost/health?"), REFUSED),
    "H12 fragment in the Host": (named(b"localhost:4000/#@evil"), REFUSED),
    "H13 fragment in the path": (target(b"/health#/../v1/models"), BAD),
    "H15 HTTP/0.9": (b"GET /health\r\n\r\n", (400, 505)),
    "H15 HTTP/1.2": (target(b"/health", version=b" HTTP/1.2"), (400, 505)),
    "H15 HTTP/2.0": (target(b"/health", version=b" HTTP/2.0"), (400, 505)),
    "H15 HTTP/9.9": (target(b"/health", version=b" HTTP/9.9"), (400, 505)),
    "H15 HTTP/1.1.1": (target(b"/health", version=b" HTTP/1.1.1"), (400, 505)),
    "H15 h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "H15 TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400, 505)),
    "H16 9 KB": (target(b"/" + CANARY * 1500), (414,)),
    "H16 100 KB": (target(b"/" + CANARY * 17_000), (414,)),
    "H17 9 KB": (get(b"X-A: " + CANARY * 1500), (431,)),
    "H17 9 KB of a name": (get(b"X-" + CANARY * 1500 + b": a"), (431,)),
    "H17 300 headers": (get(*(b"X-%d: a" % n for n in range(300))), (431,)),
    "H17 1 MiB": (get(*(b"X-%d: " % n + b"a" * 8000 for n in range(131))), (431,)),
    "H18 junk": (target(b"/health", b"G{}T"), (400,)),
    "H18 10 KB": (target(b"/health", b"A" * 10_000), (400, 414)),
    "H18 CONNECT": (target(b"localhost:22", b"CONNECT"), (400, 501)),
    "H19 NUL in the path": (target(b"/health\x00"), BAD),
    "H19 beyond ASCII": (target("/healthé".encode()), BAD),
    "H23 unknown expectation": (get(b"Expect: banana"), (417,)),
    "H23 two expectations": (get(*[b"Expect: 100-continue"] * 2), (417,)),
}

NOT_FOUND: Final = {
    "H13 dots": b"/health/../v1/models",
    "H13 double slash": b"//v1/models",
    "H13 encoded slash": b"/v1%2fmodels",
    "H13 capitals": b"/V1/models",
    "H13 parameters": b"/health;x",
    "H13 space": b"/health%20",
    "H19 encoded NUL": b"/health%00",
    "H19 bad percent": b"/health%zz",
    "H19 lone surrogate": b"/health%ed%a0%80",
    "H19 backslash": b"/..\\health",
}


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    limits = Limits(body_bytes_max=BODY_BYTES_MAX)
    async with running(limits=limits, timeouts=Timeouts(body_timeout_seconds=1.0)) as edge:
        yield edge


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_request_is_refused_in_the_envelope_and_closed(
    edge: Edge, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw, statuses = MALFORMED[case]
    client = await edge.send(raw + GET_HEALTH)
    reply = await client.some()
    assert reply.status in statuses
    assert reply.error["code"]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-request-id"] == "req-1"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["server"] == "gateway"
    assert CANARY not in reply.body
    assert await client.rest() == b"", "a second answer"
    if not raw.startswith(b"POST"):  # Else it may be the handler who found out.
        assert [error.status for error in edge.refusals.told] == [reply.status]
    assert (await edge.ask(GET_HEALTH)).status == 200
    assert_quiet(caplog)


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_request_in_pieces_is_refused_just_the_same(
    edge: Edge, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw, statuses = MALFORMED[case]
    half = raw.find(b"\r\n\r\n") + 4 if case.startswith("H3") else len(raw) // 2
    reply = await edge.ask(raw[:half], raw[half:] + GET_HEALTH)
    assert reply.status in statuses
    assert_quiet(caplog)


@pytest.mark.parametrize("case", NOT_FOUND)
async def test_an_odd_path_is_not_found(edge: Edge, case: str) -> None:
    assert (await edge.ask(target(NOT_FOUND[case]))).status in (400, 404)


@pytest.mark.parametrize("method", [b"POST", b"TRACE", b"DELETE", b"PROPFIND"])
async def test_a_wrong_method_says_which_are_right(edge: Edge, method: bytes) -> None:
    reply = await edge.ask(target(b"/health", method))
    assert reply.status == 405
    assert reply.headers["allow"] == "GET,HEAD"


async def test_a_target_that_names_an_allowed_host_is_served(edge: Edge) -> None:
    assert (await edge.ask(target(b"http://LOCALHOST:8000/health"))).status == 200


async def test_headers_that_claim_another_path_or_address_change_nothing(edge: Edge) -> None:
    reply = await edge.ask(
        get(
            b"X-Original-URL: /wait",
            b"X-Rewrite-URL: /wait",
            b"X-HTTP-Method-Override: DELETE",
            b"X-Forwarded-For: 127.0.0.1",
        )
    )
    assert reply.status == 200
    assert b"ok" in reply.body


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
async def test_a_body_announced_too_large_is_refused_before_it_is_asked_for(
    edge: Edge, expect: Sequence[str]
) -> None:
    head = post(b"", *expect).replace(b"Content-Length: 0", b"Content-Length: 100000000")
    client = await edge.send(head)
    reply = await client.some()
    assert reply.status == 413
    assert reply.headers["connection"] == "close"
    assert await client.rest() == b""


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(edge: Edge) -> None:
    frame = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    client = await edge.send(chunked(frame * 5))
    assert (await client.some()).status == 413
    assert await client.rest() == b""
    assert edge.budget.bytes_in_flight == 0


async def test_a_client_that_still_sends_can_read_its_refusal(edge: Edge) -> None:
    client = await edge.send(post(b"a" * 8_000_000))
    reply = await client.some()
    assert reply.status == 413
    async with asyncio.timeout(HANG_S):
        await client.writer.drain()


async def test_continue_is_sent_when_the_handler_reads(edge: Edge) -> None:
    raw = post(b"hello", "Expect: 100-continue")
    client = await edge.send(raw[:-5])
    assert (await client.some()).status == 100
    client.send(b"hello")
    reply = await client.some()
    assert (reply.status, reply.body) == (200, b"hello")
    client.send(GET_HEALTH)
    assert (await client.some()).status == 200


@pytest.mark.parametrize("path", ["/refuse", "/nowhere", "/health"])
async def test_continue_is_not_sent_to_who_is_refused(edge: Edge, path: str) -> None:
    raw = post(b"hello", "Expect: 100-continue", path=path)
    client = await edge.send(raw[:-5])
    reply = await client.some()
    assert reply.status in (401, 404, 405)
    assert reply.headers["connection"] == "close"
    assert await client.rest() == b""


async def test_who_sends_the_body_without_waiting_gets_no_continue(edge: Edge) -> None:
    reply = await edge.ask(post(b"hello", "Expect: 100-continue"))
    assert (reply.status, reply.body) == (200, b"hello")


@pytest.mark.parametrize("coding", ["br", "zstd", "junk", "identity, gzip", "gzip, identity"])
async def test_a_body_in_another_coding_is_refused_unread(edge: Edge, coding: str) -> None:
    reply = await edge.ask(post(b"\x1f\x8b" + bytes(1000), f"Content-Encoding: {coding}"))
    assert reply.status == 415
    assert reply.error["code"] == "unsupported_content_encoding"


async def test_identity_is_no_compression(edge: Edge) -> None:
    assert (await edge.ask(post(b"hello", "Content-Encoding: identity"))).body == b"hello"


async def test_twenty_thousand_chunks_of_one_byte_are_one_body(edge: Edge) -> None:
    reply = await edge.ask(chunked(b"1\r\na\r\n" * 20_000, b"0\r\n\r\n"))
    assert (reply.status, reply.body) == (200, b"a" * 20_000)


async def test_a_body_that_is_all_chunk_extensions_is_refused(edge: Edge) -> None:
    client = await edge.send(chunked(b"5;"))
    for _ in range(32):
        await edge.settle()
        client.send(b"a" * 32 * 1024)
    assert (await client.some()).status == 400


async def test_ten_thousand_trailers_are_refused(edge: Edge) -> None:
    trailers = b"".join(b"X-%d: a\r\n" % n for n in range(10_000))
    reply = await edge.ask(chunked(b"5\r\nhello\r\n0\r\n", trailers, b"\r\n"))
    assert reply.status in (400, 431)


async def test_a_thousand_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    client = await edge.send(GET_HEALTH * 1000)
    assert [(await client.some()).status for _ in range(1000)] == [200] * 1000


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"tcp"])
async def test_an_upgrade_is_ignored_and_what_follows_is_not_read(
    edge: Edge, protocol: bytes
) -> None:
    upgrade = (b"Connection: Upgrade", b"Upgrade: " + protocol, b"Sec-WebSocket-Version: 13")
    client = await edge.send(get(*upgrade) + GET_HEALTH)
    assert (await client.some()).status == 200
    assert await client.rest() == b"", "a second answer"


async def test_an_upgrade_with_a_body_is_answered_once(edge: Edge) -> None:
    raw = post(b"hello", "Connection: Upgrade", "Upgrade: websocket")
    client = await edge.send(raw + GET_HEALTH)
    reply = await client.some()
    assert (reply.status, reply.body) == (200, b"hello")
    assert await client.rest() == b"", "a second answer"


SEEDS: Final = (
    GET_HEALTH,
    post(b'{"model":"m","messages":[]}', "Content-Type: application/json"),
    chunked(b"5\r\nhello\r\n", b"6;a=b\r\n world\r\n", b"0\r\n", b"X-T: 1\r\n\r\n"),
    post(b"hello", "Expect: 100-continue"),
    get(b"Connection: Upgrade", b"Upgrade: websocket"),
)
SPLICES: Final = (b"\r\n", b"\n", b"\x00", b":", b" ", b"0", b"\xff", b"Host: x\r\n", b"HTTP/1.1")


def mutant(dice: random.Random) -> bytes:
    """A request with a few bytes changed, cut out, repeated or put in."""
    raw = bytearray(dice.choice(SEEDS) + dice.choice((b"", GET_HEALTH)))
    mutate(raw, dice, SPLICES, times=dice.randint(1, 4))
    return bytes(raw)


async def _no_surprise(edge: Edge, dice: random.Random) -> None:
    raw = mutant(dice)
    cut = dice.randrange(len(raw) + 1)
    client = await edge.send(raw[:cut])
    await asyncio.sleep(0)
    client.send(raw[cut:])
    while (reply := await client.reply()) is not None:
        assert reply.status < 500 or reply.status == 505, raw
    client.writer.transport.abort()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_mutated_requests_neither_hang_nor_break_it(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(seed)
    soon = Timeouts(
        head_timeout_seconds=0.05, body_timeout_seconds=0.05, keepalive_timeout_seconds=0.05
    )
    limits = Limits(body_bytes_max=BODY_BYTES_MAX)
    async with running(limits=limits, timeouts=soon) as edge:
        for _ in range(4):
            await asyncio.gather(*(_no_surprise(edge, dice) for _ in range(50)))
        assert (await edge.ask(GET_HEALTH)).status == 200
    assert_quiet(caplog)


async def test_a_head_byte_by_byte_is_a_request(edge: Edge) -> None:
    client: Client = await edge.connect()
    for at in range(len(GET_HEALTH)):
        client.send(GET_HEALTH[at : at + 1])
        await asyncio.sleep(0)
    assert (await client.some()).status == 200


async def test_a_mistake_of_ours_is_one_traceback_and_says_nothing(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await edge.ask(target(b"/broken"))
    assert reply.status == 500
    assert reply.error["code"] == "internal_error"
    assert b"mistake" not in reply.body
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.slow
@pytest.mark.skipif("AIOHTTP_NO_EXTENSIONS" in os.environ, reason="this is that run")
def test_all_this_holds_under_the_pure_python_parser() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
