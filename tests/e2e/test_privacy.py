"""What callers say and who they are stays between them and the engine (L1-L5)."""

import json
import os
import random
import stat
import string
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Logging
from gateway.dialects import openai_models
from tests.backends.fake_engine import RESET, chunk, head
from tests.e2e.house import CHAT, KEY, WITH_KEY, Answer, House, http_chat, http_post, opened, say
from tests.e2e.ollama import ScriptedOllama, answer, done, error, line
from tests.e2e.process import serving

CANARY: Final = "c4n4ry"


async def good_and_failing(house: House, engine: ScriptedOllama) -> list[Answer]:
    """Some thirty requests, each with the canary where it hurts."""
    prompt = f"my secret is {CANARY}"
    said = (answer(line(f"I heard {CANARY}"), done()),)
    lost = (head() + chunk(line(CANARY)), RESET)
    broken = (answer(line(CANARY), json.dumps({"error": CANARY}).encode() + b"\n"),)
    refused = (error(f"{CANARY} /root/.ollama/{CANARY}", 500),)
    replies = []
    for plan in (said, lost, broken, refused):
        for stream in (False, True):
            engine.play(*plan)
            replies.append(await house.chat(say(prompt, stream=stream, user=CANARY), WITH_KEY))
    tool = {"type": "function", "function": {"name": CANARY, "description": CANARY}}
    unfit: tuple[dict[str, Any], ...] = (
        {"tools": [tool]},
        {"stop": CANARY},
        {"metadata": {CANARY: CANARY}},
        {"temperature": CANARY},
        {"model": CANARY},
        {"model": f"{CANARY}\n{CANARY}"},
        {"messages": CANARY},
        {"messages": [{"role": CANARY, "content": CANARY}]},
        {"tools": CANARY},
        {"response_format": {"type": CANARY}},
        {"logit_bias": {CANARY: 1}},
        {"stream_options": CANARY},
    )
    replies += [await house.chat({**say(prompt), **fields}, WITH_KEY) for fields in unfit]
    bodies = (CANARY.encode(), b'{"' + CANARY.encode(), f'["{CANARY}"]'.encode())
    replies += [await house.post(body, WITH_KEY) for body in bodies]
    strange: tuple[dict[str, str], ...] = (
        {"Authorization": f"Bearer {CANARY}"},
        {"x-api-key": CANARY},
        {**WITH_KEY, "Origin": f"https://{CANARY}"},
        {**WITH_KEY, "User-Agent": CANARY, "Cookie": CANARY, "Referer": CANARY},
        {**WITH_KEY, "Content-Type": f"text/{CANARY}"},
        {**WITH_KEY, "Content-Encoding": CANARY},
    )
    replies += [await house.chat(say(prompt), headers) for headers in strange]
    paths = (f"/{CANARY}", f"/v1/models/{CANARY}", f"/health?key={CANARY}")
    replies += [await house.get(path, WITH_KEY) for path in paths]
    return replies


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_nothing_that_was_said_is_told(engine: ScriptedOllama, level: Any) -> None:
    config: dict[str, Any] = {"auth": Auth(api_key=KEY), "logging": Logging(level=level)}
    async with opened(engine, **config) as house:
        replies = await good_and_failing(house, engine)
        page = (await house.get("/metrics", WITH_KEY)).body.decode()
        lines = house.lines()
        log = house.written.getvalue()
    assert len(replies) > 30
    assert len({reply.status for reply in replies}) >= 7
    assert KEY not in log
    assert KEY not in page
    assert CANARY not in page
    # The log names the model that was asked for, as it has to; nothing else of a caller's.
    for line_ in lines:
        line_.pop("model", None)
    assert CANARY not in json.dumps(lines)
    for reply in replies:
        if reply.status != 200:
            told = reply.error["message"]
            assert KEY not in told
            # So does the answer to whoever asked for it.
            if reply.error["code"] != "model_not_found":
                assert CANARY not in reply.body.decode()


async def test_what_would_forge_a_line_is_spelled_out(engine: ScriptedOllama) -> None:
    nasty = 'x\r\n{"event":"forged"}\x1b[31m"\x00\u2028\u0085'
    async with opened(engine) as house:
        await house.chat(say("hi", model=nasty))
        await house.chat(say("hi", model='a"b{c}é' * 20))
        for raw in (
            b"GET /%0d%0a%1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b'GET /"}{ HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \xff\xfe" '
            + b"u" * 2000
            + b"\r\n\r\n",
            b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \x1b[31m\r\n\r\n",
            b'GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a"b\xe9\r\n\r\n',
            http_post(b"{}", path=CHAT + "?" + "q" * 4000),
        ):
            await (await house.send(raw)).some()
        house.lines()
        log = house.written.getvalue()
    lines = log.splitlines()
    assert all(json.loads(line)["event"] != "forged" for line in lines)
    assert all(line.isascii() and line.isprintable() and len(line) <= 4096 for line in lines)


@pytest.mark.slow
async def test_nothing_a_caller_invents_becomes_a_series(engine: ScriptedOllama) -> None:
    dice = random.Random(7)

    def invented() -> str:
        return "inv" + "".join(dice.choices(string.ascii_lowercase, k=12))

    async with opened(engine) as house:
        await house.chat(say("hi"))
        before = await house.metrics()
        for _ in range(400):
            await house.chat(say("hi", model=invented(), stream=dice.random() < 0.5))
            await house.get(f"/{invented()}")
            await house.get(f"/v1/models/{invented()}")
            await house.ask(invented().upper(), f"/{invented()}")
            await house.get("/health", {"x-request-id": invented(), "User-Agent": invented()})
            await house.chat(say("hi", **{invented(): 1}), {"x-api-key": invented()})
        after = await house.metrics()
    assert len(after.keys() - before.keys()) <= 60
    assert not any("inv" in name and "invalid" not in name for name in after)


async def test_a_mistake_of_ours_is_500_and_one_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as house:

        def broken(_models: object) -> bytes:
            secret = CANARY
            raise ValueError(f"a message with {secret}")

        monkeypatch.setattr(openai_models, "listing", broken)
        reply = await house.get("/v1/models", {"x-request-id": "trace-me"})
        assert (await house.get("/health")).status == 200
        lines = house.lines()
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert reply.error["message"] == "Internal error."
    (traceback,) = [line for line in lines if "exception" in line]
    assert "trace-me" in traceback["message"]
    assert "ValueError" in traceback["exception"]
    assert "in broken" in traceback["exception"]
    assert CANARY not in json.dumps(lines)
    (request,) = [line for line in lines if line["event"] == "request"]
    assert (request["request_id"], request["status"]) == ("trace-me", 500)


@pytest.mark.slow
async def test_what_is_kept_is_its_owners_alone_and_has_nothing_that_was_said(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    before = os.umask(0o022)
    try:
        settings = {"API_KEY": KEY, "GATEWAY__SERVER__STATE_DIRECTORY": str(state)}
        async with serving(tmp_path, engine.url, **settings) as process:
            await process.says("upstream default is up")
            key_line = f"Authorization: Bearer {KEY}"
            assert (await process.ask(http_chat(say(CANARY), key_line))).status == 200
            process.child.terminate()
            assert await process.exit_code() == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    kept = [path for path in state.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert CANARY.encode() not in path.read_bytes(), path
        assert KEY.encode() not in path.read_bytes(), path
