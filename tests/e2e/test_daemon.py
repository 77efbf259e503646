"""The process: how it starts, what signals do to it, how it ends (D1-D4, D8, D11, C6)."""

import asyncio
import itertools
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import pytest

from gateway.daemon.run import SAME_SIGNAL_S
from tests.backends.fake_engine import END, Pause, chunk, head
from tests.e2e.house import http_chat, say, short
from tests.e2e.ollama import HELLO, ScriptedOllama, done, line
from tests.e2e.process import PATIENCE_S, Process, environment, serving, spawned
from tests.web.raw import Client

pytestmark = pytest.mark.slow

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
PARTLY: Final = head() + chunk(line("hel"))

ALICE: Final = "sk-alice-0123456789"
BOB: Final = "sk-bob-0123456789ab"


async def found(process: Process) -> None:
    """Until the engine was found."""
    await process.says("upstream default is up")


async def whole_stream(client: Client) -> bytes:
    """What comes until the connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        return await client.rest()


@pytest.mark.parametrize("number", SIGNALS)
async def test_an_idle_daemon_ends_when_it_is_told_to(
    engine: ScriptedOllama, tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path, engine.url) as process:
        idle = await process.send(b"")
        process.child.send_signal(number)
        assert await process.exit_code() == 0
        assert await idle.rest() == b""
    assert not process.has("drain_forced")
    assert not any("exception" in line for line in process.lines)


@pytest.mark.parametrize("number", SIGNALS)
async def test_what_was_accepted_is_finished_and_nothing_new_begins(
    engine: ScriptedOllama, tmp_path: Path, number: signal.Signals
) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    async with serving(tmp_path, engine.url) as process:
        await found(process)
        running = await process.send(http_chat(short("running")))
        await engine.wait_asked(1)
        waiting = [await process.send(http_chat(short("hi", stream=bool(n)))) for n in range(2)]
        await process.queued(2)
        process.child.send_signal(number)
        await process.says("draining")

        refused = await process.ask(http_chat(say("too late")))
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        ready = await process.get("/ready")
        assert (ready.status, json.loads(ready.body)["reason"]) == (503, "draining")
        assert (await process.get("/health")).status == 200

        hold.go.set()
        assert (
            json.loads((await running.some()).body)["choices"][0]["message"]["content"] == "hello"
        )
        assert (await waiting[0].some()).status == 200
        assert (await whole_stream(waiting[1])).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert await process.exit_code() == 0
    assert engine.chats == 3
    assert not process.has("drain_forced")
    answered = [line["status"] for line in process.lines if "outcome" in line]
    assert sorted(answered) == [200, 200, 200, 503]


async def test_nobody_who_was_accepted_is_lost_under_load(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    """Clients that ask again and again, each time anew, until they are told to go away.

    Whoever is still in the kernel's backlog when the socket closes is refused by the
    kernel; the daemon has never seen their request.
    """
    told: dict[str, str] = {}

    async def ask_on(process: Process, caller: int) -> None:
        for number in itertools.count():
            name = f"{caller}-{number}"
            try:
                client = await process.send(http_chat(short("hi"), f"x-request-id: {name}"))
            except ConnectionError:
                return
            reply = await client.reply()
            client.writer.close()
            if reply is None:
                told[name] = "nothing"
                return
            told[name] = "200" if reply.status == 200 else reply.error["code"]
            if reply.status != 200:
                return

    async with serving(tmp_path, engine.url, SLOTS="4") as process:
        await found(process)
        async with asyncio.TaskGroup() as clients:
            for caller in range(16):
                clients.create_task(ask_on(process, caller))
            await engine.wait_asked(100)
            process.child.terminate()
        assert await process.exit_code() == 0
    seen = {line["request_id"]: line for line in process.lines if line["event"] == "request"}
    answered = {name for name, what in told.items() if what != "nothing"}
    assert seen.keys() == answered
    assert {told[name] for name in answered} <= {"200", "shutting_down"}
    assert sum(what == "200" for what in told.values()) == engine.chats


async def test_after_the_grace_everybody_is_told(engine: ScriptedOllama, tmp_path: Path) -> None:
    never = Pause()
    engine.play(never)
    engine.play(PARTLY, never)
    async with serving(tmp_path, engine.url, SHUTDOWN_GRACE_SECONDS="0.3", SLOTS="2") as process:
        await found(process)
        whole = await process.send(http_chat(short("whole")))
        await engine.wait_asked(1)
        stream = await process.send(http_chat(short("stream", stream=True)))
        await stream.reader.readuntil(b'"hel"')
        queued = await process.send(http_chat(short("queued")))
        await process.queued(1)
        process.child.terminate()
        for client in (whole, queued):
            reply = await client.some()
            assert (reply.status, reply.error["code"]) == (503, "shutting_down")
            assert reply.headers["connection"] == "close"
        rest = await whole_stream(stream)
        assert b'data: {"error":{' in rest
        assert b'"code":"shutting_down"' in rest
        assert b"[DONE]" not in rest
        assert await process.exit_code() == 0
    (forced,) = [line for line in process.lines if line["event"] == "drain_forced"]
    assert "n=3" in forced["message"]


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_second_signal_ends_it_now(
    engine: ScriptedOllama, tmp_path: Path, number: signal.Signals
) -> None:
    engine.play(Pause())
    async with serving(tmp_path, engine.url) as process:
        await found(process)
        running = await process.send(http_chat(say("running")))
        await engine.wait_asked(1)
        process.child.terminate()
        await process.says("draining")
        # One Ctrl-C may come twice, from a terminal and a supervisor: that is one.
        process.child.terminate()
        assert (await process.get("/health")).status == 200
        await asyncio.sleep(SAME_SIGNAL_S)
        process.child.send_signal(number)
        reply = await running.some()
        assert (reply.status, reply.error["code"]) == (503, "shutting_down")
        assert await process.exit_code() == 1
    assert any("again: ending now" in line.get("message", "") for line in process.lines)


async def test_other_signals_and_a_lost_log_change_nothing(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    async with serving(tmp_path, engine.url) as process:
        await found(process)
        assert process.child.stderr is not None
        transport = process.child._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        transport.close()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            process.child.send_signal(number)
            assert (await process.get("/health")).status == 200
            assert (await process.ask(http_chat(say("hi")))).status == 200
        process.child.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.child.wait() == 0


async def test_it_runs_without_standard_streams(engine: ScriptedOllama, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = environment(engine.url, PORT=str(port))
    shell = 'exec "$0" -m gateway serve <&- >&- 2>&-'
    command = ("/bin/sh", "-c", shell, sys.executable)
    async with spawned(tmp_path, *command, environ=environ) as process:
        process.port = port
        await connectable(port)
        assert (await process.get("/health")).status == 200
        process.child.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.child.wait() == 0


async def connectable(port: int) -> None:
    """Until somebody listens: it has no other way to say so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_a_port_in_use_is_one_clear_line(engine: ScriptedOllama, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environ = environment(engine.url, PORT=str(port))
        async with spawned(
            tmp_path, sys.executable, "-m", "gateway", "serve", environ=environ
        ) as process:
            assert await process.exit_code() == 69
    (error,) = [line for line in process.lines if line["level"] == "error"]
    assert error["message"] == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


async def test_a_mistake_in_the_configuration_is_78(engine: ScriptedOllama, tmp_path: Path) -> None:
    environ = environment(engine.url, MAX_QUEUE_SIZE="many", GATEWAY__QUEUE__SPEED="9")
    async with spawned(
        tmp_path, sys.executable, "-m", "gateway", "serve", environ=environ
    ) as process:
        _, errors = await process.child.communicate()
        assert process.child.returncode == 78
    lines = errors.decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("gateway: ") for line in lines)
    assert any("MAX_QUEUE_SIZE" in line and "many" in line for line in lines)


async def test_it_starts_without_its_engine_and_serves_as_soon_as_that_is_there(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    engine.leave()
    async with serving(tmp_path, engine.url, GATEWAY__GENERATION__WARM_UP="true") as process:
        assert (await process.get("/health")).status == 200
        ready = await process.get("/ready")
        assert (ready.status, json.loads(ready.body)["reason"]) == (503, "backend")
        refused = await process.ask(http_chat(say("hi")))
        assert (refused.status, refused.error["code"]) == (502, "backend_error")
        assert int(refused.headers["retry-after"]) >= 1

        await engine.come_back()
        await process.line(lambda line: line["event"] == "ready")
        assert (await process.get("/ready")).status == 200
        assert (await process.ask(http_chat(say("hi")))).status == 200
        process.child.terminate()
        assert await process.exit_code() == 0


# --- A reload (A8, D5) ----------------------------------------------------------------


async def test_sighup_applies_what_stands_in_the_files_and_drops_nobody(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'auth.keys.alice = "{ALICE}"')
    folder = tmp_path / "conf.d"
    folder.mkdir()
    hold = Pause()
    engine.play(PARTLY, hold, chunk(line("lo")) + chunk(done()) + END)
    async with serving(tmp_path, engine.url, GATEWAY_CONFIG=str(path)) as process:
        await found(process)
        running = await process.send(
            http_chat(say("x", stream=True), f"Authorization: Bearer {ALICE}", "Connection: close")
        )
        await hold.reached.wait()
        (folder / "10-keys.toml").write_text(f'auth.keys.bob = "{BOB}"')
        path.write_text("")
        process.child.send_signal(signal.SIGHUP)
        assert (await process.says("read again"))["event"] == "config_reloaded"
        assert (await process.ask(asks_for_models(ALICE))).status == 401
        assert (await process.ask(asks_for_models(BOB))).status == 200

        (folder / "20-broken.toml").write_text("[queue\n")
        process.child.send_signal(signal.SIGHUP)
        refused = await process.line(lambda line: line["event"] == "config_reload_failed")
        assert f"{folder}/20-broken.toml: line 1, column 7: not valid TOML" in refused["message"]
        assert (await process.ask(asks_for_models(BOB))).status == 200
        hold.go.set()
        assert b'"lo"' in await running.rest()
        process.child.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0


def asks_for_models(key: str) -> bytes:
    head = ("GET /v1/models HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}")
    return "".join(f"{line}\r\n" for line in (*head, "")).encode()


async def test_options_and_variables_win_at_a_reload_as_they_did_at_the_start(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("")
    command = (sys.executable, "-m", "gateway", "serve", "--config", str(path), "--port", "0")
    environ = environment(engine.url, MAX_QUEUE_SIZE="5", PORT="1")
    async with spawned(tmp_path, *command, environ=environ) as process:
        await process.listening()
        path.write_text("[server]\nport = 2\n[queue]\nmax_queue_size = 6\nbatch_max_size = 3")
        process.child.send_signal(signal.SIGHUP)
        await process.says("applied: 1, waiting for a restart: 0")
        await process.says("queue.batch_max_size: 8 -> 3")
