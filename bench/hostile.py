"""HTTP that no honest client sends: smuggling, foreign hosts, odd paths, heads without end.

Each request is sent whole and in two pieces, with a plain one right behind it, which must
not be answered where the first is refused: that second answer is what a smuggler is after.
Every case has what it may be answered; wrong is also an answer that is no envelope, has a
word of what was sent, or leaves a gateway that does not answer /health. Both of aiohttp's
parsers are asked: RFC 9112 is as hard to read in C as in Python.
"""

from collections.abc import Iterator
from typing import Final

import attrs
import uvloop

from bench.figures import Figure
from bench.processes import Child
from bench.raw import (
    CANARY,
    GET_HEALTH,
    Findings,
    answers,
    at_once,
    health_fault,
    log_fault,
    refusal_fault,
    talk,
)
from bench.sites import PARSERS, Site

KEY: Final = "sk-bench-0123456789abcdefghijklmnop"
SETTINGS: Final = """\
[limits]
body_bytes_max = 65536

[timeouts]
body_timeout_seconds = 1.0
"""

_MARK: Final = CANARY.encode()
_HOST: Final = b"Host: localhost\r\n"
_KEY_LINE: Final = f"Authorization: Bearer {KEY}".encode()
_CHAT_LINE: Final = b"POST /v1/chat/completions HTTP/1.1"
_HEALTH_LINE: Final = b"GET /health HTTP/1.1"
_AT_ONCE: Final = 8
_PIPELINED: Final = 1_000


@attrs.frozen
class Case:
    """A request, and the statuses it may be answered with.

    Attributes:
        closes: Whether nothing that follows on the connection may be answered; else
            the plain request behind it may be, with 200.
    """

    raw: bytes
    statuses: tuple[int, ...]
    closes: bool = True


def get(*lines: bytes, host: bytes = _HOST, line: bytes = _HEALTH_LINE) -> bytes:
    return line + b"\r\n" + host + b"".join(each + b"\r\n" for each in lines) + b"\r\n"


def target(path: bytes, method: bytes = b"GET", version: bytes = b" HTTP/1.1") -> bytes:
    return get(line=method + b" " + path + version)


def chat(*lines: bytes, body: bytes = b"", line: bytes = _CHAT_LINE) -> bytes:
    """A chat with the right key."""
    return get(_KEY_LINE, b"Content-Type: application/json", *lines, line=line) + body


def _bad(raw: bytes, *more: int) -> Case:
    return Case(raw, (400, *more))


def _sized(*values: bytes) -> Case:
    return _bad(chat(*(b"Content-Length: " + value for value in values), body=b"12345"))


def _coded(*lines: bytes, line: bytes = _CHAT_LINE) -> Case:
    return _bad(chat(*lines, body=b"5\r\nhello\r\n0\r\n\r\n", line=line), 501)


def _chunked(*frames: bytes) -> bytes:
    return chat(b"Transfer-Encoding: chunked", body=b"".join(frames))


def _named(host: bytes, *more: int) -> Case:
    raw = get(host=b"Host: " + host + b"\r\n", line=b"GET /v1/models HTTP/1.1")
    return Case(raw, (400, 403, *more))


def _twisted(path: bytes) -> dict[str, Case]:
    """A path that means another only to who is careless, without a key and with it."""
    raw = target(path)
    with_key = raw[:-2] + _KEY_LINE + b"\r\n\r\n"
    return {
        f"{path.decode('latin-1')} without a key": Case(raw, (400, 401), closes=False),
        f"{path.decode('latin-1')} with a key": Case(with_key, (400, 404), closes=False),
    }


def _method(method: bytes, path: bytes) -> Case:
    raw = get(_KEY_LINE, line=method + b" " + path + b" HTTP/1.1")
    return Case(raw, (405,), closes=False)


_CHUNKS: Final = b"Transfer-Encoding: chunked"
_UPGRADE: Final = (b"Connection: Upgrade", b"Sec-WebSocket-Version: 13")
_FIVE: Final = b"Content-Length: 5"
_HUGE: Final = b"Content-Length: 100000000"
_BEYOND: Final = (b"4000\r\n" + b" " * 0x4000 + b"\r\n",) * 5
_EVIL: Final = b"Origin: https://evil.example"

CASES: Final[dict[str, Case]] = {
    "H1 length and encoding": _coded(_FIVE, _CHUNKS),
    "H1 encoding and length": _coded(_CHUNKS, _FIVE),
    "H1 length twice": _sized(b"5", b"5"),
    "H1 two lengths": _sized(b"5", b"6"),
    "H1 list of lengths": _sized(b"5, 5"),
    "H1 plus": _sized(b"+5"),
    "H1 minus": _sized(b"-1"),
    "H1 hexadecimal": _sized(b"0x5"),
    "H1 underscore": _sized(b"1_0"),
    "H1 empty": _sized(b""),
    "H1 other digits": _sized("٥".encode()),
    "H1 10^23": _sized(b"1" + b"0" * 23),
    "H2 unknown": _coded(b"Transfer-Encoding: xchunked"),
    "H2 identity": _coded(b"Transfer-Encoding: identity"),
    "H2 chunked, identity": _coded(b"Transfer-Encoding: chunked, identity"),
    "H2 gzip, chunked": _coded(b"Transfer-Encoding: gzip, chunked"),
    "H2 twice": _coded(_CHUNKS, _CHUNKS),
    "H2 twice in one": _coded(b"Transfer-Encoding: chunked, chunked"),
    "H2 space before the colon": _coded(b"Transfer-Encoding : chunked"),
    "H2 vertical tab": _coded(b"Transfer-Encoding: \x0bchunked"),
    "H2 Kelvin sign": _coded("Transfer-Encoding: chun\u212aed".encode()),
    "H2 in HTTP/1.0": _coded(_CHUNKS, line=_CHAT_LINE.replace(b"1.1", b"1.0")),
    "H3 size ZZ": _bad(_chunked(b"ZZ\r\nhello\r\n0\r\n\r\n")),
    "H3 size -2": _bad(_chunked(b"-2\r\nhello\r\n0\r\n\r\n")),
    "H3 size 0x2": _bad(_chunked(b"0x2\r\nhe\r\n0\r\n\r\n")),
    # The pure-Python parser knows no overflow and waits for the rest of the chunk.
    "H3 overflow": _bad(_chunked(b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"), 408),
    "H3 LF in extension": _bad(_chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    "H3 no CRLF after the chunk": _bad(_chunked(b"5\r\nhelloXX0\r\n\r\n")),
    "H3 1 MiB extension": _bad(
        _chunked(b"5;" + b"a" * 1024 * 1024, b"\r\nhello\r\n0\r\n\r\n"), 413
    ),
    "H4 folded": _bad(get(b"X-A: b", b" " + _MARK)),
    "H4 NUL": _bad(get(b"X-A: b\x00" + _MARK)),
    "H4 CR": _bad(get(b"X-A: b\r" + _MARK)),
    "H4 LF": _bad(get(b"X-A: b\n" + _MARK)),
    "H4 no colon": _bad(get(_MARK)),
    "H4 space in a name": _bad(get(b"X A: " + _MARK)),
    "H4 empty name": _bad(get(b": " + _MARK)),
    "H4 bare LF": _bad(get().replace(b"\r\n", b"\n")),
    "H5 no Host": _bad(get(host=b"")),
    "H5 no Host in HTTP/1.0": _bad(get(host=b"", line=b"GET /health HTTP/1.0")),
    "H5 Host twice": _bad(get(host=_HOST * 2)),
    "H6 foreign": Case(get(host=b"Host: evil.example\r\n"), (403,)),
    "H6 foreign with a port": Case(get(host=b"Host: evil.example:8000\r\n"), (403,)),
    "H7 address as a prefix": _named(b"127.0.0.1.evil.example"),
    "H7 localhost as a prefix": _named(b"localhost.evil.example"),
    "H7 user": _named(b"localhost@evil"),
    "H7 empty": _named(b""),
    "H7 junk": _named(b'a b<>"'),
    "H8 port 99999": _named(b"127.0.0.1:99999"),
    "H8 unclosed": _named(b"[::1"),
    "H9 absolute": Case(target(b"http://evil.example/health"), (400, 403)),
    "H9 absolute with a user": Case(target(b"http://localhost@evil.example/health"), (400, 403)),
    "H9 absolute without an authority": Case(target(b"http:/health"), (400, 403)),
    "H9 absolute ftp": Case(target(b"ftp://localhost/health"), (400, 403)),
    "H10 foreign page asks": Case(chat(_EVIL, b"Content-Length: 0"), (403,), closes=False),
    "H10 nobody's page asks": Case(
        chat(b"Origin: null", b"Content-Length: 0"), (403,), closes=False
    ),
    "H11 preflight": Case(
        get(
            _EVIL,
            b"Access-Control-Request-Method: POST",
            line=_CHAT_LINE.replace(b"POST", b"OPTIONS"),
        ),
        (403,),
        closes=False,
    ),
    "H12 path in the Host": _named(b"localhost/health?", 401),
    "H12 fragment in the Host": _named(b"localhost:4000/#@evil", 401),
    **{
        f"H13 {name}": case
        for path in (
            b"/health/../v1/models",
            b"/health/%2e%2e/v1/models",
            b"//v1/models",
            b"/v1%2fmodels",
            b"/V1/models",
            b"/health;x",
            b"/v1/models;x",
            b"/health%20",
            b"/health#/../v1/models",
        )
        for name, case in _twisted(path).items()
    },
    "H15 HTTP/0.9": _bad(b"GET /health\r\n\r\n", 505),
    "H15 HTTP/1.2": _bad(target(b"/health", version=b" HTTP/1.2"), 505),
    "H15 HTTP/2.0": _bad(target(b"/health", version=b" HTTP/2.0"), 505),
    "H15 HTTP/9.9": _bad(target(b"/health", version=b" HTTP/9.9"), 505),
    "H15 HTTP/1.1.1": _bad(target(b"/health", version=b" HTTP/1.1.1"), 505),
    "H15 h2 preface": _bad(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "H15 TLS hello": _bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 505),
    "H16 9 KB": _bad(target(b"/" + _MARK * 1_500), 414, 431),
    "H16 100 KB": _bad(target(b"/" + _MARK * 17_000), 414, 431),
    "H17 9 KB": _bad(get(b"X-A: " + _MARK * 1_500), 431),
    "H17 9 KB of a name": _bad(get(b"X-" + _MARK * 1_500 + b": a"), 431),
    "H17 300 headers": _bad(get(*(b"X-%d: a" % n for n in range(300))), 431),
    "H17 1 MiB": _bad(get(*(b"X-%d: " % n + b"a" * 8_000 for n in range(131))), 431),
    "H18 junk": _bad(target(b"/health", b"G{}T")),
    "H18 10 KB": _bad(target(b"/health", b"A" * 10_000), 405, 414, 501),
    "H18 CONNECT": _bad(target(b"localhost:22", b"CONNECT"), 405, 501),
    "H18 TRACE": _method(b"TRACE", b"/v1/models"),
    "H19 NUL": _bad(target(b"/health\x00")),
    "H19 beyond ASCII": _bad(target("/healthé".encode())),
    **{
        f"H19 {name}": case
        for path in (b"/health%00", b"/health%zz", b"/health%ed%a0%80", b"/..\\health")
        for name, case in _twisted(path).items()
    },
    "H20 GET a chat": _method(b"GET", b"/v1/chat/completions"),
    "H20 DELETE the models": _method(b"DELETE", b"/v1/models"),
    "H20 PROPFIND": _method(b"PROPFIND", b"/ready"),
    "H21 length beyond the bound": Case(chat(_HUGE), (413,)),
    "H21 the same, to be continued": Case(chat(_HUGE, b"Expect: 100-continue"), (413,)),
    # Its end has been received, so that what follows is a request.
    "H22 chunks beyond the bound": Case(_chunked(*_BEYOND, b"0\r\n\r\n"), (413,), closes=False),
    "H22 chunks beyond the bound, no end": Case(_chunked(*_BEYOND), (400, 413)),
    "H23 unknown expectation": Case(get(b"Expect: " + _MARK), (417,)),
    "H23 two expectations": Case(get(*[b"Expect: 100-continue"] * 2), (417,)),
    "H24 to be continued without a key": Case(
        get(b"Expect: 100-continue", _FIVE, line=_CHAT_LINE) + b"hello", (401,), closes=False
    ),
    **{
        f"H25 {coding.decode()}": Case(
            chat(b"Content-Encoding: " + coding, _FIVE, body=b"\x1f\x8b\x08\x00\x00"),
            (415,),
            closes=False,
        )
        for coding in (b"gzip", b"br", _MARK, b"identity, gzip", b"gzip, identity")
    },
    "H26 chunks of one byte": Case(
        _chunked(b"1\r\n \r\n" * 20_000, b"0\r\n\r\n"), (400, 413), closes=False
    ),
    "H26 trailers": _bad(
        _chunked(b"5\r\nhello\r\n0\r\n", *(b"X-%d: a\r\n" % n for n in range(10_000)), b"\r\n"), 431
    ),
    "H27 WebSocket": Case(get(*_UPGRADE, b"Upgrade: websocket"), (200,)),
    "H27 h2c": Case(get(*_UPGRADE, b"Upgrade: h2c"), (200,)),
    "H27 WebSocket with a body": Case(
        chat(*_UPGRADE, b"Upgrade: websocket", _FIVE, body=b"hello"), (400,)
    ),
    "H27 h2c with a body": Case(chat(*_UPGRADE, b"Upgrade: h2c", _FIVE, body=b"hello"), (400,)),
    **{
        f"H28 {kind.decode() or 'nothing'}": Case(
            get(_KEY_LINE, b"Content-Type: " + kind, _FIVE, line=_CHAT_LINE) + b"hello",
            (415,),
            closes=False,
        )
        for kind in (
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"multipart/form-data",
            b"",
        )
    },
    "H30 a made-up request id": Case(
        get(b'X-Request-Id: "' + _MARK, b"User-Agent: \x1b[31m" + _MARK * 300),
        (200, 400),
        closes=False,
    ),
}


def hostile_http(site: Site) -> Iterator[Figure]:
    """The whole corpus, once for each parser."""
    for parser, chosen in PARSERS.items():
        with site.serving(more=SETTINGS, environment={"API_KEY": KEY, **chosen}) as gateway:
            findings = uvloop.run(_all_cases(gateway))
            findings.also("log", log_fault(gateway.log(), secrets=(CANARY, KEY)))
        yield Figure(
            name=f"hostile HTTP answered wrongly, {parser}",
            goal="0",
            measured=findings.told(),
            passed=not findings.wrong,
            values={"wrong": findings.wrong, "cases": findings.cases},
        )


async def _all_cases(gateway: Child) -> Findings:
    findings = Findings()

    async def check(name: str, case: Case, *pieces: bytes) -> None:
        fault = await case_fault(gateway.port, case, *pieces) or await health_fault(gateway.port)
        findings.add(name, fault)

    checks = []
    for name, case in CASES.items():
        head_bytes = case.raw.find(b"\r\n\r\n") + 4
        # A body is cut off its head, so that a handler is already reading it.
        half = head_bytes if 0 < head_bytes < len(case.raw) else len(case.raw) // 2
        checks += [
            check(name, case, case.raw + GET_HEALTH),
            check(f"{name}, in pieces", case, case.raw[:half], case.raw[half:] + GET_HEALTH),
        ]
    await at_once(checks, _AT_ONCE)
    findings.add("H26 pipelined", await _pipelined_fault(gateway.port))
    return findings


async def case_fault(port: int, case: Case, *pieces: bytes) -> str | None:
    """Send these bytes; say what is wrong with what came, None if nothing."""
    try:
        received = await talk(port, *pieces)
        found = answers(received)
    except TimeoutError:
        return "not closed"
    except (OSError, ValueError) as error:
        return repr(error)
    if not found:
        return "closed without an answer"
    first, *others = found
    if others and (case.closes or [one.status for one in others] != [200]):
        return f"a second answer, {others[0].status}"
    if CANARY.encode() in received:
        return "echoes what was sent"
    if any(name.startswith("access-control-") for name in first.headers):
        return "lets another origin in"
    if first.status == 200 and 200 in case.statuses:
        return None
    if first.status == 405 and not first.headers.get("allow"):
        return "405 without Allow"
    if case.closes and first.headers.get("connection") != "close":
        return "does not say that it closes"
    return refusal_fault(first, statuses=case.statuses)


async def _pipelined_fault(port: int) -> str | None:
    """A thousand requests in one go have a thousand answers, or fewer and a refusal."""
    try:
        found = answers(await talk(port, get() * (_PIPELINED - 1) + GET_HEALTH))
    except (OSError, TimeoutError, ValueError) as error:
        return repr(error)
    statuses = {one.status for one in found}
    if statuses == {200} and len(found) == _PIPELINED:
        return None
    return f"{len(found)} answers of {sorted(statuses)}"
