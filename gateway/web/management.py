"""Which models an Ollama has is changed by its own API, by those who may: passed on as it stands.

These requests run no model, so they wait in no queue and take no slot. They move
gigabytes, in either direction, without one of them being held here; what ends them
is that nothing moves for a while. After each the gateway asks what models there are.

With several Ollamas the first one configured is meant, or the one that
`?upstream=NAME` names.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import hdrs, web

from gateway.admission.callers import require_manager
from gateway.backends.ollama import OllamaBackend
from gateway.core.clock import Clock, Timeout
from gateway.core.errors import (
    GatewayError,
    InvalidRequest,
    NotSupported,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    UnsupportedContentEncoding,
)
from gateway.core.ticket import ANONYMOUS
from gateway.dialects import fields, ollama_errors
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.service import Service
from gateway.web.body import continue_if_expected
from gateway.web.head import check_body_head
from gateway.web.intake import Intake
from gateway.web.visit import VISIT

TRANSFERS_AT_ONCE: Final = 2
"""More of them share one disk and one line, and each would take longer."""

TURN_WAIT_S: Final = 60.0
"""How long a transfer waits for others to end before it is refused."""

SILENCE_S: Final = 300.0
"""Ollama says nothing while it checks what it has: minutes, of a large model on a slow disk."""

_BYTES_UNBOUNDED: Final = 2**63

_DIGEST: Final = fields.matching(r"sha256[:-][0-9a-fA-F]{64}", 71, "a digest: sha256:…, 64 digits")


class Management:
    """POST /api/pull, /api/push, /api/create and /api/copy, DELETE /api/delete, /api/blobs/…

    Attributes:
        intake: Reads bodies; another one after a reload.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        service: Service,
        health: HealthMonitor,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._service = service
        self._health = health
        self.intake = intake
        self._clock = clock
        self._turns = asyncio.Semaphore(TRANSFERS_AT_ONCE)
        self._open: set[Timeout] = set()
        self._ended = False

    def end(self) -> None:
        """Break off what goes on: the gateway is stopping. A pull that is tried again goes on."""
        self._ended = True
        for silence in self._open:
            silence.reschedule(self._due_at())

    async def command(self, web_request: web.Request) -> web.StreamResponse:
        """What is done at once."""
        upstream = self._upstream(web_request)
        with self.intake.share() as share:
            body = bytes(await self.intake.body(web_request, share))
            return await self._pass(web_request, upstream, body)

    async def transfer(self, web_request: web.Request) -> web.StreamResponse:
        """What tells of its progress while it goes on."""
        upstream = self._upstream(web_request)
        with self.intake.share() as share:
            body = bytes(await self.intake.body(web_request, share))
            async with self._turn(TURN_WAIT_S):
                return await self._pass(web_request, upstream, body)

    async def find_blob(self, web_request: web.Request) -> web.StreamResponse:
        """Whether a file is there already."""
        _DIGEST(web_request.match_info["digest"], "digest")
        return await self._pass(web_request, self._upstream(web_request), b"")

    async def send_blob(self, web_request: web.Request) -> web.StreamResponse:
        """A file of a model, as large as it is."""
        _DIGEST(web_request.match_info["digest"], "digest")
        upstream = self._upstream(web_request)
        refusal = check_body_head(web_request.headers, _BYTES_UNBOUNDED)
        if refusal is None and hdrs.CONTENT_ENCODING in web_request.headers:
            refusal = UnsupportedContentEncoding("A file is sent as it is, not compressed.")
        if refusal is not None:
            raise refusal
        # The files of one model come all at once, and a refused one fails them all.
        async with self._turn(SILENCE_S):
            continue_if_expected(web_request)
            return await self._pass(web_request, upstream, web_request.content)

    def _upstream(self, web_request: web.Request) -> Upstream:
        """The Ollama that is meant, if this caller may.

        Raises:
            NotPermitted, NotSupported, ShuttingDown
            InvalidRequest: There is no such upstream.
        """
        require_manager(web_request[VISIT].caller or ANONYMOUS)
        if self._service.draining:
            raise _stopping()
        ollamas = {
            upstream.name: upstream
            for upstream in self._pool.upstreams
            if isinstance(upstream.backend, OllamaBackend)
        }
        if not ollamas:
            raise NotSupported("No engine here is an Ollama, whose models could be managed.")
        name = web_request.query.get("upstream")
        if name is None:
            return next(iter(ollamas.values()))
        if name not in ollamas:
            raise InvalidRequest(
                f"'upstream' must be one of {', '.join(ollamas)}.", param="upstream"
            )
        return ollamas[name]

    @asynccontextmanager
    async def _turn(self, wait_s: float) -> AsyncIterator[None]:
        """Raises Overloaded when too many others go on for too long."""
        try:
            async with self._clock.timeout_at(self._clock.now() + wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded(
                "Other models are being moved at the moment.", retry_after_s=TURN_WAIT_S
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    async def _pass(
        self, web_request: web.Request, upstream: Upstream, body: bytes | aiohttp.StreamReader
    ) -> web.StreamResponse:
        """Send it on and the answer back, both as they come."""
        visit = web_request[VISIT]
        response = web.StreamResponse()
        error: GatewayError
        try:
            async with self._clock.timeout_at(self._due_at()) as silence:
                self._open.add(silence)
                try:
                    await self._move(web_request, upstream, body, response, silence)
                finally:
                    self._open.discard(silence)
            return response
        except TimeoutError:
            if self._ended:
                error = _stopping()
            else:
                error = RequestTimeout("The model's engine fell silent midway.")
        except GatewayError as broken:
            error = broken
        if not response.prepared:
            raise error
        visit.error = error
        response.force_close()
        await response.write(ollama_errors.body(error) + b"\n")
        await response.write_eof()
        return response

    async def _move(
        self,
        web_request: web.Request,
        upstream: Upstream,
        body: bytes | aiohttp.StreamReader,
        response: web.StreamResponse,
        silence: Timeout,
    ) -> None:
        backend = upstream.backend
        assert isinstance(backend, OllamaBackend)
        passing = backend.passing(
            web_request.method,
            web_request.path,
            body if isinstance(body, bytes) else self._sent(body, silence),
            web_request.headers.get(hdrs.CONTENT_TYPE, "application/json"),
        )
        async with passing as exchange:
            response.set_status(exchange.status)
            response.headers.extend(web_request[VISIT].headers(self._clock.now()))
            if exchange.content_type:
                response.headers[hdrs.CONTENT_TYPE] = exchange.content_type
            await response.prepare(web_request)
            while data := await exchange.read_some():
                silence.reschedule(self._due_at())
                await response.write(data)
        # Before the end is told: clients ask for a model as soon as it is there.
        await self._health.check(upstream)
        await response.write_eof()

    async def _sent(self, content: aiohttp.StreamReader, silence: Timeout) -> AsyncIterable[bytes]:
        """The body of a client, as it comes."""
        while piece := await content.readany():
            silence.reschedule(self._due_at())
            yield piece

    def _due_at(self) -> float:
        """When it will have been silent for too long, if nothing moves any more."""
        return self._clock.now() + (0.0 if self._ended else SILENCE_S)


def _stopping() -> ShuttingDown:
    return ShuttingDown("The gateway is stopping.", retry_after_s=1.0)
