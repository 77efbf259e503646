"""The life of the daemon: start, serve, drain, end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway import __version__
from gateway.config.effective import api_keys, bind_address
from gateway.config.schema import Config
from gateway.core import exit_codes
from gateway.core.clock import LoopClock
from gateway.core.errors import ShuttingDown
from gateway.daemon import process
from gateway.daemon.background import background
from gateway.daemon.wiring import Daemon, wire
from gateway.telemetry import logs as telemetry_logs
from gateway.web.server import GatewayRunner

log = logging.getLogger("gateway")

SAME_SIGNAL_S: Final = 0.5
"""A terminal and a supervisor may both pass on one Ctrl-C: that is one signal."""

RESTART_S: Final = 1.0
"""When it is worth coming back to a daemon that a service manager starts anew."""

LAST_WORDS_S: Final = 2.0
"""For those whom the end of the grace period cuts off to be told so."""


def serve(config: Config, config_path: Path | None) -> int:
    """Run the daemon until a signal ends it; returns the exit code."""
    process.fill_standard_streams()
    process.give_memory_back()
    logs = telemetry_logs.setup(config.logging.level, config.logging.format)
    process.make_room_for_connections(config.limits)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config, config_path, logs))
    except BaseExceptionGroup:
        # A service manager starts it anew; limping on would only look alive.
        log.exception("a part of the daemon died")
        return exit_codes.SOFTWARE
    finally:
        logs.close()


async def _serve(config: Config, config_path: Path | None, logs: telemetry_logs.Logs) -> int:
    clock = LoopClock()
    stop = Stop()
    stop.listen()
    log.info("gateway %s, configuration: %s", __version__, config_path or "defaults")
    daemon = await wire(config, clock=clock, logs=logs)
    life = Life(daemon, stop)
    daemon.app.on_startup.append(life.begin_warm_up)
    daemon.app.on_shutdown.append(life.end_leftovers)
    daemon.app.on_cleanup.append(life.close_backends)
    runner = GatewayRunner(daemon.app, settings=daemon.connections)
    loops = [daemon.worker.run(), daemon.health.run(), daemon.learned.run(), life.warm_up()]
    loops += [engine.run() for engine in daemon.engines]
    async with background(*loops):
        try:
            await runner.setup()
            if not await life.listen(runner):
                return exit_codes.UNAVAILABLE
            process.spare_the_collector()
            await stop.wanted.wait()
            return await life.drain(runner)
        finally:
            await runner.cleanup()
            log.info("stopped")


class Stop:
    """What signals have asked for.

    The first SIGTERM or SIGINT: drain. A second one, not the same come twice: now.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._first_at = 0.0

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.signalled, number.name)
        # Neither is ours to use yet, and their default is to end the process.
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            self._loop.add_signal_handler(number, log.debug, "ignored %s", number.name)

    def signalled(self, name: str) -> None:
        now = self._loop.time()
        if not self.wanted.is_set():
            self._first_at = now
            self.wanted.set()
            log.info("%s: draining", name)
        elif now - self._first_at >= SAME_SIGNAL_S and not self.now.is_set():
            self.now.set()
            log.warning("%s again: ending now", name)


class Life:
    """The stages between start and end."""

    def __init__(self, daemon: Daemon, stop: Stop) -> None:
        self._daemon = daemon
        self._stop = stop
        self._url = ""
        self._started = asyncio.Event()
        self._listening = asyncio.Event()

    async def begin_warm_up(self, _app: web.Application) -> None:
        """It goes on in the background: whoever asks meanwhile is answered by /ready."""
        self._started.set()

    async def listen(self, runner: GatewayRunner) -> bool:
        """Whether the address could be had."""
        host, port = bind_address(self._daemon.config)
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            reason = str(error)
            if error.errno and not isinstance(error, socket.gaierror):
                # asyncio's own text says the address once more.
                reason = os.strerror(error.errno)
            log.error("cannot listen on %s port %d: %s", host, port, reason)
            return False
        port = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        self._url = f"http://{'127.0.0.1' if host == '0.0.0.0' else shown}:{port}"
        log.info("listening on http://%s:%d", shown, port, extra={"event": "listening"})
        self._listening.set()
        return True

    async def warm_up(self) -> None:
        """Then say that requests are welcome; on a terminal, how to send one."""
        await self._started.wait()
        await self._daemon.warm_up.run()
        for upstream in self._daemon.pool.upstreams:
            # What is loaded now, was not when it was last asked.
            await self._daemon.health.check(upstream)
        await self._listening.wait()
        log.info("ready", extra={"event": "ready"})
        if sys.stderr is not None and sys.stderr.isatty():
            self._daemon.logs.flush()
            print(_invitation(self._url, self._daemon), file=sys.stderr, flush=True)

    async def drain(self, runner: GatewayRunner) -> int:
        """Take nothing new, let what was accepted end; then, or at once if told so, cut it off."""
        service = self._daemon.service
        service.begin_drain()
        runner.begin_drain()
        if service.active:
            log.info("%d requests are still to be answered", service.active)
        idle = asyncio.ensure_future(service.wait_idle())
        impatient = asyncio.ensure_future(self._stop.now.wait())
        grace_s = self._daemon.config.server.shutdown_grace_seconds
        await asyncio.wait((idle, impatient), timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        forced = impatient.done()
        impatient.cancel()
        if not idle.done():
            log.warning("drain_forced n=%d", service.active, extra={"event": "drain_forced"})
            service.abort(_shutting_down())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await idle
        idle.cancel()
        return exit_codes.FAILED if forced else exit_codes.OK

    async def end_leftovers(self, _app: web.Application) -> None:
        """Whoever still runs here outlived the drain, or there was none."""
        self._daemon.service.begin_drain()
        self._daemon.service.abort(_shutting_down())
        self._daemon.management.end()

    async def close_backends(self, _app: web.Application) -> None:
        await self._daemon.loads.close()
        for upstream in self._daemon.pool.upstreams:
            await upstream.backend.close()
        await self._daemon.http.close()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("The gateway is shutting down.", retry_after_s=RESTART_S)


def _invitation(url: str, daemon: Daemon) -> str:
    key = " -H 'Authorization: Bearer YOUR-KEY'" if api_keys(daemon.config) else ""
    return f"""
  Ready at {url}. Try:

    curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\
      -d '{{"model": "default", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
"""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one: a request costs ten microseconds less."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
