"""The edge: what happens to every request, whatever it is for.

Who are you, may you, what became of it. Any failure of a handler becomes the
envelope of an error here, and every request is told of exactly once here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.admission.callers import Callers
from gateway.core.clock import Clock
from gateway.core.errors import (
    GatewayError,
    InternalError,
    MethodNotAllowed,
    Unauthorized,
    UnknownRoute,
)
from gateway.telemetry.exchange import CLIENT_GONE, METHODS, Exchange
from gateway.web.envelopes import envelope_of
from gateway.web.origins import OriginPolicy, preflight
from gateway.web.refusals import say_when
from gateway.web.visit import VISIT, Visit

log = logging.getLogger("gateway.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PUBLIC: Final = frozenset({"/health"})
"""Routes for everybody."""

LOCAL: Final = frozenset({"/ready", "/metrics"})
"""Routes for whoever is on this machine, or has a key."""

_FORWARDED: Final = (hdrs.X_FORWARDED_FOR, hdrs.FORWARDED)


@web.middleware
class Edge:
    """The one middleware.

    Args:
        tell: Called once for each request. Must not raise.
        metrics_public: Serve LOCAL routes to everybody who reaches the port.
    """

    def __init__(
        self,
        *,
        callers: Callers,
        clock: Clock,
        tell: Callable[[Exchange], None],
        origins: OriginPolicy,
        metrics_public: bool,
    ) -> None:
        self._callers = callers
        self._clock = clock
        self._tell = tell
        self._origins = origins
        self._metrics_public = metrics_public

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        web_request = request  # aiohttp passes it by this name
        visit = Visit(web_request.headers.get("x-request-id"), self._clock.now())
        web_request[VISIT] = visit
        status = CLIENT_GONE
        response: web.StreamResponse
        try:
            try:
                visit.origin = self._origins.check(web_request.method, web_request.headers)
                if visit.origin is not None and web_request.method == hdrs.METH_OPTIONS:
                    response = self._preflight(web_request, visit, visit.origin)
                else:
                    self._authenticate(web_request, visit)
                    response = await handler(web_request)
            except GatewayError as error:
                response = self.refusal(web_request, visit, error)
            except web.HTTPException as error:
                response = self.refusal(web_request, visit, _from_aiohttp(error))
            except (asyncio.CancelledError, ConnectionError):
                raise
            except Exception:
                log.exception("request %s failed", visit.request_id)
                response = self.refusal(web_request, visit, InternalError("Internal error."))
            status = response.status
            return response
        finally:
            self._told(web_request, visit, status)

    def refusal(
        self, web_request: web.Request, visit: Visit, error: GatewayError
    ) -> web.StreamResponse:
        """The answer to a request that failed before its first byte."""
        visit.error = error
        headers = visit.headers(self._clock.now(), visit.record.queue_s if visit.record else 0.0)
        headers[hdrs.CONTENT_TYPE] = "application/json"
        _explain(error, headers)
        envelope = envelope_of(web_request.path)
        body = envelope.body(error, visit.request_id)
        return web.Response(body=body, status=envelope.status(error), headers=headers)

    def _preflight(self, web_request: web.Request, visit: Visit, origin: str) -> web.Response:
        """A browser asks whether a page may send a request; it sends no key with that."""
        headers = visit.headers(self._clock.now())
        wanted = web_request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        preflight(origin, wanted, headers)
        return web.Response(status=204, headers=headers)

    def _authenticate(self, web_request: web.Request, visit: Visit) -> None:
        """Deny by default, by the matched route; a failure is final.

        Unknown routes want a key too, so that nobody can map them.
        """
        if self._callers.open:
            visit.caller = self._callers.identify((), ())
            return
        route = route_of(web_request)
        if route in PUBLIC:
            return
        headers = web_request.headers
        try:
            visit.caller = self._callers.identify(
                headers.getall(hdrs.AUTHORIZATION, ()), headers.getall("x-api-key", ())
            )
        except Unauthorized:
            if route not in LOCAL or not (self._metrics_public or _is_local(web_request)):
                raise

    def _told(self, web_request: web.Request, visit: Visit, status: int) -> None:
        error = visit.error
        method = web_request.method
        if error is not None:
            reason = error.reason
        else:
            reason = "client_gone" if status == CLIENT_GONE else ""
        self._tell(
            Exchange(
                request_id=visit.request_id,
                route=route_of(web_request),
                method=method if method in METHODS else "OTHER",
                status=status,
                code="" if error is None else error.code,
                reason=reason,
                caller="" if visit.caller is None else visit.caller.name,
                total_s=self._clock.now() - visit.arrived_at,
                record=visit.record,
            )
        )


def route_of(web_request: web.Request) -> str:
    """The template of the matched route, so that nothing a caller invents becomes a label."""
    resource = web_request.match_info.route.resource
    return "other" if resource is None else resource.canonical


def _is_local(web_request: web.Request) -> bool:
    """Whether it comes from this machine, and not through a proxy on it."""
    if any(name in web_request.headers for name in _FORWARDED):
        return False
    remote = web_request.remote
    return remote is not None and (remote == "::1" or remote.startswith("127."))


def _explain(error: GatewayError, headers: CIMultiDict[str]) -> None:
    say_when(error, headers)
    if isinstance(error, Unauthorized):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    elif isinstance(error, MethodNotAllowed):
        headers[hdrs.ALLOW] = ", ".join(error.allowed)


def _from_aiohttp(error: web.HTTPException) -> GatewayError:
    """The router's own refusals, in our words."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = tuple(sorted(error.allowed_methods))
            return MethodNotAllowed(
                f"This URL answers to {', '.join(allowed)} only.", allowed=allowed
            )
        case web.HTTPNotFound():
            return UnknownRoute("There is no such URL here. Try /v1/models.")
        case _:
            return InternalError("Internal error.")
