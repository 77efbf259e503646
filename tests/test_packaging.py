"""What stands around the daemon: Makefile, unit, image and proxy, each through its own judge."""

import asyncio
import configparser
import contextlib
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from packaging.requirements import Requirement
from yarl import URL

from gateway.config.schema import Config
from gateway.daemon.heartbeat import STALL_S

ROOT: Final = Path(__file__).parent.parent
UNIT: Final = ROOT / "systemd" / "gateway.service"
SOCKET: Final = ROOT / "systemd" / "gateway.socket"
CADDYFILE: Final = ROOT / "conf" / "Caddyfile"
CONTAINERFILE: Final = (ROOT / "Containerfile").read_text("utf-8")
MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")

EXPOSURE_MAX_TENTHS: Final = 12


def tool(name: str) -> str:
    """The program of this name; `.ci/run` has each, and so the tests that need it run there."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here; .ci/run has it")
    return path


def output_of(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Standard output and error of a command that must succeed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# --- setup.cfg ------------------------------------------------------------------


def _setup_cfg() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", "utf-8")
    return setup


def _requirements() -> Iterator[Requirement]:
    setup = _setup_cfg()
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    for line in "\n".join(texts).split("\n"):
        if line and not line.startswith("%("):
            yield Requirement(line)


@pytest.mark.parametrize("requirement", list(_requirements()), ids=str)
def test_a_requirement_has_a_lower_bound_and_is_met_here(requirement: Requirement) -> None:
    assert {part.operator for part in requirement.specifier} == {">="}
    if requirement.marker is None or requirement.marker.evaluate():
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name))


def test_what_is_no_python_is_packed_too() -> None:
    patterns = _setup_cfg()["options.package_data"]["gateway"].split()
    files = (path for path in (ROOT / "gateway").rglob("*") if path.is_file())
    for path in files:
        if path.suffix not in {".py", ".pyc"}:
            inside = path.relative_to(ROOT / "gateway")
            named = {str(inside), f"**/*{path.suffix}"}
            assert named & set(patterns), f"{inside} is in no pattern of [options.package_data]"


def test_everybody_names_the_same_oldest_python() -> None:
    oldest = _setup_cfg()["options"]["python_requires"].removeprefix(">=")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in MAKEFILE
    assert f"Programming Language :: Python :: {oldest}" in _setup_cfg()["metadata"]["classifiers"]


# --- Makefile -------------------------------------------------------------------


def _make(*arguments: str, env: dict[str, str] | None = None) -> str:
    # What an outer make hands down would change how this one speaks.
    clean = dict.fromkeys(("MAKEFLAGS", "MFLAGS", "MAKELEVEL"), "")
    return output_of("make", "--no-print-directory", *arguments, env={**clean, **(env or {})})


def test_help_is_the_default_and_tells_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE))
    assert {"run", "test", "test-ollama", "check", "format", "bench", "install", "image"} <= targets
    told = dict(re.findall(r"^  make (\S+) +(\S.*)$", _make(), re.MULTILINE))
    assert told.keys() == targets
    assert max(len(line) for line in _make("help").splitlines()) <= 100


def test_a_python_that_is_too_old_is_a_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", f"PYTHON={old}", f"venv={tmp_path}/venv", f"{tmp_path}/venv/.made"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer with its venv module is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_run_becomes_the_daemon_so_that_signals_reach_it() -> None:
    last = _make("--dry-run", "run").splitlines()[-1]
    assert last.startswith("exec ")
    assert last.endswith("/bin/gateway serve")


def test_real_ollama_tests_without_an_ollama_fail_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", f"venv={tmp_path}", "--old-file", f"{tmp_path}/.installed-dev", "test-ollama"],
        cwd=ROOT,
        env={**os.environ, "OLLAMA_BIN": str(tmp_path / "ollama")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "no Ollama: put ollama on PATH or set OLLAMA_BIN" in done.stderr


# --- systemd ----------------------------------------------------------------------


def _unit_settings(unit: Path = UNIT) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in unit.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    # It looks whether the program is there; a stand-in is, without an installation.
    (program,) = _unit_settings()["ExecStart"]
    unit, listener = tmp_path / UNIT.name, tmp_path / SOCKET.name
    unit.write_text(
        UNIT.read_text("utf-8").replace(program.split()[0], shutil.which("true") or ""), "utf-8"
    )
    listener.write_text(SOCKET.read_text("utf-8"), "utf-8")
    assert output_of(tool("systemd-analyze"), "verify", "--man=no", unit, listener) == ""


def test_the_unit_is_as_closed_as_systemd_can_tell() -> None:
    output_of(
        tool("systemd-analyze"),
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE_MAX_TENTHS}",
        "--no-pager",
        UNIT,
    )


def test_the_unit_runs_what_make_installs_as_the_user_that_it_makes() -> None:
    unit = _unit_settings()
    prefix = re.search(r"^PREFIX \?= (\S+)$", MAKEFILE, re.MULTILINE)
    assert prefix is not None
    assert unit["ExecStart"] == [
        f"{prefix[1]}/venv/bin/gateway serve --config /etc/gateway/gateway.toml"
    ]
    accounts = (ROOT / "systemd" / "sysusers.d" / "gateway.conf").read_text("utf-8")
    assert re.search(rf"^u {unit['User'][0]} ", accounts, re.MULTILINE)


def test_a_wrong_configuration_is_not_tried_again_and_a_drain_may_end() -> None:
    unit = _unit_settings()
    (prevented,) = unit["RestartPreventExitStatus"]
    assert [int(code) for code in prevented.split()] == [os.EX_CANTCREAT, os.EX_CONFIG]
    assert float(unit["TimeoutStopSec"][0]) > 30.0  # shutdown_grace_seconds
    assert unit["KillMode"] == ["mixed"]


def test_the_socket_is_where_the_configuration_would_listen_and_as_closed_as_the_service() -> None:
    socket_unit = _unit_settings(SOCKET)
    assert socket_unit["ListenStream"] == [f"127.0.0.1:{Config().server.port}"]
    for key in ("IPAddressDeny", "IPAddressAllow"):
        assert socket_unit[key] == _unit_settings()[key]
    assert "Accept" not in socket_unit  # One process for all connections.


def test_the_watchdog_leaves_more_time_than_any_stall_that_is_merely_told() -> None:
    unit = _unit_settings()
    assert unit["Type"] == ["notify"]
    assert float(unit["WatchdogSec"][0]) > 10 * STALL_S
    # Its victim has nothing to end in an orderly way.
    assert float(unit["TimeoutAbortSec"][0]) < float(unit["TimeoutStopSec"][0])


# --- Containerfile ------------------------------------------------------------------


def test_the_image_runs_as_a_number_and_drains_on_stop() -> None:
    final_stage = CONTAINERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+):(\d+)$", final_stage, re.MULTILINE)
    assert user is not None
    assert "0" not in user.groups()
    assert "\nSTOPSIGNAL SIGTERM\n" in final_stage
    assert '\nENTRYPOINT ["gateway", "serve"]\n' in final_stage
    assert "/health" in final_stage.partition("HEALTHCHECK")[2]


def test_the_image_and_make_agree_on_the_base() -> None:
    of_make = re.search(r"^PYTHON_IMAGE \?= (\S+)$", MAKEFILE, re.MULTILINE)
    of_image = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", CONTAINERFILE, re.MULTILINE)
    assert of_make is not None
    assert of_image is not None
    assert of_make[1] == of_image[1]


def test_no_secret_is_built_into_the_image() -> None:
    assert not re.search(
        r"^(ENV|ARG|    )\W*\w*(KEY|TOKEN|SECRET)\w*=", CONTAINERFILE, re.MULTILINE
    )


# --- Caddy -----------------------------------------------------------------------------


def test_caddy_accepts_its_file_as_it_is_formatted() -> None:
    caddy = tool("caddy")
    for domain in ({}, {"GATEWAY_DOMAIN": "llm.example.com"}):
        said = output_of(
            caddy, "validate", "--adapter", "caddyfile", "--config", CADDYFILE, env=domain
        )
        assert "Valid configuration" in said
        assert '"level":"warn"' not in said
    changes = re.findall(r"^[-+].*$", output_of(caddy, "fmt", "--diff", CADDYFILE), re.MULTILINE)
    assert changes == []


class Upstream:
    """A gateway as the proxy sees it: it answers what the test lets it, when the test says."""

    def __init__(self) -> None:
        self.requests: dict[str, str | None] = {}
        """Path → its Host header."""
        self.next_event = asyncio.Event()
        self.waiting = asyncio.Event()
        self.client_gone = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/wait", self._wait)
        app.router.add_get("/{path:.*}", self._any)
        return app

    async def _any(self, web_request: web.Request) -> web.Response:
        self.requests[web_request.path] = web_request.headers.get("Host")
        return web.Response(text="ok")

    async def _stream(self, web_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": web_request.query["type"]})
        await response.prepare(web_request)
        for number in range(3):
            await response.write(b"data: %d\n\n" % number)
            await self.next_event.wait()
            self.next_event.clear()
        return response

    async def _wait(self, web_request: web.Request) -> web.Response:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.client_gone.set()
        return web.Response()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def proxy(upstream: Upstream, tmp_path: Path) -> AsyncIterator[str]:
    """The origin of a real Caddy that runs our file before `upstream`."""
    caddy = tool("caddy")
    runner = web.AppRunner(upstream.app(), handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (address,) = runner.addresses
    origin = f"http://127.0.0.1:{free_port()}"
    # Its admin port is a fixed one, which another Caddy here may have.
    wrapper = tmp_path / "Caddyfile"
    wrapper.write_text(f"{{\n\tadmin off\n}}\nimport {CADDYFILE}\n")
    process = await asyncio.create_subprocess_exec(
        *(caddy, "run", "--adapter", "caddyfile", "--config", wrapper),
        env={
            "HOME": str(tmp_path),
            "GATEWAY_DOMAIN": origin,
            "GATEWAY_UPSTREAM": f"127.0.0.1:{address[1]}",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(10.0):
            async for line in process.stderr:
                if b"serving initial configuration" in line:
                    break
        yield origin
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()
        await runner.cleanup()


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/x-ndjson"])
async def test_each_event_passes_the_proxy_when_it_is_written(
    proxy: str, upstream: Upstream, content_type: str
) -> None:
    async with (
        asyncio.timeout(10.0),
        aiohttp.ClientSession() as session,
        session.get(f"{proxy}/stream", params={"type": content_type}) as stream,
    ):
        for number in range(3):
            # The next one is written only once this one is here.
            assert await stream.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
            upstream.next_event.set()


async def test_a_client_that_leaves_the_proxy_leaves_the_gateway(
    proxy: str, upstream: Upstream
) -> None:
    async with asyncio.timeout(10.0), aiohttp.ClientSession() as session:
        leaving = asyncio.ensure_future(session.get(f"{proxy}/wait"))
        await upstream.waiting.wait()
        leaving.cancel()
        await upstream.client_gone.wait()


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/v1/../metrics", "/METRICS"]
)
async def test_the_proxy_gives_nobody_the_metrics(
    proxy: str, upstream: Upstream, path: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(proxy + path, encoded=True)) as refused,
    ):
        assert refused.status == 404
        assert (await refused.json())["error"]["code"] == "proxy_error"
    assert set(upstream.requests) <= {"/health"}


async def test_the_gateway_is_asked_by_the_name_that_it_knows(
    proxy: str, upstream: Upstream
) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{proxy}/v1/models") as served:
        assert await served.text() == "ok"
    assert upstream.requests["/v1/models"] == upstream.requests["/health"]
    assert upstream.requests["/v1/models"] != proxy.removeprefix("http://")
