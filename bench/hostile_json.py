"""Bodies that are no JSON, that cost far more to read than to send, or that do not fit.

What is not a JSON object is 400, what does not fit is 422 with the name of what didn't,
and both in milliseconds for everybody else: while the corpus is sent, several bodies at
a time, /health is asked all the time, and its slowest answer is a figure of its own.
An image or a base URL of the caller's points at a port of ours, where nobody may call.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, Final

import attrs
import orjson
import uvloop

from bench.figures import MIB, Figure
from bench.processes import Child
from bench.raw import CANARY, Answer, Findings, ask, at_once, health_fault, log_fault, refusal_fault
from bench.sites import Site
from bench.wire import HOST, connected, get, post

HEALTH_S_MAX: Final = 0.5
HEALTH_EACH_S: Final = 0.005
ROUNDS: Final = 5
AT_ONCE: Final = 4
MODEL: Final = "tokens:1"
_CHAT: Final = "/v1/chat/completions"

_USER: Final = {"role": "user", "content": "hi"}
_BASE: Final[Mapping[str, Any]] = {"model": MODEL, "messages": [_USER]}
_PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(8)


@attrs.frozen
class Case:
    """A body and what becomes of it.

    Attributes:
        param: What a refusal of 422 names; "" where it doesn't matter.
        ignored: Names that an answer of 200 says were not honoured.
    """

    body: bytes
    statuses: tuple[int, ...]
    param: str = ""
    ignored: tuple[str, ...] = ()


def body(**more: Any) -> bytes:
    return orjson.dumps({**_BASE, **more})


def _text(part: bytes) -> Case:
    """A message with these bytes between its quotes, and no JSON for it."""
    return Case(body().replace(b"hi", part), (400,))


def _number(part: bytes) -> Case:
    return Case(body(seed=1).replace(b'"seed":1', b'"seed":' + part), (400,))


def _model(value: Any) -> Case:
    return Case(body(model=value), (422,), "model")


def _said(messages: Any, param: str) -> Case:
    return Case(body(messages=messages), (422,), param)


def _message(message: Any, param: str = "") -> Case:
    return _said([message], "messages[0]" + param)


def _value(name: str, value: Any, param: str = "") -> Case:
    return Case(body(**{name: value}), (422,), param or name)


def _image(url: Any, *statuses: int) -> Case:
    part = {"type": "image_url", "image_url": {"url": url}}
    message = [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]
    param = "messages[0].content[1].image_url.url"
    return Case(body(messages=message), statuses or (422,), param)


def _images(count: int) -> Case:
    url = f"data:image/png;base64,{base64.b64encode(_PNG).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}] * count
    return Case(
        body(messages=[{"role": "user", "content": parts}]),
        (422,),
        f"messages[0].content[{count - 1}].image_url",
    )


def cases(trap_port: int) -> dict[str, Case]:
    """The corpus; whoever follows an address of a caller's arrives at `trap_port`."""
    trap = f"{HOST}:{trap_port}"
    plain = body()
    whole_as_text = plain.decode()
    steering = {
        "api_base": f"http://{trap}",
        "base_url": f"http://{trap}/v1",
        "url": f"http://{trap}",
        "template": "{{ 7*7 }}",
        "raw": True,
        "__proto__": {"model": "other"},
    }
    not_json = {
        "J1 empty": b"",
        "J1 spaces": b"  \n ",
        "J1 null": b"null",
        "J1 array": b"[]",
        "J1 string": b'"x"',
        "J1 number": b"1",
        "J1 cut": plain[:-1],
        "J1 cut in a string": plain[:12],
        "J1 trailing": plain + b"x",
        "J1 two": plain + plain,
        "J1 comment": b"/* */" + plain,
        "J1 single quotes": b"{'model': 'x'}",
        "J1 byte order mark": b"\xef\xbb\xbf" + plain,
        "J1 UTF-16": whole_as_text.encode("utf-16"),
        "J1 UTF-32": whole_as_text.encode("utf-32"),
        "J3 in a key": plain.replace(b'"role"', rb'"\ud83d"'),
        "J4 100,000 deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "J4 100,000 deep, open": b'{"a":' * 100_000,
        "J4 2,000 deep": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        "J4 65 deep": b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
    }
    return {
        **{name: Case(raw, (400,)) for name, raw in not_json.items()},
        "J1 bad UTF-8": _text(b"\xff\xfe"),
        "J1 overlong": _text(b"\xc0\xaf"),
        "J1 surrogate in UTF-8": _text(b"\xed\xa0\x80"),
        "J1 raw control": _text(b"a\x00b"),
        "J1 raw newline": _text(b"a\nb"),
        "J2 NaN": _number(b"NaN"),
        "J2 Infinity": _number(b"Infinity"),
        "J2 -Infinity": _number(b"-Infinity"),
        "J2 1e999": _number(b"1e999"),
        "J2 5,000 digits": _number(b"1" * 5_000),
        "J2 a million digits": _number(b"1" * MIB),
        "J3 high": _text(rb"\ud800"),
        "J3 low": _text(rb"\udc00 x"),
        "J5 100,000 keys": Case(body(**{f"key{n}": n for n in range(100_000)}), (200, 400, 413)),
        "J5 20,000 messages": Case(body(messages=[_USER] * 20_000), (400, 413, 422)),
        "J5 escapes": Case(plain.replace(b"hi", rb"\u0041" * (3 * MIB // 6)), (200, 400, 413)),
        "J5 beyond the bound": Case(plain.replace(b"hi", rb"\u0041" * (4 * MIB // 6)), (413,)),
        "J5 numbers": Case(body(a=[1.5] * 700_000), (200, 400, 413)),
        "J5 empty lists": Case(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}", (400, 413, 422)),
        "J6 the last is taken": Case(plain[:-1] + f',"model":"{MODEL}"}}'.encode(), (200,)),
        "J6 the last is checked": Case(plain[:-1] + b',"model":7}', (422,), "model"),
        "J7 missing": Case(orjson.dumps({"messages": [_USER]}), (422,), "model"),
        "J7 null": _model(None),
        "J7 number": _model(7),
        "J7 list": _model([MODEL]),
        "J7 empty": _model(""),
        "J7 10 KB": _model("m" * 10_240),
        "J7 CRLF": _model(f"{CANARY}\r\nSet-Cookie: a"),
        "J7 NUL": _model("a\x00"),
        "J7 ESC": _model("\x1b[31m"),
        "J7 quote": _model('a"b'),
        "J7 path": _model("../../etc/passwd"),
        "J7 URL": _model(f"http://{trap}/m"),
        "J8 unknown": Case(body(model="no-such-model"), (404,)),
        "J9 missing": Case(orjson.dumps({"model": MODEL}), (422,), "messages"),
        "J9 null": _said(None, "messages"),
        "J9 object": _said({}, "messages"),
        "J9 empty": _said([], "messages"),
        "J9 string": _said(CANARY, "messages"),
        "J9 null inside": _message(None),
        "J9 no role": _message({"content": "hi"}, ".role"),
        "J9 role unknown": _message({"role": CANARY, "content": "hi"}, ".role"),
        "J9 role a list": _message({"role": ["user"], "content": "hi"}, ".role"),
        "J9 content a number": _message({"role": "user", "content": 1}, ".content"),
        "J9 content an object": _message({"role": "user", "content": {}}, ".content"),
        "J9 content null": _message({"role": "user", "content": None}, ".content"),
        "J9 part null": _message({"role": "user", "content": [None]}, ".content[0]"),
        "J9 part unknown": _message(
            {"role": "user", "content": [{"type": CANARY}]}, ".content[0].type"
        ),
        "J10 stream": _value("stream", CANARY),
        "J10 hot": _value("temperature", "hot"),
        "J10 cold": _value("temperature", -1),
        "J10 1e308": _value("temperature", 1e308),
        "J10 top_p": _value("top_p", 5),
        "J10 max_tokens below 0": _value("max_tokens", -1),
        "J10 max_tokens true": _value("max_tokens", True),
        "J10 max_tokens a half": _value("max_tokens", 1.5),
        "J10 n": _value("n", 100_000),
        "J11 stop": _value("stop", ["x"] * 10_000),
        "J11 tools": _value("tools", CANARY),
        "J11 many tools": _value(
            "tools", [{"type": "function", "function": {"name": "f"}}] * 10_000
        ),
        "J11 response_format": _value("response_format", CANARY),
        "J11 format unknown": _value("response_format", {"type": CANARY}, "response_format.type"),
        "J11 metadata": _value("metadata", [1]),
        "J11 logit_bias": _value("logit_bias", []),
        **{
            f"J12 {url[:40]}": _image(url)
            for url in (
                f"http://{trap}/{CANARY}.png",
                f"https://{trap}/a.png",
                f"//{trap}/a.png",
                f"http://2130706433:{trap_port}/",
                f"http://127.0.0.1.nip.io:{trap_port}/",
                f"ftp://{trap}/a.png",
                f"gopher://{trap}/",
                "file:///etc/passwd",
                "javascript:alert(1)",
                "data:image/svg+xml;base64,PHN2Zz4=",
                "data:text/html;base64,PGI+",
                "data:image/png,abc",
            )
        },
        "J13 bad base64": _image("data:image/png;base64,@@@@"),
        "J13 no image": _image("data:image/png;base64,AAAA"),
        "J13 another type": _image(f"data:image/jpeg;base64,{base64.b64encode(_PNG).decode()}"),
        "J13 beyond the bound": _image(
            f"data:image/png;base64,{base64.b64encode(_PNG + bytes(5 * MIB)).decode()}", 413
        ),
        "J13 five images": _images(5),
        "J14 steering": Case(body(**steering), (200,), ignored=tuple(steering)),
        "J14 for ever": _value("keep_alive", -1),
        "J14 context": _value("options", {"num_ctx": 10**9}, "options.num_ctx"),
        "J14 context at the top": _value("num_ctx", 10**9),
    }


def hostile_json(site: Site) -> Iterator[Figure]:
    """The corpus, several bodies at a time, and /health beside it."""
    rounds = 1 if site.quick else ROUNDS
    with site.serving() as gateway:
        findings, health_s, health_faults = uvloop.run(_all_cases(gateway, rounds))
        findings.also("log", log_fault(gateway.log()))
    yield Figure(
        name="hostile JSON answered wrongly",
        goal="0",
        measured=findings.told(),
        passed=not findings.wrong,
        values={"wrong": findings.wrong, "cases": findings.cases},
    )
    worst_s = max(health_s)
    wrong = f", {health_faults} not 200" if health_faults else ""
    yield Figure(
        name="hostile JSON: worst /health meanwhile",
        goal=f"≤ {HEALTH_S_MAX * 1e3:.0f} ms",
        measured=f"{worst_s * 1e3:.0f} ms of {len(health_s):,} answers{wrong}",
        passed=worst_s <= HEALTH_S_MAX and not health_faults,
        values={"worst_s": worst_s},
    )


async def _all_cases(gateway: Child, rounds: int) -> tuple[Findings, list[float], int]:
    """Returns what was wrong, how long each /health took, and how many were not 200."""
    findings = Findings()
    health_s: list[float] = []
    health_faults = 0
    called = 0

    async def trapped(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal called
        called += 1
        writer.close()

    async def watch_health() -> None:
        nonlocal health_faults
        async with connected(gateway.port) as connection:
            while True:
                exchange = await connection.exchange(get("/health"))
                health_faults += exchange.status != 200
                health_s.append(exchange.took_s)
                await asyncio.sleep(HEALTH_EACH_S)

    async def check(name: str, case: Case, request: bytes) -> None:
        try:
            answer = await ask(gateway.port, request)
        except (OSError, TimeoutError, ValueError) as error:
            findings.add(name, repr(error))
        else:
            findings.add(name, case_fault(answer, case))

    async with await asyncio.start_server(trapped, HOST, 0) as trap:
        corpus = [
            (name, case, post(_CHAT, case.body, headers="Connection: close\r\n"))
            for name, case in cases(trap.sockets[0].getsockname()[1]).items()
        ]
        async with _beside(watch_health()):
            for _ in range(rounds):
                await at_once((check(*one) for one in corpus), AT_ONCE)
        findings.also("J12", f"{called} calls to an address of the caller's" if called else None)
    findings.also("afterwards", await health_fault(gateway.port))
    return findings, health_s, health_faults


def case_fault(answer: Answer, case: Case) -> str | None:
    """What is wrong with the answer to a case; None if nothing."""
    status = answer.status
    if status not in case.statuses:
        return f"status {status}"
    if status == 200:
        named = answer.headers.get("x-gateway-ignored-params", "").split(", ")
        if missing := [name for name in case.ignored if name not in named]:
            return f"{missing[0]} is not said to be ignored"
        return None if answer.document["choices"] else "no choices"
    codes = {400: "invalid_json", 404: "model_not_found", 413: "request_too_large"}
    if fault := refusal_fault(
        answer, statuses=case.statuses, codes=(codes.get(status, "invalid_request"),)
    ):
        return fault
    if status == 422 and case.param and answer.error["param"] != case.param:
        return f"param {answer.error['param']}"
    return None


@contextlib.asynccontextmanager
async def _beside(loop: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run an endless loop beside the block; one that dies ends the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(loop)
        try:
            yield
        finally:
            task.cancel()
