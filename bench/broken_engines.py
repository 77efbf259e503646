"""An Ollama that breaks in every way, and whether the gateway ever calls that an answer.

The engine is a server here that plays bytes, pauses and ways of going away. Each fault is
asked for whole and streamed, through a gateway of its own; after each comes a plain
request that must be answered. What must never happen is a cut answer that looks whole:
a 200 with the beginning of it, or a stream with a finish reason or [DONE].
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson
import uvloop

from bench.figures import Figure
from bench.processes import Child
from bench.raw import HANG_S, Answer, Findings, RawConnection, answers, error_in, log_fault
from bench.sites import PARSERS, Site
from bench.wire import HOST, chat_body, fault_in_completion, fault_in_sse, post

SECRET: Final = "s3cret-of-the-engine"
MODEL: Final = "m"
DEFAULT_MODEL: Final = "tokens:8"
COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
SETTINGS: Final = """\
[timeouts]
first_byte_timeout_seconds = 0.4
stall_timeout_seconds = 0.4

[limits]
upstream_line_bytes_max = 2000
upstream_answer_bytes_max = 200000
"""


class _Step:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


CLOSE: Final = _Step("CLOSE")
"""Close the connection in an orderly way."""

RESET: Final = _Step("RESET")
"""Close it so that the gateway gets a reset."""

HANG: Final = _Step("HANG")
"""Say nothing until the gateway has gone."""

PAUSE: Final = _Step("PAUSE")
"""Wait until the one who asked says that it has the beginning."""

Step = bytes | _Step


def head(status: int = 200, framing: str = "Transfer-Encoding: chunked", *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", framing, *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END: Final = b"0\r\n\r\n"


def whole(data: bytes, status: int = 200, *lines: str) -> bytes:
    return head(status, f"Content-Length: {len(data)}", *lines) + data


def line(content: str, **fields: Any) -> bytes:
    """A line of a stream of Ollama's."""
    message = {"role": "assistant", "content": content}
    return orjson.dumps({"model": "m:latest", "message": message, "done": False, **fields}) + b"\n"


def done(**fields: Any) -> bytes:
    """Its last line; a field that is None is left out."""
    counts = {"prompt_eval_count": 3, "eval_count": 2, "done_reason": "stop", **fields}
    left = {name: value for name, value in counts.items() if value is not None}
    return line("", done=True, **left)


def answer(*lines: bytes) -> bytes:
    return head() + b"".join(map(chunk, lines)) + END


def error(text: str, status: int) -> bytes:
    return whole(orjson.dumps({"error": text}), status)


HELLO: Final = "hello"
PLAIN: Final[Sequence[Step]] = (answer(line("hel"), line("lo"), done()),)
PARTLY: Final = head() + chunk(line("hel"))


@attrs.frozen
class Broken:
    """What the engine does instead of answering, and what the caller is told.

    Attributes:
        steps: Played for one request.
        began: Played before them; it has reached the caller of a stream when they begin.
        attempts: How often the engine is asked for one request.
    """

    steps: Sequence[Step]
    status: int = 502
    code: str = "backend_error"
    attempts: int = 1
    began: bytes = b""


@attrs.frozen
class Odd:
    """A strange answer that is one, and the text that it says."""

    steps: Sequence[Step]
    text: str = HELLO


def _before(*steps: Step, **fields: Any) -> Broken:
    return Broken(steps, **fields)


def _after(*steps: Step, began: bytes = PARTLY) -> Broken:
    return Broken(steps, began=began)


def _late(*steps: Step, began: bytes = b"") -> Broken:
    return Broken(steps, 504, "request_timeout", began=began)


def _busy(status: int) -> Broken:
    return Broken((error(SECRET, status),), 503, "backend_overloaded")


_FORGED: Final = "a\n\ndata: [DONE]\n\nb\r\x00\x1b\u2028\u0085 é 漢 🙂"
_LETTERS: Final = "é 漢 🙂"
_CUT_ANYWHERE: Final = line(_LETTERS) + done()
_HALF: Final = line("x").replace(b'"x"', b'"a\\ud800b"')
_SECRET_LINE: Final = orjson.dumps({"error": SECRET}) + b"\n"

BROKEN: Final[dict[str, Broken]] = {
    "B2 reset before any byte": _before(RESET, attempts=2),
    "B2 closed before any byte": _before(CLOSE, attempts=2),
    "B2 reset after the head": _before(head(), RESET),
    "B3 reset midway": _after(RESET),
    "B3 closed midway": _after(CLOSE),
    "B4 clean end without done": _after(END),
    "B4 end of a body without a length": _after(
        CLOSE, began=head(framing="Connection: close") + line("hel")
    ),
    "B5 empty 200": _before(head() + END),
    "B5 HTML": _before(whole(f"<html>{SECRET}</html>\n".encode())),
    "B5 garbage": _before(whole(b"\x00\xff\xfe" + SECRET.encode() + b"\n")),
    "B5 no HTTP": _before(b"SSH-2.0-OpenSSH\r\n\r\n" + SECRET.encode(), CLOSE),
    "B5 junk line": _after(chunk(SECRET.encode() + b"\n"), HANG),
    "B5 cut JSON": _after(chunk(line("lo")[:-9] + b"\n"), HANG),
    "B5 cut JSON at the end": _after(chunk(done()[:-9]) + END),
    "B5 broken chunks": _after(b"zz\r\n", HANG),
    "B6 an error first": _before(answer(_SECRET_LINE)),
    "B6 an error midway": _after(chunk(_SECRET_LINE) + END),
    "B8 no such model": _before(
        error(f"model '{SECRET}' not found", 404), status=404, code="model_not_found"
    ),
    "B9 503": _busy(503),
    "B9 429": _busy(429),
    "B10 silent": _late(HANG),
    "B10 silent after the head": _late(head(), HANG),
    "B11 silent midway": _late(HANG, began=PARTLY),
    "B13 endless line": _before(head() + chunk(b'"' + b"x" * 3_000), HANG),
    "B13 endless line midway": _after(chunk(b'"' + b"x" * 3_000), HANG),
    "B13 endless answer": _after(*[chunk(line("x" * 1_500))] * 140, HANG),
}
ODD: Final[dict[str, Odd]] = {
    "B15 forged records": Odd((answer(line(_FORGED), done()),), _FORGED),
    "B16 half a surrogate": Odd((answer(_HALF, done()),), "a\ufffdb"),
    "B17 each byte by itself": Odd(
        (answer(*(_CUT_ANYWHERE[at : at + 1] for at in range(len(_CUT_ANYWHERE)))),), _LETTERS
    ),
    **{
        f"B17 cut at byte {at}": Odd((answer(_CUT_ANYWHERE[:at], _CUT_ANYWHERE[at:]),), _LETTERS)
        for at in range(1, len(line(_LETTERS)) + 2)
    },
    **{
        f"B18 {name}": Odd((answer(line(HELLO), last),))
        for name, last in {
            "two last lines": done() + done(),
            "no counts": done(prompt_eval_count=None, eval_count=None, done_reason=None),
            "a string": done(eval_count="many", total_duration="long"),
            "null": done().replace(b'"eval_count":2', b'"eval_count":null'),
            "negative": done(eval_count=-1, prompt_eval_count=-5, eval_duration=-1),
            "huge": done(eval_count=1e308, total_duration=1e308),
            "unknown fields": done(created_at="yesterday", invented={"a": [1]}),
        }.items()
    },
}
FLOOD: Final[Sequence[Step]] = (head(), *[chunk(line("w ")) * 100] * 10, HANG)
"""B14: a thousand tokens where five were ordered, and no end."""


class BrokenOllama:
    """Plays its plan to whoever asks for an answer; answers the health check by itself.

    Attributes:
        plan: The steps for every chat until the next plan.
        asked: Chats since this was last set to 0.
        go_on: Ends a PAUSE.
    """

    def __init__(self) -> None:
        self.plan: Sequence[Step] = PLAIN
        self.asked = 0
        self.go_on = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The port, until the block is left."""
        server = await asyncio.start_server(self._serve, HOST, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while target := await _next_target(reader):
                if target == "/api/chat":
                    self.asked += 1
                    await self._play(reader, writer)
                else:
                    writer.write(_told(target))
        except (OSError, asyncio.IncompleteReadError):
            pass  # The gateway has gone, as it should from most of this.
        finally:
            writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in self.plan:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step is PAUSE:
                await self.go_on.wait()
            elif step is HANG:
                while await reader.read(65_536):
                    pass
            elif step is RESET:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


async def _next_target(reader: asyncio.StreamReader) -> str:
    """The path of the next request, which is read whole."""
    top = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    _, _, length = top.partition("\r\ncontent-length:")
    await reader.readexactly(int(length.partition("\r\n")[0] or "0"))
    return top.split(" ", 2)[1]


def _told(target: str) -> bytes:
    names = ("m:latest", DEFAULT_MODEL)
    models = [{"name": name, "model": name, "size": 1, "context_length": 4096} for name in names]
    match target:
        case "/api/version":
            return whole(b'{"version":"0.24.0"}')
        case "/api/tags" | "/api/ps":
            return whole(orjson.dumps({"models": models}))
        case "/api/show":
            info = {"general.architecture": "l", "l.context_length": 8192}
            return whole(orjson.dumps({"model_info": info, "capabilities": ["completion"]}))
        case "/api/generate":
            return whole(orjson.dumps({"model": DEFAULT_MODEL, "done": True}))
        case _:
            return error("404 page not found", 404)


def backend_faults(site: Site) -> Iterator[Figure]:
    """Every fault, whole and streamed; once for each parser, which reads the engine too."""
    parsers = dict(list(PARSERS.items())[: 1 if site.quick else None])
    findings, cut = Findings(), Findings()
    for environment in parsers.values():
        uvloop.run(_all_faults(site, environment, findings, cut))
    yield Figure(
        name="backend faults answered wrongly",
        goal="0",
        measured=f"{findings.told()} ({', '.join(parsers)})",
        passed=not findings.wrong,
        values={"wrong": findings.wrong, "cases": findings.cases},
    )
    yield Figure(
        name="backend faults: cut answers shown as complete",
        goal="0",
        measured=cut.told(),
        passed=not cut.wrong,
        values={"wrong": cut.wrong, "cases": cut.cases},
    )


async def _all_faults(
    site: Site, environment: Mapping[str, str], findings: Findings, cut: Findings
) -> None:
    engine = BrokenOllama()
    async with engine.listening() as engine_port:
        gateway = site.gateway(upstream_port=engine_port, more=SETTINGS, environment=environment)
        try:
            # In a thread: it is our engine that it gets ready with.
            await asyncio.to_thread(gateway.wait_ready)
            for stream in (False, True):
                await _each_fault(gateway, engine, findings, cut, stream=stream)
            findings.also("log", log_fault(gateway.log(), secrets=(SECRET,)))
        finally:
            await asyncio.to_thread(gateway.stop)


async def _each_fault(
    gateway: Child, engine: BrokenOllama, findings: Findings, cut: Findings, *, stream: bool
) -> None:
    """One after the other: the engine has one plan at a time."""
    way = "streamed" if stream else "whole"
    for name, broken in BROKEN.items():
        pause: Sequence[Step] = (PAUSE,) if stream and broken.began else ()
        steps = (broken.began, *pause, *broken.steps)
        reply = await _asked(gateway.port, engine, steps, stream=stream)
        asked = engine.asked
        fault = _told_fault(reply, broken, in_band=bool(pause))
        if fault is None and asked != broken.attempts:
            fault = f"the engine was asked {asked} times"
        findings.add(f"{name}, {way}", fault or await _again_fault(gateway.port, engine))
        cut.add(f"{name}, {way}", complete_fault(reply))
    for name, odd in ODD.items():
        reply = await _asked(gateway.port, engine, odd.steps, stream=stream)
        fault = _odd_fault(reply, odd.text, stream=stream)
        findings.add(f"{name}, {way}", fault or await _again_fault(gateway.port, engine))
    reply = await _asked(gateway.port, engine, FLOOD, stream=stream, max_tokens=5)
    fault = _finish_fault(reply, "length", stream=stream)
    findings.add(f"B14 flood, {way}", fault or await _again_fault(gateway.port, engine))


Reply = Answer | str
"""An answer, or why there was none."""


async def _asked(
    port: int, engine: BrokenOllama, steps: Sequence[Step], *, stream: bool, **fields: Any
) -> Reply:
    """One chat, and what came of it while the engine played these steps."""
    engine.plan, engine.asked = steps, 0
    engine.go_on.clear()
    request = orjson.loads(chat_body(MODEL, stream=stream, prompt="hi")) | fields
    if stream:
        request["stream_options"] = {"include_usage": True}
    raw = post("/v1/chat/completions", orjson.dumps(request), headers="Connection: close\r\n")
    connection = await RawConnection.open(port)
    try:
        async with asyncio.timeout(HANG_S):
            connection.send(raw)
            if PAUSE in steps and not await connection.until(b'"hel"'):
                return "the beginning never came"
            engine.go_on.set()
            (answered,) = answers(await connection.rest())
    except (OSError, TimeoutError, ValueError) as error:
        return repr(error)
    finally:
        connection.abort()
    return answered


async def _again_fault(port: int, engine: BrokenOllama) -> str | None:
    """Whether the next request is served; what instead if not."""
    fault = _odd_fault(await _asked(port, engine, PLAIN, stream=False), HELLO, stream=False)
    return f"afterwards {fault}" if fault else None


def _told_fault(reply: Reply, broken: Broken, *, in_band: bool) -> str | None:
    if isinstance(reply, str):
        return reply
    if SECRET.encode() in reply.body:
        return "shows the engine's words"
    if reply.status != (200 if in_band else broken.status):
        return f"status {reply.status}"
    if not in_band and (fault := reply.envelope_fault()):
        return fault
    try:
        told = error_in(_records(reply.body)[-1]) if in_band else reply.error
    except ValueError as error:
        return str(error)
    if told["code"] != broken.code:
        return f"code {told['code']}"
    if broken.status == 503 and not reply.headers.get("retry-after", "").isdigit():
        return "no Retry-After"
    return None


def complete_fault(reply: Reply) -> str | None:
    """Whether a broken answer looks whole."""
    if isinstance(reply, str) or reply.status != 200:
        return None
    if not reply.headers.get("content-type", "").startswith("text/event-stream"):
        return "200"
    if b"[DONE]" in reply.body:
        return "[DONE]"
    return "a finish reason" if b'"finish_reason":"' in reply.body else None


def _odd_fault(reply: Reply, text: str, *, stream: bool) -> str | None:
    """What is wrong with an answer that has to be whole, say this, and count its tokens."""
    if fault := _finish_fault(reply, "stop", stream=stream):
        return fault
    assert isinstance(reply, Answer)
    said = fault_in_sse(reply.body, text) if stream else fault_in_completion(reply.body, text)
    if said is not None:
        return said
    document = orjson.loads(_records(reply.body)[-2]) if stream else reply.document
    counts = [document["usage"][name] for name in COUNTS]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return f"usage {counts}"
    return None


def _finish_fault(reply: Reply, reason: str, *, stream: bool) -> str | None:
    """Whether an answer is whole and ended for this reason; what instead if not."""
    if isinstance(reply, str):
        return reply
    if reply.status != 200:
        return f"status {reply.status}"
    if stream and [record for record in _records(reply.body) if record == b"[DONE]"] != [b"[DONE]"]:
        return "not one [DONE]"
    if b'"finish_reason":"%b"' % reason.encode() not in reply.body:
        return f"does not end for {reason}"
    return None


def _records(body: bytes) -> list[bytes]:
    """The data of each event of a stream."""
    return [
        event.removeprefix(b"data: ")
        for event in body.split(b"\n\n")
        if event.startswith(b"data: ")
    ]
