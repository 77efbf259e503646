"""Requests with a few bytes changed, cut out, repeated or put in: tens of thousands of them.

Each mutation is made by dice of its own, so that a fault names the one that found it:
`mutant(number)` are its bytes again. Nobody knows what each deserves; but never an answer
of 5xx other than 503 (and 505, the version of HTTP), never one that is not HTTP or no
envelope, never a connection that stays open, never a traceback in the log.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Final

import uvloop

from bench.figures import Figure
from bench.processes import Child
from bench.raw import (
    CANARY,
    GET_HEALTH,
    Findings,
    RawConnection,
    answers,
    health_fault,
    log_fault,
)
from bench.sites import PARSERS, Site
from bench.wire import HOST, chat_body, get, post

MUTATIONS: Final = 50_000
MUTATIONS_IF_QUICK: Final = 2_000
AT_ONCE: Final = 96
CLOSED_S_MAX: Final = 10.0
"""With the time-outs below a connection has little to wait for; the rest is for the machine."""

SETTINGS: Final = """\
[timeouts]
head_timeout_seconds = 0.25
body_timeout_seconds = 0.25
keepalive_timeout_seconds = 0.25
"""
ALLOWED_OF_5XX: Final = (503, 505)

_CHAT: Final = "/v1/chat/completions"
_CHUNKED_HEAD: Final = (
    f"POST {_CHAT} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()
_JSON: Final = chat_body("tokens:1", stream=False, prompt=CANARY)

SEEDS: Final = (
    get("/health", headers=f"X-A: {CANARY}\r\n").payload,
    get("/v1/models?a=b", headers=f"Accept: */*\r\nX-Request-Id: {CANARY[:3]}\r\n").payload,
    post(_CHAT, _JSON),
    post(_CHAT, chat_body("tokens:8", stream=True, prompt=CANARY)),
    post(_CHAT, _JSON, headers="Expect: 100-continue\r\n"),
    _CHUNKED_HEAD + b"%x;a=b\r\n%b\r\n0\r\nX-T: 1\r\n\r\n" % (len(_JSON), _JSON),
    get("/health", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n").payload,
)
SPLICES: Final = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b":", b" ", b"0", b",", b"\xff", b"%", b"-1", b"1e999"),
    *(b"Host: x\r\n", b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n"),
    *(b"[" * 70, b'"', b"\\ud800", b"null"),
)


def mutant(number: int) -> tuple[bytes, int]:
    """The bytes of one mutation, and where they are cut in two on the wire."""
    dice = random.Random(number)
    # Mostly with a request behind it that ends the connection; else its time-outs do.
    raw = bytearray(dice.choice(SEEDS) + (GET_HEALTH if dice.randrange(10) else b""))
    mutate(raw, dice, SPLICES, times=dice.choice((1, 1, 1, 2, 3)))
    return bytes(raw), dice.randrange(len(raw) + 1)


def mutate(raw: bytearray, dice: random.Random, splices: Sequence[bytes], *, times: int) -> None:
    """A few bytes changed, cut out, repeated or put in, so many times."""
    for _ in range(times):
        at = dice.randrange(len(raw) + 1)
        end = min(len(raw), at + dice.randint(1, 8))
        match dice.randrange(5):
            case 0 if at < len(raw):
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at:end]
            case 2:
                raw[at:at] = raw[at:end]
            case 3:
                raw[at:at] = dice.choice(splices)
            case _:
                raw[at:end] = dice.choice(splices)


def wire_fuzz(site: Site) -> Iterator[Figure]:
    """So many mutations over both parsers, each half of them."""
    count = MUTATIONS_IF_QUICK if site.quick else MUTATIONS
    findings = Findings()
    half = count // len(PARSERS)
    for place, (parser, environment) in enumerate(PARSERS.items()):
        with site.serving(more=SETTINGS, environment=environment) as gateway:
            numbers = range(place * half, (place + 1) * half)
            uvloop.run(_all_mutants(gateway, numbers, findings))
            findings.also(f"log, {parser}", log_fault(gateway.log()))
    yield Figure(
        name="seeded wire fuzz: answered wrongly",
        goal=f"0 of {count:,} mutations",
        measured=f"{findings.told()} ({', '.join(PARSERS)})",
        passed=not findings.wrong and findings.cases >= count,
        values={"wrong": findings.wrong, "mutations": findings.cases},
    )


async def _all_mutants(gateway: Child, numbers: range, findings: Findings) -> None:
    left = iter(numbers)

    async def send_some() -> None:
        for number in left:
            findings.add(f"mutation {number}", await mutant_fault(gateway.port, number))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send_some())
    findings.also("afterwards", await health_fault(gateway.port))


async def mutant_fault(port: int, number: int) -> str | None:
    """Send it; say what is wrong with what came, None if nothing."""
    raw, cut = mutant(number)
    try:
        connection = await RawConnection.open(port)
    except OSError as error:
        return repr(error)
    try:
        async with asyncio.timeout(CLOSED_S_MAX):
            connection.send(raw[:cut])
            await asyncio.sleep(0)
            connection.send(raw[cut:])
            received = await connection.rest()
    except TimeoutError:
        return "not closed"
    finally:
        connection.abort()
    return _received_fault(received)


def _received_fault(received: bytes) -> str | None:
    try:
        found = answers(received)
    except ValueError as error:
        return str(error)
    for answer in found:
        status = answer.status
        if status >= 500 and status not in ALLOWED_OF_5XX:
            return f"status {status}"
        if status >= 400 and (fault := answer.envelope_fault()):
            return f"status {status}: {fault}"
        # A chat says nothing of its prompt either: the engine's tokens are its own.
        if CANARY.encode() in answer.body:
            return "echoes what was sent"
    return None
