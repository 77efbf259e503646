"""The process: from the configuration to the exit code."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.config.schema import Config
from gateway.core import exit_codes
from gateway.core.clock import LoopClock
from gateway.daemon import notify, process, sockets, state
from gateway.daemon.background import background
from gateway.daemon.heartbeat import Heartbeat
from gateway.daemon.life import Life
from gateway.daemon.reload import Reloader
from gateway.daemon.wiring import wire
from gateway.telemetry import logs as telemetry_logs
from gateway.web.server import GatewayRunner

log = logging.getLogger("gateway")

SAME_SIGNAL_S: Final = 0.5
"""A terminal and a supervisor may both pass on one Ctrl-C: that is one signal."""


def serve(config: Config, config_path: Path | None, reread: Callable[[], Config]) -> int:
    """Run the daemon until a signal ends it; returns the exit code.

    Args:
        reread: Reads the configuration again as it was read. Raises ConfigError.

    Raises:
        ConfigError: What the service manager passed to listen on is no such thing, or
            more public than the configuration allows.
    """
    process.fill_standard_streams()
    process.keep_files_private()
    process.give_memory_back()
    process.tell_where_it_was_aborted()
    passed = sockets.of_this_process()
    addresses = sockets.addresses_of(passed)
    unused = sockets.unused_settings(config.server, addresses)
    config = sockets.listening_on(config, addresses)
    logs = telemetry_logs.setup(config.logging.level, config.logging.format)
    process.make_room_for_connections(config.limits)
    if unused:
        log.warning("not used, since a socket was passed to listen on: %s", ", ".join(unused))
    try:
        with (
            state.held(config.server.state_directory),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            return runner.run(
                _serve(
                    config,
                    config_path,
                    logs,
                    passed,
                    lambda: sockets.listening_on(reread(), addresses),
                )
            )
    except state.StateLocked as error:
        log.error("%s", error, extra={"event": "state_locked"})
        return exit_codes.UNAVAILABLE
    except state.StateUnusable as error:
        log.error("%s", error)
        return exit_codes.CANT_CREATE
    except BaseExceptionGroup:
        # A service manager starts it anew; limping on would only look alive.
        log.exception("a part of the daemon died")
        return exit_codes.SOFTWARE
    finally:
        logs.close()


async def _serve(
    config: Config,
    config_path: Path | None,
    logs: telemetry_logs.Logs,
    passed: Sequence[socket.socket],
    reread: Callable[[], Config],
) -> int:
    clock = LoopClock()
    stop = Stop()
    stop.listen()
    log.info("gateway %s, configuration: %s", __version__, config_path or "defaults")
    manager = notify.of_this_process()
    daemon = await wire(config, clock=clock, logs=logs)
    heartbeat = Heartbeat(clock=clock, notify=manager, lagged=daemon.metrics.loop_lagged)
    life = Life(daemon, stop.now, sockets=passed, notify=manager)
    daemon.app.on_startup.append(life.begin_warm_up)
    daemon.app.on_shutdown.append(life.end_leftovers)
    daemon.app.on_cleanup.append(life.close_backends)
    runner = GatewayRunner(daemon.app, settings=daemon.connections)
    reloader = Reloader(
        daemon, reread=reread, around=manager.reloading, change_connections=runner.change
    )
    daemon.snapshots.connections = lambda: runner.connections
    loops = [daemon.worker.run(), daemon.health.run(), daemon.learned.run(), life.warm_up()]
    loops += [daemon.ledger.run()]
    loops += [heartbeat.run(), life.announce()]
    loops += [daemon.engines.run(), reloader.run(stop.reload)]
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
    SIGHUP: read the configuration again.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.now = asyncio.Event()
        self.reload = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._first_at = 0.0

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.signalled, number.name)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        # Neither is ours to use yet, and their default is to end the process.
        for number in (signal.SIGUSR1, signal.SIGUSR2):
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


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one: a request costs ten microseconds less."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
