"""The edge: what happens to every request, whatever it is for.

Who are you, may you, what became of it. Any failure of a handler becomes the
envelope of an error here, and every request is told of exactly once here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.admission.callers import Callers, require_admin
from gateway.admission.models import told_to
from gateway.admission.throttle import AuthThrottle, address_of
from gateway.core.clock import Clock
from gateway.core.errors import (
    GatewayError,
    InternalError,
    MethodNotAllowed,
    ModelNotFound,
    NotSupported,
    Unauthorized,
    UnknownRoute,
    UnsupportedContentEncoding,
)
from gateway.core.trace import Trace
from gateway.telemetry.exchange import CLIENT_GONE, METHODS, Exchange
from gateway.telemetry.lines import QUIET_ROUTES
from gateway.web import inflate, unserved
from gateway.web.allowances import Allowances
from gateway.web.envelopes import envelope_of
from gateway.web.local import is_local, is_operator
from gateway.web.misdirected import meant
from gateway.web.origins import CorsHeaders, OriginPolicy
from gateway.web.refusals import say_when
from gateway.web.route import Access
from gateway.web.traced import BeginTrace, trace_of
from gateway.web.visit import VISIT, Visit

log = logging.getLogger("gateway.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
class Edge:
    """The one middleware.

    Args:
        tell: Called once for each request. Must not raise.
        access: By the path of a route who may have it; holders of a key where it is silent.
        metrics_public: What is for this machine is for everybody who reaches the port.
        local_admin: What is for operators is for root and our own account on this machine.
        throttle: Counts wrong keys.
        allowances: Says what is left of callers' limits.
        begin_trace: None where no request gets a span of ours.
    """

    def __init__(
        self,
        *,
        callers: Callers,
        clock: Clock,
        tell: Callable[[Exchange], None],
        origins: OriginPolicy,
        access: Mapping[str, Access],
        metrics_public: bool,
        local_admin: bool,
        throttle: AuthThrottle,
        allowances: Allowances,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        self._callers = callers
        self._clock = clock
        self._tell = tell
        self._origins = origins
        self._access = access
        self._metrics_public = metrics_public
        self._local_admin = local_admin
        self._throttle = throttle
        self._allowances = allowances
        self._begin_trace = begin_trace

    def change(
        self, *, callers: Callers, origins: OriginPolicy, metrics_public: bool, local_admin: bool
    ) -> None:
        """As in the constructor, from the next request on; what runs goes on."""
        self._callers = callers
        self._origins = origins
        self._metrics_public = metrics_public
        self._local_admin = local_admin

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        web_request = request  # aiohttp passes it by this name
        visit = Visit(web_request.headers.get("x-request-id"), self._clock.now())
        web_request[VISIT] = visit
        visit.trace = self._trace(web_request)
        status = CLIENT_GONE
        response: web.StreamResponse
        try:
            try:
                preflight = self._look_at_origin(web_request, visit)
                if preflight is None:
                    self._authenticate(web_request, visit)
                    response = await handler(web_request)
                else:
                    response = self._preflight(visit, preflight)
            except GatewayError as error:
                response = self.refusal(web_request, visit, error)
            except web.HTTPException as error:
                refused = _from_aiohttp(error, web_request.path, self._access)
                response = self.refusal(web_request, visit, refused)
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
        if isinstance(error, ModelNotFound):
            error = told_to(visit.caller, error)
        visit.error = error
        headers = visit.headers(self._clock.now(), visit.record.queue_s if visit.record else 0.0)
        headers[hdrs.CONTENT_TYPE] = "application/json"
        _explain(error, headers)
        envelope = envelope_of(web_request.path)
        body = envelope.body(error, visit.request_id)
        return web.Response(body=body, status=envelope.status(error), headers=headers)

    def _trace(self, web_request: web.Request) -> Trace | None:
        """The trace that it is part of; what machines ask all the time gets no span of its own."""
        begin = self._begin_trace
        if begin is not None and route_of(web_request) in QUIET_ROUTES:
            begin = None
        return trace_of(web_request.headers, begin)

    def _look_at_origin(self, web_request: web.Request, visit: Visit) -> CorsHeaders | None:
        """The page that sends this, if one does; what it is told if it only asks whether it may."""
        headers = web_request.headers
        origin = headers.get(hdrs.ORIGIN)
        visit.cors = self._origins.told(origin)
        if origin is None:
            return None
        self._origins.check(web_request.method, origin, headers.get(hdrs.HOST, ""))
        return self._origins.preflight(web_request.method, headers)

    def _preflight(self, visit: Visit, told: CorsHeaders) -> web.Response:
        """A browser asks whether a page may send a request; it sends no key with that."""
        headers = visit.headers(self._clock.now())
        headers.extend(told)
        return web.Response(status=204, headers=headers)

    def _authenticate(self, web_request: web.Request, visit: Visit) -> None:
        """Deny by default, by the matched route; a failure is final.

        Unknown routes want a key too, so that nobody can map them.
        """
        access = self._access.get(route_of(web_request), "key")
        if self._callers.open:
            visit.caller = self._callers.identify((), (), wall_s=self._clock.wall())
        elif access == "public":
            return
        else:
            headers = web_request.headers
            address = address_of(web_request.remote)
            try:
                caller = self._callers.identify(
                    headers.getall(hdrs.AUTHORIZATION, ()),
                    headers.getall("x-api-key", ()),
                    wall_s=self._clock.wall(),
                )
            except Unauthorized:
                if not self._may_without_key(web_request, access):
                    self._throttle.failed(address, visit.arrived_at)
                    raise
                return
            self._throttle.passed(address, caller.name, visit.arrived_at)
            visit.caller = caller
        visit.tell_allowances = self._allowances.teller(visit.caller, web_request.path)
        if access == "admin" and not self._may_without_key(web_request, access):
            require_admin(visit.caller)

    def is_operator(self, web_request: web.Request) -> bool:
        """Whether this visitor may see without a key what is for operators."""
        return self._may_without_key(web_request, "admin")

    def _may_without_key(self, web_request: web.Request, access: Access) -> bool:
        match access:
            case "local":
                return self._metrics_public or is_local(web_request)
            case "admin":
                return self._local_admin and is_operator(web_request)
            case _:
                return False

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
                trace=visit.trace,
            )
        )


def route_of(web_request: web.Request) -> str:
    """The template of the matched route, so that nothing a caller invents becomes a label."""
    resource = web_request.match_info.route.resource
    return "other" if resource is None else resource.canonical


def _explain(error: GatewayError, headers: CIMultiDict[str]) -> None:
    say_when(error, headers)
    if isinstance(error, Unauthorized):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    elif isinstance(error, MethodNotAllowed):
        headers[hdrs.ALLOW] = ", ".join(error.allowed)
    elif isinstance(error, UnsupportedContentEncoding):
        # What it may come back in: RFC 9110 section 15.5.16.
        headers[hdrs.ACCEPT_ENCODING] = inflate.ACCEPTED


def _from_aiohttp(error: web.HTTPException, path: str, known: Collection[str]) -> GatewayError:
    """The router's own refusals, in our words. `known`: the URLs that there are."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = tuple(sorted(error.allowed_methods))
            return MethodNotAllowed(
                f"This URL answers to {', '.join(allowed)} only.", allowed=allowed
            )
        case web.HTTPNotFound() if why := unserved.why(path):
            return NotSupported(why)
        case web.HTTPNotFound():
            if url := meant(path, known):
                return UnknownRoute(
                    f"There is no such URL here, but there is {url}: mend the base URL that the"
                    " client was given."
                )
            return UnknownRoute("There is no such URL here. Try /v1/models.")
        case _:
            return InternalError("Internal error.")
