"""One client connection: what aiohttp's own lacks to stand at the edge.

`aiohttp.web_protocol.RequestHandler` parses, and calls the app. This subclass adds,
at its documented seams (`connection_made`, `data_received`, `pause_writing`,
`finish_response`, `handle_error`):

- every refusal below the app in our envelope, without a traceback and without an echo;
- a check of each head before routing, and no `100 Continue` but from `read_body`;
- an end to clients who never finish a head, or never read their answer;
- a close that does not take the answer away from a client who is still sending.

A client that closes its sending half after a request is taken for gone, as aiohttp
does: there is no telling it from one that left, and those must free their slot at once.

The good path pays for one check of the head, two calls and a handful of attribute reads.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import attrs
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.hdrs import EXPECT
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.schema import Limits, Timeouts
from gateway.core.errors import (
    BadHttp,
    GatewayError,
    HeadTimeout,
    HeadTooLarge,
    InternalError,
    RequestTimeout,
    TooManyConnections,
    TooManyOfOneAddress,
)
from gateway.web.head import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    LINE_BYTES_MAX,
    check_head,
    refusal_of,
)
from gateway.web.hosts import HostPolicy
from gateway.web.limits import Verdict
from gateway.web.refusals import EncodeError, refusal_response
from gateway.web.stall import StallWatch

log = logging.getLogger("gateway.web")

LINGER_S: Final = 2.0
"""How long a client that is still sending may read its refusal before the connection is cut."""

READ_BUFFER_BYTES: Final = 64 * 1024
"""What a body may run ahead of its handler; twice this is held at the most, and one read."""

WIRE_OVERHEAD: Final = 8
WIRE_SLACK_BYTES: Final = 64 * 1024
"""Chunked framing may cost eight bytes on the wire for each byte of the body (one-byte chunks
cost six) and this much more; above that it is all chunk extensions."""

_RETRY_AFTER_S: Final = 1.0

# Called by name: super() costs a tenth of a microsecond each time.
_parse: Final = RequestHandler.data_received
_finish: Final = RequestHandler.finish_response


class OnRefusal(Protocol):
    """Told once of each request that was refused below the app."""

    def __call__(self, error: GatewayError, *, remote: str, request_id: str) -> None: ...


@attrs.frozen(kw_only=True)
class ConnectionSettings:
    """What every connection is made with.

    Attributes:
        encode_error: The JSON envelope of an error.
        new_request_id: Called for each refusal.
        on_refusal: For the log line and the metric.
        on_closed: Why we, not the client, closed a connection: header_timeout,
            keepalive_timeout, body_timeout, write_stall, evicted,
            too_many_connections, bad_http.
        health_path: What is answered on connections of the reserve, to GET.
    """

    timeouts: Timeouts
    limits: Limits
    hosts: HostPolicy
    encode_error: EncodeError
    new_request_id: Callable[[], str]
    on_refusal: OnRefusal
    on_closed: Callable[[str], None]
    health_path: str = "/health"


class Registry(Protocol):
    """What connections know of each other; the server that made them.

    Attributes:
        draining: Every answer is now the last one of its connection.
        handing_over: So is every stream, also one that had promised otherwise.
        settings: Of all connections; others after a reload.
    """

    draining: bool
    handing_over: bool
    settings: ConnectionSettings

    def admit(self, connection: "GatewayConnection", address: str) -> Verdict: ...

    def head_complete(self, connection: "GatewayConnection") -> None:
        """It has sent the head of its first request."""
        ...

    def may_linger(self, connection: "GatewayConnection") -> bool:
        """Whether it may stay open for its client to read a refusal."""
        ...


class GatewayConnection(RequestHandler):
    """One client connection, in aiohttp's place of a RequestHandler."""

    __slots__ = (
        "_answered",
        "_body",
        "_body_wire_bytes",
        "_head_bytes",
        "_headless",
        "_health_only",
        "_line_ended",
        "_lingers",
        "_refused",
        "_registry",
        "_stall_watch",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        registry: Registry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            logger=log,
            access_log=None,  # type: ignore[arg-type]  # None is documented to mean none.
            keepalive_timeout=registry.settings.timeouts.keepalive_timeout_seconds,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            lingering_time=0.0,  # Replaced by _linger().
        )
        self._registry = registry
        self._health_only = False
        # Of the head that is being received:
        self._headless = True
        self._head_bytes = 0
        self._line_ended = False
        # Of the body that is being received, or was last:
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_wire_bytes = 0
        # Of the answers:
        self._refused = False
        self._answered: web.BaseRequest | None = None
        self._lingers = False
        self._stall_watch: StallWatch | None = None

    @property
    def _settings(self) -> ConnectionSettings:
        return self._registry.settings

    # --- The connection's beginning and end ---------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = self.peername
        address = peer[0] if isinstance(peer, tuple) else ""
        match self._registry.admit(self, address):
            case Verdict.HEALTH_ONLY:
                self._health_only = True
            case Verdict.REFUSED:
                self._queue_refusal(_too_many())
            case Verdict.ADDRESS_REFUSED:
                self._queue_refusal(
                    TooManyOfOneAddress(
                        "Too many connections from this address.", retry_after_s=_RETRY_AFTER_S
                    )
                )

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._stall_watch is not None:
            self._stall_watch.end()

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here, handled, or on its way out."""
        waiter = self._waiter
        begun = self._headless and self._head_bytes
        return waiter is not None and not waiter.done() and not begun

    def close(self) -> None:
        super().close()
        if self._lingers:
            self.force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        # Of one that was accepted a moment ago the task may have begun to wait for a
        # request only after all were closed. It would hold up the end for all of the
        # timeout, since aiohttp does not wake it here.
        self.close()
        await super().shutdown(timeout)

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        if transport is not None and transport.get_write_buffer_size():
            # Closing waits for a client who may never read the rest.
            self._watch_writes(transport)

    def evict(self) -> None:
        """Give way to another connection."""
        self._settings.on_closed("evicted")
        self.force_close()

    def cut_head(self) -> None:
        """The head did not come in time. Who sent a line is told so."""
        if self._line_ended:
            self._queue_refusal(HeadTimeout("The request did not arrive in time."))
        else:
            self._settings.on_closed("header_timeout")
            self.force_close()

    def _process_keepalive(self) -> None:
        closed_before = self._force_close
        super()._process_keepalive()
        if self._force_close and not closed_before:
            self._settings.on_closed("keepalive_timeout")

    # --- Bytes in -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        waiting = len(messages)
        if len(data) > LINE_BYTES_MAX and not self._line_ended:
            self._line_ended = data.find(b"\n", 0, LINE_BYTES_MAX) >= 0
        _parse(self, data)
        if len(messages) > waiting:
            self._check_messages(waiting)
        elif data:
            waiter = self._waiter
            # There is none either while a request is handled, or until aiohttp's task of
            # the connection has begun: what came with the connection itself is of a head.
            idle = self._headless and not self._close if waiter is None else not waiter.done()
            if idle:
                self._count_head(data)
            else:
                self._count_body(data)

    def _check_messages(self, first: int) -> None:
        """Requests were received; some with their bodies, and the last may be none."""
        messages = self._messages
        hosts = self._settings.hosts
        for index in range(first, len(messages)):
            message, body = messages[index]
            if isinstance(message, _ErrInfo):
                self._break_body()
                continue
            self._body = body
            self._line_ended = False
            headers = message.headers
            refusal = check_head(message.method, message.path, message.version, headers, hosts)
            if refusal is None and self._health_only and not self._is_health(message):
                refusal = _too_many()
            if refusal is not None:
                messages[index] = _error_info(refusal), body
            elif message.upgrade or EXPECT in headers:
                messages[index] = _without_offers(message), body
        self._body_wire_bytes = 0
        self._head_bytes = 0
        if self._headless:
            self._headless = False
            self._registry.head_complete(self)

    def _is_health(self, message: RawRequestMessage) -> bool:
        return message.method == hdrs.METH_GET and message.path == self._settings.health_path

    def _count_head(self, data: bytes) -> None:
        """The head is still incomplete."""
        self._head_bytes += len(data)
        self._line_ended = self._line_ended or b"\n" in data
        if self._head_bytes > HEAD_BYTES_MAX:
            self._queue_refusal(HeadTooLarge(f"A head may have {HEAD_BYTES_MAX} bytes."))

    def _count_body(self, data: bytes) -> None:
        """A request is being handled, and this was no further one."""
        body = self._body
        if not body.is_eof():
            self._body_wire_bytes += len(data)
            bytes_max = WIRE_SLACK_BYTES + WIRE_OVERHEAD * body.total_bytes
            if self._body_wire_bytes > bytes_max:
                self._break_body()

    def _break_body(self) -> None:
        """Whoever reads the body that is being received is told that it is broken.

        The C parser reports broken framing as if it were a next request, and leaves
        them waiting for the rest.
        """
        if not self._body.is_eof():
            self._body.set_exception(RequestPayloadError("broken framing"))
            self._close = True

    # --- Refusals -----------------------------------------------------------

    def _queue_refusal(self, error: GatewayError) -> None:
        """Answer although no request was read. Whatever the client still sends is thrown away."""
        self._messages.append((_error_info(error), EMPTY_PAYLOAD))
        self._close = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _refused_with(self, error: GatewayError) -> web.Response:
        self._refused = True
        settings = self._settings
        request_id = settings.new_request_id()
        peer = self.peername
        settings.on_refusal(
            error, remote=peer[0] if isinstance(peer, tuple) else "", request_id=request_id
        )
        settings.on_closed(_close_reason(error))
        return refusal_response(error, request_id, settings.encode_error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no request, and to an exception that left the app.

        Raises:
            ConnectionError: An answer has begun, or the client is gone: nothing can be said.
        """
        if isinstance(exc, ConnectionError):
            raise exc
        if exc is not None and request._message is ERROR:
            request._version = HttpVersion11  # aiohttp says 1.0, which has no Connection.
            return self._refused_with(refusal_of(exc, line_ended=self._line_ended))
        error: GatewayError
        if isinstance(exc, GatewayError):
            error = exc
        elif status == 504:
            error = RequestTimeout("The answer was not there in time.")
        else:
            error = InternalError("Internal error.")
        request_id = self._settings.new_request_id()
        if isinstance(error, InternalError):
            log.error("request %s failed", request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        return refusal_response(error, request_id, self._settings.encode_error)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        if not isinstance(kw.get("exc_info"), (RequestPayloadError, ConnectionError)):
            log.error(*args, **kw)

    # --- Answers ------------------------------------------------------------

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        self._answered = request
        if (
            request.content.is_eof()
            and request.keep_alive
            and not self._refused
            # The head of a stream that began earlier has promised that the
            # connection stays: the next request on it hears of the drain. Only
            # where another process serves who connects again is that of no use.
            and (not self._registry.draining or (resp.prepared and not self._registry.handing_over))
        ):
            return _finish(self, request, resp, start_time)
        return self._finish_and_close(request, resp, start_time)

    async def _finish_and_close(
        self, request: web.BaseRequest, response: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        unread = not request.content.is_eof()
        if isinstance(response, web.StreamResponse) and not response.prepared:
            response.force_close()
        result = await _finish(self, request, response, start_time)
        self._close = True
        transport = self.transport
        if transport is None:
            return result
        if response.status == 408 and unread:
            self._settings.on_closed("body_timeout")
        if (unread or self._refused) and self._registry.may_linger(self):
            await self._linger(transport)
        if transport.get_write_buffer_size():
            self._watch_writes(transport)
        return result

    async def _linger(self, transport: asyncio.Transport) -> None:
        """Let the client read its answer: closed at once, a client that still sends gets a reset.

        Our half is closed, so it sees the end; what it sends is thrown away unparsed
        until it closes too or LINGER_S is over. RFC 9112 section 9.6.
        """
        self._lingers = True
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        await asyncio.sleep(LINGER_S)

    # --- Clients who don't read ---------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._watch_writes(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_watch is not None and self.transport is not None:
            self._stall_watch.end()

    def _watch_writes(self, transport: asyncio.Transport) -> None:
        if self._stall_watch is None or not self._stall_watch.watching:
            self._stall_watch = StallWatch(
                transport,
                timeout_s=self._settings.timeouts.write_timeout_seconds,
                bytes_written=self._bytes_written,
                on_stall=lambda: self._settings.on_closed("write_stall"),
                loop=self._loop,
            )

    def _bytes_written(self) -> int:
        request = self._current_request or self._answered
        return 0 if request is None else request.writer.output_size


def _too_many() -> TooManyConnections:
    return TooManyConnections(
        "Too many connections are open. Please try again.", retry_after_s=_RETRY_AFTER_S
    )


def _error_info(error: GatewayError) -> _ErrInfo:
    return _ErrInfo(status=error.status, exc=error, message="")


def _close_reason(error: GatewayError) -> str:
    match error:
        case TooManyConnections():
            return "too_many_connections"
        case HeadTimeout():
            return "header_timeout"
        case _:
            return BadHttp.reason


def _without_offers(message: RawRequestMessage) -> RawRequestMessage:
    """The same request without what aiohttp would answer on sight, before the caller is known.

    It would send a 100 for an Expect header. An upgrade is not done here, so what
    follows it is in doubt: it is not read.
    """
    headers = CIMultiDict(message.headers)
    headers.popall(EXPECT, None)
    return message._replace(
        headers=CIMultiDictProxy(headers), should_close=message.should_close or message.upgrade
    )
