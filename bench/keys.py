"""Everybody without the key, at every door: is there a way in, and do all refusals look the same?

A refusal that differs tells what exists, or how far a guess got. Wrong is everything but
401 in the one envelope, with the one body. The right key is tried too: a gateway that
lets nobody in would pass all else.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import uvloop

from bench.figures import Figure
from bench.processes import Child
from bench.raw import Answer, Findings, ask, at_once, health_fault, log_fault, refusal_fault
from bench.sites import Site

KEY: Final = "sk-bench-0123456789abcdefghijklmnop"
CASES_MIN: Final = 400

_CHAT: Final = "/v1/chat/completions"
_AT_ONCE: Final = 8
_BEARER: Final = "Authorization: Bearer "

KEYLESS: Final[dict[str, Sequence[str]]] = {
    "no key": (),
    "empty": ("Authorization: ",),
    "scheme alone": ("Authorization: Bearer",),
    "scheme and space": (_BEARER,),
    "wrong": (f"{_BEARER}sk-wrong",),
    "prefix": (_BEARER + KEY[:-1],),
    "longer": (f"{_BEARER}{KEY}x",),
    "other case": (_BEARER + KEY.upper(),),
    "its hash": (_BEARER + hashlib.sha256(KEY.encode()).hexdigest(),),
    "basic": (f"Authorization: Basic {KEY}",),
    "bare": (f"Authorization: {KEY}",),
    "scheme twice": (f"{_BEARER}Bearer {KEY}",),
    "quoted": (f'{_BEARER}"{KEY}"',),
    "list": (f'{_BEARER}["{KEY}"]',),
    "list of keys": (f"{_BEARER}sk-wrong, Bearer {KEY}",),
    "null": (f"{_BEARER}null",),
    "None": (f"{_BEARER}None",),
    "star": (f"{_BEARER}*",),
    "SQL": (f"{_BEARER}' OR 1=1 --",),
    "latin-1": (f"{_BEARER}\xe9\xe8\xff",),
    "7 KB": (_BEARER + "k" * 7_000,),
    "another header, wrong": ("x-api-key: sk-wrong",),
    "another header, empty": ("x-api-key: ",),
    "two that differ": (_BEARER + KEY, f"{_BEARER}sk-wrong"),
    "two, wrong first": (f"{_BEARER}sk-wrong", _BEARER + KEY),
    "key and another": (_BEARER + KEY, "x-api-key: sk-wrong"),
    "another and key": (f"{_BEARER}sk-wrong", f"x-api-key: {KEY}"),
    "cookie": (f"Cookie: Authorization=Bearer {KEY}; api_key={KEY}",),
    "proxy's": (f"Proxy-Authorization: Bearer {KEY}",),
    "another path": (f"X-Original-URL: {_CHAT}", "X-Rewrite-URL: /health"),
    "another method": ("X-HTTP-Method-Override: GET", "X-HTTP-Method: GET"),
    "another address": ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
}
"""A1–A3, A9, H14."""

PATHS: Final = (
    _CHAT,
    "/v1/models",
    "/v1/models/tokens:1",
    "/nowhere",
    "/v1/files",
    "/v1/batches",
    "/docs",
    "/openapi.json",
    "/api/tags",
    "/api/chat",
    "/api/pull",
    f"/v1/models?api_key={KEY}&key={KEY}",
    f"/health/../v1/models?Authorization=Bearer%20{KEY}",
)
QUICK_PATHS: Final = (_CHAT, "/v1/models", "/nowhere", "/api/tags", f"/v1/models?api_key={KEY}")
METHODS: Final = ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "TRACE", "PROPFIND")
QUICK_METHODS: Final = ("GET", "POST", "DELETE", "HEAD")

HAVING: Final[dict[str, Sequence[str]]] = {
    "the key": (_BEARER + KEY,),
    "lower-case scheme": (f"Authorization: bearer {KEY}",),
    "upper-case scheme": (f"Authorization: BEARER {KEY}",),
    "another header": (f"x-api-key: {KEY}",),
    "both headers": (_BEARER + KEY, f"x-api-key: {KEY}"),
}
"""A4."""

UNREAD: Final[dict[str, bytes]] = {
    "a body of 100 MB": b"Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n",
    "a body to be continued": b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    "a body that never ends": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a compressed body": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00",
    "a body of text": b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "no JSON": b"Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{",
    "no length": b"Content-Type: application/json\r\n\r\n",
}
"""A6: nothing of a body is looked at, and none is asked for, before the key."""


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    top = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]
    return "\r\n".join(top).encode("latin-1")


def authentication(site: Site) -> Iterator[Figure]:
    """Every kind of wrong key, at every URL, with every method."""
    with site.serving(environment={"API_KEY": KEY}) as gateway:
        findings = uvloop.run(_all_cases(gateway, quick=site.quick))
        findings.also("log", log_fault(gateway.log(), secrets=(KEY, "sk-wrong")))
    yield Figure(
        name="authentication: a way in or a wrong shape",
        goal=f"0 of ≥ {CASES_MIN}",
        measured=findings.told(),
        passed=not findings.wrong and findings.cases >= CASES_MIN,
        values={"wrong": findings.wrong, "cases": findings.cases},
    )


async def _all_cases(gateway: Child, *, quick: bool) -> Findings:
    findings = Findings()
    bodies: set[bytes] = set()

    async def refused(name: str, raw: bytes, method: str = "GET") -> None:
        try:
            answer = await ask(gateway.port, raw, method=method)
        except (OSError, TimeoutError, ValueError) as error:
            findings.add(name, repr(error))
            return
        findings.add(name, _refused_fault(answer, method))
        if method != "HEAD":
            bodies.add(answer.body)

    async def let_in(name: str, path: str, lines: Sequence[str]) -> None:
        try:
            status = (await ask(gateway.port, request(path, *lines))).status
        except (OSError, TimeoutError, ValueError) as error:
            findings.add(name, repr(error))
        else:
            findings.add(name, None if status == 200 else f"status {status}")

    checks = [
        refused(f"{name}: {method} {path}", request(path, *lines, method=method), method)
        for name, lines in KEYLESS.items()
        for path in (QUICK_PATHS if quick else PATHS)
        for method in (QUICK_METHODS if quick else METHODS)
    ]
    checks += [
        refused(f"{name}: {path} through a proxy", request(path, "X-Forwarded-For: ::1", *lines))
        for name, lines in KEYLESS.items()
        for path in ("/metrics", "/ready")
    ]
    checks += [
        refused(name, request(_CHAT, method="POST")[:-2] + rest) for name, rest in UNREAD.items()
    ]
    checks.append(refused("OPTIONS *", request("*", method="OPTIONS")))
    checks += [
        let_in(f"{name}: {path}", path, lines)
        for name, lines in HAVING.items()
        for path in ("/v1/models", "/v1/models/tokens:1", "/metrics")
    ]
    checks.append(let_in("nobody: /health", "/health", ()))
    await at_once(checks, _AT_ONCE)
    findings.also("bodies", None if len(bodies) == 1 else f"{len(bodies)} different")
    findings.also("afterwards", await health_fault(gateway.port))
    return findings


def _refused_fault(answer: Answer, method: str) -> str | None:
    if answer.headers.get("www-authenticate") != "Bearer":
        return f"status {answer.status} without WWW-Authenticate"
    if method == "HEAD":
        return None if answer.status == 401 else f"status {answer.status}"
    fault = refusal_fault(answer, statuses=(401,), codes=("invalid_api_key",))
    if fault is None and answer.error["type"] != "authentication_error":
        return f"type {answer.error['type']}"
    return fault
