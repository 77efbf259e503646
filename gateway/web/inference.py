"""The one handler that runs models; which wire format it speaks is its argument."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import attrs
from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.config.schema import Limits, Scheduling, Timeouts
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InternalError, UnsupportedMediaType
from gateway.core.messages import Event, fold
from gateway.core.ticket import ANONYMOUS, Caller, Hints
from gateway.dialects.base import Dialect, Encoder, P, Parsed, ReplyHead
from gateway.service import Service
from gateway.story import Answer
from gateway.web.body import BodyBudget, BodyShare, read_body
from gateway.web.hints import fingerprint_of, hints_of
from gateway.web.progress import ProgressComments
from gateway.web.requests import forecast_document
from gateway.web.streams import Stream, stream_of
from gateway.web.visit import VISIT, Visit, json_reply

log = logging.getLogger("gateway.web")

R = TypeVar("R", bound=web.StreamResponse)

PARSED_IN_A_THREAD_BYTES: Final = 256 * 1024
"""Larger bodies would hold up everybody else while they are parsed."""

IGNORED_PARAMS: Final = "x-gateway-ignored-params"

TRUNCATED: Final = "x-gateway-truncated"
"""Of an answer that was cut at its deadline."""

REJOINED: Final = "x-gateway-rejoined"
"""Of an answer that an earlier try of the same request had begun."""


@attrs.frozen
class Asked:
    """A request as it came: what it says, and who says it."""

    visit: Visit
    parsed: Parsed
    caller: Caller
    hints: Hints


class Inference(Generic[P]):
    """Translates a request, runs it, and writes its answer, streamed or whole."""

    def __init__(
        self,
        *,
        dialect: Dialect[P],
        service: Service,
        clock: Clock,
        limits: Limits,
        timeouts: Timeouts,
        scheduling: Scheduling,
        bodies: BodyBudget,
    ) -> None:
        self._dialect = dialect
        self._service = service
        self._clock = clock
        self._limits = limits
        self._timeouts = timeouts
        self._scheduling = scheduling
        self._bodies = bodies
        # Lines of JSON have no room for comments.
        has_comments = dialect.stream_type == "text/event-stream"
        self._progress_s = scheduling.progress_seconds if has_comments else 0.0

    async def handle(self, web_request: web.Request) -> web.StreamResponse:
        visit = web_request[VISIT]
        if self._dialect.json_only and web_request.content_type != "application/json":
            raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
        with self._bodies.share() as share:
            parsed, fingerprint = await self._parse(web_request, share)
            caller = visit.caller or ANONYMOUS
            hints = hints_of(
                web_request.headers,
                caller,
                fingerprint=fingerprint,
                session_headers=self._scheduling.session_headers,
            )
            asked = Asked(visit=visit, parsed=parsed, caller=caller, hints=hints)
            if _is_dry_run(web_request):
                return self._forecast(asked)
            head = ReplyHead(
                id=visit.id,
                created=int(self._clock.wall()),
                model=self._service.model_named(parsed.request.model),
                request_id=visit.request_id,
            )
            encoder = self._dialect.encoder(parsed, head)
            if parsed.request.stream:
                return await self._stream(web_request, asked, encoder)
            return await self._whole(asked, encoder)

    async def _parse(self, web_request: web.Request, share: BodyShare) -> tuple[P, bytes]:
        # The bytes of the body live no longer than this call.
        body = await read_body(web_request, self._limits, self._timeouts, share)
        if len(body) > PARSED_IN_A_THREAD_BYTES:
            return await asyncio.to_thread(self._read, body)
        return self._read(body)

    def _read(self, body: bytes | bytearray) -> tuple[P, bytes]:
        return self._dialect.parse(body), fingerprint_of(body)

    def _forecast(self, asked: Asked) -> web.Response:
        forecast = self._service.forecast(
            asked.parsed.request,
            caller=asked.caller,
            hints=asked.hints,
            ignored=asked.parsed.ignored,
        )
        body = jsonio.dumps(forecast_document(forecast))
        return json_reply(asked.visit, body, self._clock.now())

    async def _whole(self, asked: Asked, encoder: Encoder) -> web.StreamResponse:
        async def consume(answer: Answer) -> web.Response:
            events: list[Event] = []
            while batch := await answer.read():
                events += batch
            headers = self._headers(asked.visit, answer)
            headers[hdrs.CONTENT_TYPE] = "application/json"
            return web.Response(body=encoder.reply(fold(events)), headers=headers)

        return await self._run(asked, consume)

    async def _stream(
        self, web_request: web.Request, asked: Asked, encoder: Encoder
    ) -> web.StreamResponse:
        response: Stream | None = None
        visit = asked.visit

        async def begin(headers: CIMultiDict[str]) -> Stream:
            nonlocal response
            begun = stream_of(self._dialect.stream_type, headers)
            await begun.prepare(web_request)
            response = begun
            return begun

        async def tell(comment: bytes) -> None:
            # From here on an error has no status of its own any more.
            await (response or await begin(visit.headers(self._clock.now()))).write(comment)

        async def consume(answer: Answer) -> Stream:
            await waiting.stop()
            stream = response or await begin(self._headers(visit, answer))
            async with stream:
                while events := await answer.read():
                    record = encoder.feed(events)
                    if answer.whole:
                        await stream.write_eof(record)
                        break
                    await stream.write(record)
            return stream

        waiting = ProgressComments(
            clock=self._clock,
            every_s=self._progress_s,
            ask=lambda: self._service.progress(visit.request_id, asked.caller),
            write=tell,
        )
        waiting.start()
        try:
            return await self._run(asked, consume)
        except ConnectionError:
            raise  # The client is gone.
        except Exception as error:
            await waiting.stop()
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
        finally:
            waiting.cancel()
            if response is not None:
                response.stop_streaming()  # its pings, if they still go on

    def _run(self, asked: Asked, consume: Callable[[Answer], Awaitable[R]]) -> Awaitable[R]:
        # Not a coroutine itself: every token passes through those above it.
        return self._service.run(
            asked.parsed.request,
            consume,
            caller=asked.caller,
            request_id=asked.visit.request_id,
            hints=asked.hints,
            ignored=asked.parsed.ignored,
            heard=asked.visit.heard,
        )

    def _headers(self, visit: Visit, answer: Answer) -> CIMultiDict[str]:
        headers = visit.headers(self._clock.now(), answer.queue_s)
        if answer.ignored:
            headers[IGNORED_PARAMS] = ", ".join(answer.ignored)
        if answer.truncated:
            headers[TRUNCATED] = "deadline"
        if answer.rejoined:
            headers[REJOINED] = "1"
        return headers


def _is_dry_run(web_request: web.Request) -> bool:
    return bool(web_request.query_string) and web_request.query.get("dry_run") in ("1", "true")


async def _fail(response: Stream, encoder: Encoder, visit: Visit, error: GatewayError) -> None:
    visit.error = error
    response.force_close()
    await response.write(encoder.fail(error))
    await response.write_eof()
