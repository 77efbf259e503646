"""From an HTTP request to what it asks: what every handler that runs a model has to do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import attrs
from aiohttp import web
from multidict import CIMultiDict

from gateway.config.schema import Limits, Scheduling, Timeouts
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import UnsupportedMediaType
from gateway.core.ticket import ANONYMOUS, Caller, Hints
from gateway.dialects.base import Reads, ReplyHead, Said
from gateway.service import Service
from gateway.story import Answer
from gateway.web.body import BodyBudget, BodyShare, read_body
from gateway.web.hints import fingerprint_of, hints_of
from gateway.web.requests import forecast_document
from gateway.web.visit import VISIT, Visit, json_reply

PARSED_IN_A_THREAD_BYTES: Final = 256 * 1024
"""Larger bodies would hold up everybody else while they are parsed."""

IGNORED_PARAMS: Final = "x-gateway-ignored-params"

MAX_TOKENS: Final = "x-gateway-max-tokens"
"""Of an answer that may have fewer tokens than was asked for."""

TRUNCATED: Final = "x-gateway-truncated"
"""Of an answer that was cut at its deadline."""

REJOINED: Final = "x-gateway-rejoined"
"""Of an answer that an earlier try of the same request had begun."""


S = TypeVar("S", bound=Said)
R = TypeVar("R")


@attrs.frozen
class Asked(Generic[S]):
    """A request as it came: what it says, and who says it."""

    visit: Visit
    parsed: S
    caller: Caller
    hints: Hints


class Intake:
    """Reads requests, has the service run them, and says what came of it in headers."""

    def __init__(
        self,
        *,
        service: Service,
        clock: Clock,
        limits: Limits,
        timeouts: Timeouts,
        scheduling: Scheduling,
        bodies: BodyBudget,
    ) -> None:
        self._service = service
        self._clock = clock
        self._limits = limits
        self._timeouts = timeouts
        self._session_headers = scheduling.session_headers
        self._bodies = bodies

    def share(self) -> BodyShare:
        """Room for one body, to be held for as long as the request lasts."""
        return self._bodies.share()

    async def body(self, web_request: web.Request, share: BodyShare) -> bytes | bytearray:
        """As `read_body`, within the configured bounds."""
        return await read_body(web_request, self._limits, self._timeouts, share)

    async def asked(
        self, web_request: web.Request, dialect: Reads[S], share: BodyShare
    ) -> Asked[S]:
        """What a request asks.

        Raises:
            UnsupportedMediaType, and as `read_body` and the dialect's `parse` do.
        """
        visit = web_request[VISIT]
        if dialect.json_only and web_request.content_type != "application/json":
            raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
        parsed, fingerprint = await self._parsed(web_request, dialect, share)
        caller = visit.caller or ANONYMOUS
        hints = hints_of(
            web_request.headers,
            caller,
            fingerprint=fingerprint,
            session_headers=self._session_headers,
        )
        return Asked(visit, parsed, caller, hints)

    async def _parsed(
        self, web_request: web.Request, dialect: Reads[S], share: BodyShare
    ) -> tuple[S, bytes]:
        # The bytes of the body live no longer than this call.
        body = await self.body(web_request, share)
        if len(body) > PARSED_IN_A_THREAD_BYTES:
            return await asyncio.to_thread(_read, dialect, body)
        return _read(dialect, body)

    def head(self, asked: Asked[S]) -> ReplyHead:
        """What its answer repeats of it."""
        return ReplyHead(
            id=asked.visit.id,
            created=int(self._clock.wall()),
            model=self._service.model_named(asked.parsed.request.model),
            request_id=asked.visit.request_id,
        )

    def run(self, asked: Asked[S], consume: Callable[[Answer], Awaitable[R]]) -> Awaitable[R]:
        """As `Service.run`. Not a coroutine itself: every token passes through those above it."""
        return self._service.run(
            asked.parsed.request,
            consume,
            caller=asked.caller,
            request_id=asked.visit.request_id,
            hints=asked.hints,
            ignored=asked.parsed.ignored,
            heard=asked.visit.heard,
        )

    def forecast(self, asked: Asked[S]) -> web.Response:
        """What would become of it if it came now, instead of an answer."""
        forecast = self._service.forecast(
            asked.parsed.request,
            caller=asked.caller,
            hints=asked.hints,
            ignored=asked.parsed.ignored,
        )
        body = jsonio.dumps(forecast_document(forecast))
        return json_reply(asked.visit, body, self._clock.now())

    def headers(self, visit: Visit, answer: Answer) -> CIMultiDict[str]:
        """Of an answer that begins now."""
        headers = visit.headers(self._clock.now(), answer.queue_s)
        if answer.ignored:
            headers[IGNORED_PARAMS] = ", ".join(answer.ignored)
        if answer.cut_to is not None:
            headers[MAX_TOKENS] = str(answer.cut_to)
        if answer.truncated:
            headers[TRUNCATED] = "deadline"
        if answer.rejoined:
            headers[REJOINED] = "1"
        return headers


def is_dry_run(web_request: web.Request) -> bool:
    """Whether the client only wants to know what its request would meet."""
    return bool(web_request.query_string) and web_request.query.get("dry_run") in ("1", "true")


def _read(dialect: Reads[S], body: bytes | bytearray) -> tuple[S, bytes]:
    return dialect.parse(body), fingerprint_of(body, type(dialect).__name__.encode())
