"""What callers, engines and the operator say is nowhere but where it belongs (L1).

One daemon, as it runs in life, at debug level, with a state directory, traces and
callers of all sorts. Every route of the table is asked with and without a key, with
bodies that fit and bodies that don't, every engine's fault is played through every
dialect, clients leave, the configuration is read again; each time with a canary
wherever a text can stand. Then everything that the daemon has told is searched.
"""

import asyncio
import hashlib
import inspect
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import MagicMock

import aiohttp
import attrs
import pytest

from gateway.core.errors import GatewayError
from gateway.web import app
from tests.backends.fake_engine import CLOSE, HANG, RESET, Pause, Step, chunk, head, whole
from tests.e2e.canaries import (
    BOSS_KEY,
    CANARIES,
    HEADERS,
    KEY,
    LIMITED_KEY,
    MISPLACED_KEY,
    NEW_KEY,
    found_in,
    generations,
    other_questions,
    unfit,
)
from tests.e2e.ollama import HELLO, MODEL, ScriptedOllama, answer, done, error, line
from tests.e2e.process import PATIENCE_S, Process, environment, spawned
from tests.real.processes import free_port
from tests.telemetry.collecting import Collector, collecting

pytestmark = pytest.mark.slow

CONFIG: Final = """
[server]
state_directory = "{state}"

[auth.keys]
alice = "{key}"
boss = "{boss}"
limited = "{limited}"

[callers.alice]
user_header = "x-user"

[callers.boss]
admin = true
manage_models = true

[callers.limited]
models = ["{model}"]
requests_per_minute = 1

[queue]
max_queue_size = 1

[limits]
body_bytes_max = 65536
wrong_keys_per_minute_max = 40

[timeouts]
stall_timeout_seconds = 0.3

[logging]
level = "debug"

[logging.levels]
aiohttp = "debug"
asyncio = "debug"

[tracing]
endpoint = "{collector}"

[tracing.headers]
authorization = "Bearer {collector_key}"

[upstreams.echo]
kind = "echo"

[upstreams.dead]
kind = "openai"
url = "http://127.0.0.1:{nobody}"
api_key = "{engine_key}"
models = ["gone"]
"""

ELSEWHERE: Final[Mapping[str, str]] = {
    "internal_error": "tests/e2e/test_privacy.py",
    "header_timeout": "tests/web/test_connection.py",
    "connections": "tests/web/test_limits.py",
    "body_timeout": "tests/e2e/test_edge.py",
    "memory_pressure": "tests/e2e/test_edge.py",
    "shutting_down": "tests/e2e/test_daemon.py",
    "unsupported_parameter": "tests/e2e/test_chat.py",
    "requests_at_once": "tests/admission/test_limits.py",
    "tokens_per_minute": "tests/admission/test_limits.py",
    "tokens_per_day": "tests/admission/test_limits.py",
    "storage": "tests/telemetry/test_ledger.py",
}
"""Reasons of errors that are not met here, and where they are."""

BELONGS: Final = {
    "prompt", "system", "tool", "argument", "result", "schema", "input", "suffix", "metadata",
    "user", "stop", "image", "model", "answer",
}  # fmt: skip
"""What an answer that went well may hold: it goes to whoever said it, or asked for it."""


# --- The daemon, and whoever asks it ------------------------------------------------


Answered = tuple[str, int, bytes]
"""Method and path, status, body."""


@attrs.define(eq=False)
class Asking:
    """A client of the daemon that keeps what it was answered."""

    session: aiohttp.ClientSession
    url: str
    answers: list[Answered] = attrs.field(factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str = KEY,
        body: bytes = b"",
        json_type: bool = True,
        **headers: str,
    ) -> int:
        given = {**HEADERS, **{name.replace("_", "-"): text for name, text in headers.items()}}
        if key:
            given["Authorization"] = f"Bearer {key}"
        if body and json_type:
            given.setdefault("Content-Type", "application/json")
        async with (
            asyncio.timeout(PATIENCE_S),
            self.session.request(
                method, self.url + path, data=body or None, headers=given, allow_redirects=False
            ) as response,
        ):
            if path.startswith("/gateway/events") and response.status == 200:
                said = await response.content.readline()  # It would never end.
            else:
                said = await response.read()
        self.answers.append((f"{method} {path.partition('?')[0]}", response.status, said))
        return response.status

    async def post(self, path: str, body: Any, **options: Any) -> int:
        return await self.ask("POST", path, body=json.dumps(body).encode(), **options)


@asynccontextmanager
async def running(
    tmp_path: Path, engine: ScriptedOllama, collector: Collector
) -> AsyncIterator[tuple[Process, Path]]:
    """The daemon, its log read all the time, and its configuration file."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        CONFIG.format(
            state=tmp_path / "state",
            key=KEY,
            boss=BOSS_KEY,
            limited=LIMITED_KEY,
            model=MODEL,
            collector=collector.url,
            collector_key=CANARIES["collector-key"],
            engine_key=CANARIES["engine-key"],
            nobody=free_port(),
        )
    )
    environ = environment(engine.url, GATEWAY_CONFIG=str(path), SLOTS="1")
    command = (sys.executable, "-m", "gateway", "serve")
    async with spawned(tmp_path, *command, environ=environ) as process:
        await process.listening()
        await process.line(lambda line: line["event"] == "ready")
        reading = asyncio.create_task(_read_on(process))
        try:
            yield process, path
        finally:
            await process_ended(process)
            await reading


async def _read_on(process: Process) -> None:
    assert process.child.stderr is not None
    async for text in process.child.stderr:
        process.lines.append(json.loads(text))


async def process_ended(process: Process) -> None:
    process.child.terminate()
    async with asyncio.timeout(PATIENCE_S):
        assert await process.child.wait() == 0


# --- What it is asked ----------------------------------------------------------------

WRONG_KEY: Final = f"sk-{CANARIES['wrong-key']}"
SAID: Final = answer(line(f"I heard {CANARIES['answer']}"), done())
SILENT_MS: Final = "250"


def table() -> Iterator[tuple[str, str]]:
    """Method and path of every route, with a canary where a path has a name in it."""
    rooms = {name: MagicMock() for name in inspect.signature(app.routes).parameters}
    for route in app.routes(**rooms):
        # Ids of responses and digests of blobs have a form of their own.
        path = route.template.replace("{id:resp_", "resp_{")
        yield route.method, re.sub(r"\{[^}]*\}", CANARIES["path"], path)


def faults() -> Iterator[tuple[Step, ...]]:
    """Everything that an engine can do wrong, with its own words in it."""
    words = f"{CANARIES['engine-error']} at /root/.ollama/{CANARIES['engine-error']}"
    for status in (400, 401, 404, 418, 429, 500, 503):
        yield (error(words, status),)
    yield (error(f"{words} does not support tools", 400),)
    yield (error(f"the input exceeds the context length {words}", 400),)
    yield (head(302, 0, Location=f"http://{CANARIES['engine-error']}.example/"),)
    yield (whole(f"<html>{CANARIES['junk']}</html>".encode(), Content_Type="text/html"),)
    yield (whole(b"", 200),)
    yield (f"{CANARIES['junk']}\r\n\r\n".encode(), CLOSE)
    yield (answer(f"{CANARIES['junk']}\n".encode()),)
    yield (answer(line(CANARIES["answer"]), f"{CANARIES['junk']}\n".encode()),)
    yield (answer(json.dumps({"error": words}).encode() + b"\n"),)
    yield (answer(line(CANARIES["answer"]), json.dumps({"error": words}).encode() + b"\n"),)
    yield (head() + chunk(line(CANARIES["answer"])), RESET)
    yield (head() + chunk(line(CANARIES["answer"])), CLOSE)
    yield (answer(line(CANARIES["answer"])),)
    yield (head() + chunk(line(CANARIES["answer"])), HANG)


async def every_route(asking: Asking) -> None:
    for method, path in table():
        await asking.ask(method, path, key="")
        await asking.ask(method, path, key=WRONG_KEY)
        await asking.ask(method, f"{path}?key={CANARIES['query']}")
        for body in (b"", json.dumps({"model": CANARIES["model"]}).encode()):
            await asking.ask(method, path, key=BOSS_KEY, body=body)
    for method, path in (
        ("GET", f"/{CANARIES['path']}/../{CANARIES['path']}"),
        ("GET", f"/v1/models/{CANARIES['path']}%0d%0aforged"),
        ("BREW", "/v1/models"),
        ("PUT", "/v1/chat/completions"),
        ("POST", f"/v1/audio/{CANARIES['path']}"),
    ):
        await asking.ask(method, path)


async def what_does_not_fit(asking: Asking) -> None:
    paths = [path for path, _ in (*generations(MODEL), *other_questions(MODEL))]
    for path in dict.fromkeys(path.partition("?")[0] for path in paths):
        for body in unfit():
            await asking.ask("POST", path, body=body)
    chat = "/v1/chat/completions"
    body = unfit_json()
    await asking.ask("POST", chat, body=body, json_type=False)
    await asking.ask("POST", chat, body=body, Content_Encoding=CANARIES["header"])
    await asking.ask("POST", chat, body=body, Content_Encoding="gzip")
    await asking.ask("POST", chat, body=body, Expect=CANARIES["header"])
    await asking.ask("POST", chat, body=body, Origin=f"https://{CANARIES['header']}.example")
    await asking.ask("POST", chat, body=body, traceparent=CANARIES["header"])
    await asking.ask("POST", chat, body=body, X_Request_Id=f"{CANARIES['header']}\u00e9")
    await asking.ask("POST", chat, body=body, X_Request_Timeout_Ms="1")


def unfit_json() -> bytes:
    _, body = next(generations(MODEL))
    return json.dumps(body).encode()


async def every_dialect(asking: Asking, engine: ScriptedOllama) -> Counter[str]:
    """Valid requests of all sorts; how many of each dialect went well."""
    well: Counter[str] = Counter()
    engine.by_default = (SAID,)
    for model in (MODEL, "echo", "gone", CANARIES["model"]):
        for image in (False, True):
            for stream in (False, True):
                for path, body in generations(model, image=image):
                    well[path] += await asking.post(path, {**body, "stream": stream}) == 200
        for path, body in other_questions(model):
            well[path] += await asking.post(path, body) == 200
    return well


async def every_fault(asking: Asking, engine: ScriptedOllama) -> None:
    dialects = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat")
    for path, body in generations(MODEL):
        if path not in dialects:
            continue
        for steps in faults():
            for stream in (False, True):
                engine.play(*steps)
                await asking.post(path, {**body, "stream": stream})
        engine.play(HANG)
        await asking.post(path, body, X_Request_Timeout_Ms=SILENT_MS)
    # As often as it is told to be sent again, and once more.
    for _ in range(2):
        engine.play(RESET)
    path, body = next(generations(MODEL))
    await asking.post(path, body)
    engine.by_default = (HELLO,)


async def a_full_house(asking: Asking, engine: ScriptedOllama, process: Process) -> None:
    """One runs, one waits, one is refused; then both of them leave."""
    _, body = next(generations(MODEL))
    pause = Pause()
    engine.play(head() + chunk(line(CANARIES["answer"])), pause)
    patient = {"X_Request_Timeout_Ms": "600000"}
    first = asyncio.create_task(
        asking.post("/v1/chat/completions", {**body, "stream": True}, **patient)
    )
    await pause.reached.wait()
    hurried = {"X_Request_Timeout_Ms": "20"}
    assert await asking.post("/v1/chat/completions", body, **hurried) == 503
    second = asyncio.create_task(asking.post("/v1/chat/completions", body, **patient))
    await process.queued(1)
    assert await asking.post("/v1/chat/completions", body, **patient) == 503
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    pause.go.set()


async def beyond_what_is_allowed(asking: Asking) -> None:
    _, body = next(generations("echo"))
    assert await asking.post("/v1/chat/completions", body, key=LIMITED_KEY) == 403
    _, body = next(generations(MODEL))
    await asking.post("/v1/chat/completions", body, key=LIMITED_KEY)
    assert await asking.post("/v1/chat/completions", body, key=LIMITED_KEY) == 429
    assert await asking.post("/api/pull", {"model": CANARIES["model"]}) == 403


async def no_proper_http(process: Process) -> None:
    canary, key = CANARIES["header"], f"Authorization: Bearer {KEY}"
    for text in (
        f"GET /{CANARIES['path']} HTTP/1.1\r\nHost: {canary}.example\r\n{key}\r\n\r\n",
        f"GET /{CANARIES['path']} {canary}\r\n\r\n",
        f"GET http://{canary}.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\n{canary}\x00: {canary}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nx: {canary * 2000}\r\n\r\n",
        f"GET /{canary * 1000} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET / HTTP/2.0\r\nHost: localhost\r\nx-{canary}: {canary}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {canary}\r\n\r\n",
    ):
        client = await process.send(text.encode("latin-1"))
        reply = await client.some()
        assert reply.status >= 400
        assert not found_in(reply.body)


def written_anew(path: Path) -> Iterator[None]:
    """Right, unchanged, and with a key where none belongs; right again in the end."""
    text = path.read_text()
    for changed in (
        text,
        text.replace(f'"{KEY}"', f'"{NEW_KEY}"'),
        text,
        text.replace("[callers.boss]", f'[callers."{MISPLACED_KEY}"]\nweight = 2\n[callers.boss]'),
        text.replace("[auth.keys]", f'[auth.keys]\n"{MISPLACED_KEY}" = "carol"'),
        text.replace("[auth.keys]", f'[auth]\napi_kye = "{MISPLACED_KEY}"\n[auth.keys]'),
        text.replace("[auth.keys]", f'[auth]\napi_key = ["{MISPLACED_KEY}"]\n[auth.keys]'),
        text.replace("[server]", f'[server]\nhost = "{MISPLACED_KEY} "'),
        text.replace('kind = "openai"', f'kind = "{MISPLACED_KEY}"'),
        text.replace('"http://127', f'"http://me:{MISPLACED_KEY}@127'),
        text.replace("[auth.keys]", f'[auth.keys]\ncarol = "{MISPLACED_KEY}'),
        text,
    ):
        path.write_text(changed)
        yield


async def read_again(asking: Asking, process: Process, path: Path) -> None:
    for _ in written_anew(path):
        await asking.ask("POST", "/gateway/reload", key=BOSS_KEY)
    process.child.send_signal(signal.SIGHUP)


# --- What it has told ---------------------------------------------------------------


def reasons() -> set[str]:
    """Of all errors that there are."""
    waiting: list[type[GatewayError]] = [GatewayError]
    found = set()
    while waiting:
        error_class = waiting.pop()
        waiting += error_class.__subclasses__()
        if error_class.__module__ == GatewayError.__module__:
            found.add(error_class.reason)
    return found


def without_models(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """The log, but for the models that were asked for, which it names as it has to."""
    return json.dumps([{**line, "model": ""} for line in lines]).encode()


def assert_clean(what: str, data: bytes, *, but: Collection[str] = ()) -> None:
    leaked = found_in(data).difference(but)
    assert not leaked, f"{what}: {sorted(leaked)}"
    for key in (KEY, BOSS_KEY, LIMITED_KEY, NEW_KEY):
        assert hashlib.sha256(key.encode()).hexdigest().encode() not in data, what


async def everything(process: Process, path: Path, engine: ScriptedOllama) -> list[Answered]:
    """Ask it all of that; what was answered."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        asking = Asking(session, f"http://127.0.0.1:{process.port}")
        await every_route(asking)
        await what_does_not_fit(asking)
        well = await every_dialect(asking, engine)
        assert 0 not in well.values(), well
        await a_full_house(asking, engine, process)
        await every_fault(asking, engine)
        await beyond_what_is_allowed(asking)
        await no_proper_http(process)
        await read_again(asking, process, path)
        for shown in ("/gateway/status", "/gateway/events", "/metrics", "/openapi.json"):
            assert await asking.ask("GET", shown, key=BOSS_KEY) == 200
        return asking.answers


async def test_nothing_that_was_said_is_anywhere_else(
    tmp_path: Path, engine: ScriptedOllama
) -> None:
    with collecting() as collector:
        async with running(tmp_path, engine, collector) as (process, path):
            answers = await everything(process, path, engine)
        spans = collector.rest()
    log = process.lines

    # All has happened that can: else what is not found proves nothing.
    requests = [line for line in log if line["event"] == "request"]
    assert len(requests) > 500
    assert [line for line in log if "exception" in line] == []
    met = {line["reason"] for line in log if "reason" in line}
    assert met & reasons() == reasons() - set(ELSEWHERE)
    assert {line["outcome"] for line in requests if "outcome" in line} == {
        *("completed", "failed", "cancelled", "refused")
    }
    assert sum(span["kind"] == 2 for span in spans) > 500
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert "usage.sqlite3" in {path.name for path in files}

    assert_clean("log", without_models(log))
    assert_clean("spans", json.dumps(spans).encode(), but={"model"})
    for path in files:
        assert_clean(path.name, path.read_bytes())
        assert path.stat().st_mode & 0o077 == 0, path.name
    for asked, status, said in answers:
        if asked in ("GET /gateway/status", "GET /gateway/events"):
            assert_clean(asked, said, but={"model"})
        elif asked in ("GET /metrics", "GET /openapi.json"):
            assert_clean(asked, said)
        elif status < 400:
            assert_clean(asked, said, but=BELONGS)
        else:
            assert_clean(f"{asked} {status}", said, but={"model"})
    for sent in engine.requests:
        assert_clean("what the engine was sent", json.dumps(sent.headers).encode())
