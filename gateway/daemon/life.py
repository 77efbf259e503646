"""The stages of the daemon's life between start and end."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from gateway.backends.llamacpp import LlamaCppBackend
from gateway.config.effective import api_keys, bind_address
from gateway.core import exit_codes
from gateway.core.errors import ShuttingDown
from gateway.daemon.announce import Announcer
from gateway.daemon.notify import Notify
from gateway.daemon.sockets import BACKLOG, Address, addresses_of
from gateway.daemon.wiring import Daemon
from gateway.web.server import GatewayRunner

log = logging.getLogger("gateway")

RESTART_S: Final = 1.0
"""When it is worth coming back to a daemon that a service manager starts anew."""

LAST_WORDS_S: Final = 2.0
"""For those whom the end of the grace period cuts off to be told so."""

ACQUAINTANCE_S: Final = 2.0
"""For the engines to be found, before those are let in who have waited for the restart."""

OWN_ENGINE_S: Final = 6.0
"""The same, where one is our own and starts along with us."""

_LOOK_S: Final = 0.02

END_S: Final = 10.0
"""For engines to end, and the log to be written, after the last answer."""


class Life:
    """Start, serve, drain, end.

    Args:
        hurry: Set when the drain is to be cut short.
        sockets: Listening ones that were passed to this process, in place of an address.
        notify: The service manager.
    """

    def __init__(
        self,
        daemon: Daemon,
        hurry: asyncio.Event,
        *,
        sockets: Sequence[socket.socket] = (),
        notify: Notify | None = None,
    ) -> None:
        self._daemon = daemon
        self._hurry = hurry
        self._sockets = sockets
        self._notify = notify or Notify()
        self._url = ""
        self._started = asyncio.Event()
        self._warm = asyncio.Event()
        self._listening = asyncio.Event()
        self._announcer = Announcer(
            notify=self._notify,
            clock=daemon.clock,
            warm=self._warm,
            statistics=daemon.statistics,
            loaded=self._loaded_models,
        )

    async def begin_warm_up(self, _app: web.Application) -> None:
        """It goes on in the background: whoever asks meanwhile is answered by /ready."""
        self._started.set()

    async def listen(self, runner: GatewayRunner) -> bool:
        """Whether the address could be had."""
        if self._sockets:
            await self._meet_engines()
        addresses = addresses_of(self._sockets)
        sites: list[web.BaseSite] = [
            web.SockSite(runner, passed, backlog=BACKLOG) for passed in self._sockets
        ]
        if not sites:
            host, port = bind_address(self._daemon.config)
            addresses = [Address(host, port)]
            sites = [web.TCPSite(runner, host, port, backlog=BACKLOG)]
        for address, site in zip(addresses, sites, strict=True):
            try:
                await site.start()
            except OSError as error:
                log.error(
                    "cannot listen on %s port %d: %s", address.host, address.port, _words(error)
                )
                return False
            # Port 0 is a free one; of a name that stands for several addresses, the first's.
            port = address.port or runner.addresses[0][1]
            self._tell_address(Address(address.host, port))
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
        self._warm.set()
        log.info("ready", extra={"event": "ready"})
        if sys.stderr is not None and sys.stderr.isatty():
            self._daemon.logs.flush()
            print(_invitation(self._url, self._daemon), file=sys.stderr, flush=True)

    async def announce(self) -> None:
        """Keep the service manager informed, as long as it lasts."""
        await self._listening.wait()
        await self._announcer.run()

    async def drain(self, runner: GatewayRunner) -> int:
        """Take nothing new, let what was accepted end; then, or at once if told so, cut it off."""
        service, clock = self._daemon.service, self._daemon.clock
        grace_s = self._daemon.config.server.shutdown_grace_seconds
        until = clock.now() + grace_s
        self._notify.stopping(
            f"draining: {service.active} still to be answered", grace_s + LAST_WORDS_S + END_S
        )
        if self._sockets:
            # The next process accepts who connects from now on.
            await runner.hand_over()
        service.begin_drain()
        runner.begin_drain()
        if service.active:
            log.info("%d requests are still to be answered", service.active)
        idle = asyncio.ensure_future(service.wait_idle())
        impatient = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait(
            (idle, impatient),
            timeout=max(0.0, until - clock.now()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        forced = impatient.done()
        impatient.cancel()
        cut_off = 0
        if not idle.done():
            log.warning("drain_forced n=%d", service.active, extra={"event": "drain_forced"})
            cut_off = service.abort(_shutting_down())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await idle
        idle.cancel()
        self._daemon.last_drain.save(cut_off)
        return exit_codes.FAILED if forced else exit_codes.OK

    async def end_leftovers(self, _app: web.Application) -> None:
        """Whoever still runs here outlived the drain, or there was none."""
        self._daemon.service.begin_drain()
        self._daemon.service.abort(_shutting_down())
        self._daemon.management.end()
        self._daemon.status.end()

    async def close_backends(self, _app: web.Application) -> None:
        await self._daemon.loads.close()
        for upstream in self._daemon.pool.upstreams:
            await upstream.backend.close()
        await self._daemon.http.close()
        if self._daemon.traces is not None:
            await asyncio.to_thread(self._daemon.traces.close)

    async def _meet_engines(self) -> None:
        """Who waits in a passed socket is not told that no engine answers before one was asked."""
        clock, upstreams = self._daemon.clock, self._daemon.pool.upstreams
        own = any(isinstance(upstream.backend, LlamaCppBackend) for upstream in upstreams)
        until = clock.now() + (OWN_ENGINE_S if own else ACQUAINTANCE_S)
        while clock.now() < until and not any(upstream.up for upstream in upstreams):
            await clock.sleep(_LOOK_S)

    def _loaded_models(self) -> list[str]:
        """As far as engines tell; one that doesn't was warmed up with the default model."""
        upstreams = [upstream for upstream in self._daemon.pool.upstreams if upstream.up]
        models = [model for upstream in upstreams for model in (upstream.models or {}).values()]
        names = list(dict.fromkeys(model.id for model in models if model.loaded))
        if not names and self._daemon.warm_up.warmed:
            return [self._daemon.default_model]
        return names

    def _tell_address(self, address: Address) -> None:
        if not self._url:
            reachable = Address("127.0.0.1", address.port) if address.host == "0.0.0.0" else address
            self._url = f"http://{reachable}"
        more = {"socket": "passed"} if self._sockets else {}
        log.info("listening on http://%s", address, extra={"event": "listening", **more})


def _words(error: OSError) -> str:
    """Why an address can't be had; asyncio's own text says the address once more."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return str(error)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("The gateway is shutting down.", retry_after_s=RESTART_S)


def _invitation(url: str, daemon: Daemon) -> str:
    key = " -H 'Authorization: Bearer YOUR-KEY'" if api_keys(daemon.config) else ""
    return f"""
  Ready at {url}. Try:

    curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\
      -d '{{"model": "default", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

  or open {url}/ in a browser.
"""
