"""The one handler that runs models; which wire format it speaks is its argument."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict

from gateway.config.schema import Limits, Timeouts
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InternalError, UnsupportedMediaType
from gateway.core.messages import Event, fold
from gateway.core.ticket import ANONYMOUS
from gateway.dialects.base import Dialect, Encoder, Parsed, ReplyHead
from gateway.service import Answer, Service
from gateway.web.body import BodyBudget, BodyShare, read_body
from gateway.web.visit import VISIT, Visit

log = logging.getLogger("gateway.web")

R = TypeVar("R", bound=web.StreamResponse)

PING_INTERVAL_S: Final = 15.0
"""A comment this often keeps idle proxies from cutting a stream; some clients give
up after 300 lines without data, so not more often (go-openai)."""

PARSED_IN_A_THREAD_BYTES: Final = 256 * 1024
"""Larger bodies would hold up everybody else while they are parsed."""

IGNORED_PARAMS: Final = "x-gateway-ignored-params"


class EventStreamResponse(EventSourceResponse):
    """A stream whose head leaves together with the first events, and whose last ones with its end.

    By itself aiohttp sends the head of a stream at once. Here the first events
    are already there, and each send less is a tenth of what a short stream costs.
    """

    _send_headers_immediately = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(
            headers=headers,
            allow_all_methods=True,
            sep="\n",  # as our own records end
            ping_interval=PING_INTERVAL_S,
            send_timeout=None,  # The connection itself cuts off who does not read.
        )
        self.ended = False

    async def write_eof(self, data: bytes = b"") -> None:
        self.ended = True
        await super().write_eof(data)


class Inference:
    """Translates a request, runs it, and writes its answer, streamed or whole."""

    def __init__(
        self,
        *,
        dialect: Dialect,
        service: Service,
        clock: Clock,
        limits: Limits,
        timeouts: Timeouts,
        bodies: BodyBudget,
    ) -> None:
        self._dialect = dialect
        self._service = service
        self._clock = clock
        self._limits = limits
        self._timeouts = timeouts
        self._bodies = bodies

    async def handle(self, web_request: web.Request) -> web.StreamResponse:
        visit = web_request[VISIT]
        if web_request.content_type != "application/json":
            raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
        with self._bodies.share() as share:
            parsed = await self._parse(web_request, share)
            head = ReplyHead(
                id=visit.id,
                created=int(self._clock.wall()),
                model=self._service.model_named(parsed.request.model),
            )
            encoder = self._dialect.encoder(parsed, head)
            if parsed.request.stream:
                return await self._stream(web_request, visit, parsed, encoder)
            return await self._whole(visit, parsed, encoder)

    async def _parse(self, web_request: web.Request, share: BodyShare) -> Parsed:
        # The bytes of the body live no longer than this call.
        body = await read_body(web_request, self._limits, self._timeouts, share)
        if len(body) > PARSED_IN_A_THREAD_BYTES:
            return await asyncio.to_thread(self._dialect.parse, body)
        return self._dialect.parse(body)

    async def _whole(self, visit: Visit, parsed: Parsed, encoder: Encoder) -> web.StreamResponse:
        async def consume(answer: Answer) -> web.Response:
            events: list[Event] = []
            while batch := await answer.read():
                events += batch
            headers = self._headers(visit, answer)
            headers[hdrs.CONTENT_TYPE] = "application/json"
            return web.Response(body=encoder.reply(fold(events)), headers=headers)

        return await self._run(visit, parsed, consume)

    async def _stream(
        self, web_request: web.Request, visit: Visit, parsed: Parsed, encoder: Encoder
    ) -> web.StreamResponse:
        response: EventStreamResponse | None = None

        async def consume(answer: Answer) -> EventStreamResponse:
            nonlocal response
            response = EventStreamResponse(self._headers(visit, answer))
            await response.prepare(web_request)
            async with response:
                while events := await answer.read():
                    record = encoder.feed(events)
                    if answer.whole:
                        await response.write_eof(record)
                        break
                    await response.write(record)
            return response

        try:
            return await self._run(visit, parsed, consume)
        except ConnectionError:
            raise  # The client is gone.
        except Exception as error:
            if response is None:
                raise
            if response.ended:
                return response  # All was said, and only taken too slowly.
            # After the first byte there is no second status; but the client must
            # not take this for the end of an answer.
            if not isinstance(error, GatewayError):
                log.exception("request %s broke while streaming", visit.request_id)
                error = InternalError("Internal error.")
            await _fail(response, encoder, visit, error)
            return response

    def _run(
        self, visit: Visit, parsed: Parsed, consume: Callable[[Answer], Awaitable[R]]
    ) -> Awaitable[R]:
        # Not a coroutine itself: every token passes through those above it.
        return self._service.run(
            parsed.request,
            consume,
            caller=visit.caller or ANONYMOUS,
            request_id=visit.request_id,
            ignored=parsed.ignored,
            heard=visit.heard,
        )

    def _headers(self, visit: Visit, answer: Answer) -> CIMultiDict[str]:
        headers = visit.headers(self._clock.now(), answer.queue_s)
        if answer.ignored:
            headers[IGNORED_PARAMS] = ", ".join(answer.ignored)
        return headers


async def _fail(
    response: EventStreamResponse, encoder: Encoder, visit: Visit, error: GatewayError
) -> None:
    visit.error = error
    response.force_close()
    await response.write(encoder.fail(error))
    await response.write_eof()
