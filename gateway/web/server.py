"""All connections together, and the runner that an application gets them from."""

import asyncio
from typing import Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _RequestFactory, _RequestHandler

from gateway.web.accept import AcceptGuard
from gateway.web.connection import ConnectionSettings, GatewayConnection
from gateway.web.limits import ConnectionTable, Verdict

SETTLE_S: Final = 0.15
"""From the end of listening to the end of connections: who was accepted just before is answered."""

HAND_OVER_S: Final = 1.0
"""How long a connection that says nothing may still ask, before its client has to connect anew."""

_LOOK_S: Final = 0.02


class GatewayServer(web.Server):
    """Makes connections, counts them, and cuts those that never send a head.

    Attributes:
        draining: Every answer is now the last one of its connection.
        handing_over: So is every stream, also one that had promised otherwise: who
            connects again is served by the next process.
        settings: Of all connections.
    """

    def __init__(
        self,
        handler: _RequestHandler,
        *,
        request_factory: _RequestFactory,
        settings: ConnectionSettings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            handler, request_factory=request_factory, handler_cancellation=True, loop=loop
        )
        self.draining = False
        self.handing_over = False
        self.settings = settings
        self._table: ConnectionTable[GatewayConnection] = ConnectionTable(
            settings.limits, settings.timeouts.head_timeout_seconds
        )
        self._head_timer: asyncio.TimerHandle | None = None

    def __call__(self) -> GatewayConnection:
        return GatewayConnection(self, registry=self, loop=self._loop)

    def change(self, settings: ConnectionSettings) -> None:
        """These hold from now on, on open connections too but for `keepalive_timeout_seconds`."""
        self.settings = settings
        self._table.change(settings.limits, settings.timeouts.head_timeout_seconds)

    def admit(self, connection: GatewayConnection, address: str) -> Verdict:
        """Whether a new connection is served; closes another one for it if need be."""
        admission = self._table.admit(connection, address, self._loop.time())
        if admission.evicted is not None:
            admission.evicted.evict()
        self._arm_head_timer()
        return admission.verdict

    def head_complete(self, connection: GatewayConnection) -> None:
        self._table.head_complete(connection)

    def may_linger(self, connection: GatewayConnection) -> bool:
        """Whether a refused client is given time to read: not where there are too many of them."""
        return connection in self._table

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._table.forget(cast(GatewayConnection, handler))

    def begin_drain(self) -> None:
        """From now on each answer is the last one of its connection, and says so.

        Idle connections stay until the end: their client may be about to send a
        request, and closing under it would lose that without an answer.
        """
        self.draining = True

    async def hand_over(self, patience_s: float) -> None:
        """Answer once more who has a connection, and close those that ask nothing in this time."""
        self.handing_over = True
        until = self._loop.time() + patience_s
        while (idle := self._idle()) and self._loop.time() < until:  # noqa: ASYNC110
            # That a request has come on one of them is told to nobody.
            await asyncio.sleep(_LOOK_S)
        for connection in idle:
            connection.force_close()

    def _idle(self) -> list[GatewayConnection]:
        connections = [cast(GatewayConnection, connection) for connection in self.connections]
        return [connection for connection in connections if connection.idle]

    def cut_overdue(self, now: float) -> None:
        """Close the connections whose first head is overdue."""
        for connection in self._table.take_overdue(now):
            connection.cut_head()

    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _arm_head_timer(self) -> None:
        # One timer for all, for the oldest of them. Mostly it finds that the head
        # came long ago; that is once in head_timeout_seconds, not per connection.
        if self._head_timer is None and self._table.next_deadline_at is not None:
            self._head_timer = self._loop.call_at(self._table.next_deadline_at, self._on_head_timer)

    def _on_head_timer(self) -> None:
        self._head_timer = None
        self.cut_overdue(self._loop.time())
        self._arm_head_timer()


class GatewayRunner(web.AppRunner):
    """Runs an application on GatewayConnections.

    To end without losing anyone: `begin_drain()`; wait until everything that was
    accepted has ended; `cleanup()`. As long as the sites listen, new requests still
    reach the application, which refuses them. A socket that outlives the process is
    better let go at once with `hand_over()`: who connects then waits in its backlog
    for the next process, and is not refused.

    Args:
        app: Its handlers are cancelled when their client leaves.
        shutdown_timeout_s: What `cleanup()` still waits for requests in progress.
        settle_s: What it waits for who was accepted just before the end.
    """

    __slots__ = ("_guard", "_settings", "_settle_s")

    def __init__(
        self,
        app: web.Application,
        *,
        settings: ConnectionSettings,
        shutdown_timeout_s: float = 5.0,
        settle_s: float = SETTLE_S,
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s)
        self._settings = settings
        self._settle_s = settle_s
        self._guard: AcceptGuard | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return 0 if self._server is None else len(self._server.connections)

    def change(self, settings: ConnectionSettings) -> None:
        """See `GatewayServer.change`."""
        self._settings = settings
        if self._server is not None:
            cast(GatewayServer, self._server).change(settings)

    def begin_drain(self) -> None:
        """Every answer from now on says that it is the last one of its connection."""
        if self._server is not None:
            cast(GatewayServer, self._server).begin_drain()

    async def stop_listening(self) -> None:
        """Accept no more connections, and let who was accepted just now send its request."""
        sites = list(self.sites)
        for site in sites:
            await site.stop()
        if sites:
            await asyncio.sleep(self._settle_s)

    async def hand_over(self, patience_s: float = HAND_OVER_S) -> None:
        """Leave the listening sockets to the next process, and lose nobody who is here already.

        Afterwards no connection is left but those with a request in progress, each of
        which closes with its answer.
        """
        self.begin_drain()
        await self.stop_listening()
        if self._server is not None:
            await cast(GatewayServer, self._server).hand_over(patience_s)

    async def cleanup(self) -> None:
        # aiohttp closes connections first and answers later: who was accepted a
        # moment ago would never be heard, and on Python 3.11 hold up the end for
        # the whole timeout.
        self.begin_drain()
        await self.stop_listening()
        await super().cleanup()
        loop = asyncio.get_running_loop()
        if self._guard is not None and loop.get_exception_handler() is self._guard:
            loop.set_exception_handler(self._guard.previous)
        self._guard = None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        loop = asyncio.get_running_loop()
        self._guard = AcceptGuard(loop.get_exception_handler())
        loop.set_exception_handler(self._guard)
        return GatewayServer(
            made.request_handler,
            request_factory=made.request_factory,
            settings=self._settings,
            loop=loop,
        )
