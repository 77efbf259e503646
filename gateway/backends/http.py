"""The one client-side HTTP layer: a shared session, a time for each phase, bounds, our errors.

An `Exchange` is one request and its answer, held by `async with`. The answer's
connection goes back to the pool only when the answer has ended; left earlier
it is closed, which is how an engine learns that nobody waits any more.

Times are ours, not aiohttp's: a token must not cost a timer. Each answer has
one timer that looks at how long the pending read has waited, and is set anew
only when it fires. Slots bound the number of connections, so the pool doesn't.
"""

import asyncio
import io
from collections.abc import AsyncIterable, Mapping
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

import gateway
from gateway.backends.reading import arrival, take
from gateway.config.schema import Limits, Timeouts
from gateway.core import jsonio
from gateway.core.clock import Clock, Timer
from gateway.core.errors import (
    BackendError,
    GatewayError,
    RequestTimeout,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamStalled,
    UpstreamUnreachable,
)
from gateway.core.jsonio import Json
from gateway.core.trace import current

PROBE_TIMEOUT_S: Final = 5.0
"""For questions that an engine answers from memory."""

KEEPALIVE_S: Final = 20.0
"""Shorter than what engines keep an idle connection for, so that we close first."""

LINGER_S: Final = 1.0
"""How long the end of the body may lag behind the record that says the answer is whole."""

COME_BACK_S: Final = 1.0
"""What an unreachable or busy engine is given, where nobody knows better."""

_DNS_CACHE_S: Final = 60
_READ_BYTES: Final = 64 * 1024
_BODY_COPIED_BYTES_MAX: Final = 1024 * 1024

_USER_AGENT: Final = f"ollama-gateway/{gateway.__version__}"
# What aiohttp would add by itself; a compressed answer is not wanted.
_NOT_SENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

Headers = CIMultiDict[str]


def headers(values: Mapping[str, str]) -> Headers:
    """Headers in the form that costs least per request; made once for an endpoint."""
    return CIMultiDict(values)


def endpoint(base: str, path: str) -> URL:
    """The URL of one endpoint; made once, because parsing costs more than a token."""
    return URL(base.rstrip("/") + path)


class HttpClient:
    """One session shared by all backends.

    Keeps: every open exchange is in `_open` until its connection is back in the
    pool or closed, so that `close` leaves none behind.
    """

    def __init__(self, *, timeouts: Timeouts, limits: Limits, clock: Clock) -> None:
        self._timeouts = timeouts
        self._limits = limits
        self._clock = clock
        self._timeout = _timeout(timeouts)
        self._session: aiohttp.ClientSession | None = None
        self._open: set[Exchange] = set()

    def change(self, timeouts: Timeouts) -> None:
        """These hold for what is opened from now on."""
        self._timeouts = timeouts
        self._timeout = _timeout(timeouts)

    async def start(self) -> None:
        assert self._session is None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=_DNS_CACHE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": _USER_AGENT},
            skip_auto_headers=_NOT_SENT,
            read_bufsize=_READ_BYTES,
        )

    async def close(self) -> None:
        """Break what is still open, then close every connection. May be called twice."""
        for exchange in tuple(self._open):
            exchange.break_off(UpstreamDisconnected("The gateway is stopping."))
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def open(
        self,
        method: str,
        url: URL,
        *,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Headers | None = None,
        first_byte_timeout_s: float | None = None,
        stall_timeout_s: float | None = None,
        bytes_max: int | None = None,
    ) -> "Exchange":
        """A request for as long as the block lasts; see `Exchange`.

        Where it is sent for a request that is part of a trace, so is this one.

        Args:
            body: Pieces are sent as they come, while the answer may already be read.
            first_byte_timeout_s, stall_timeout_s, bytes_max: Instead of the configured ones.
        """
        if first_byte_timeout_s is None:
            first_byte_timeout_s = self._timeouts.first_byte_timeout_seconds
        if stall_timeout_s is None:
            stall_timeout_s = self._timeouts.stall_timeout_seconds
        if bytes_max is None:
            bytes_max = self._limits.upstream_answer_bytes_max
        trace = current.get()
        if trace is not None:
            headers = CIMultiDict(headers or (), **trace.context.headers)
        return Exchange(
            self,
            method,
            url,
            body,
            headers,
            first_byte_timeout_s=first_byte_timeout_s,
            stall_timeout_s=stall_timeout_s,
            bytes_max=bytes_max,
        )

    async def get_json(
        self,
        url: URL,
        *,
        headers: Headers | None = None,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> Json:
        """Ask a small question.

        Raises:
            BackendError: Another status than 200, no JSON, or no connection.
            RequestTimeout: No answer in time.
        """
        status, document = await self.ask("GET", url, headers=headers, timeout_s=timeout_s)
        if status != 200:
            raise UpstreamFailed("The engine answered a question about itself with an error.")
        return document

    async def ask(
        self,
        method: str,
        url: URL,
        *,
        body: bytes = b"",
        headers: Headers | None = None,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> tuple[int, Json]:
        """Ask a small question; the status, and the document when it is 200, else None.

        Raises:
            BackendError: No JSON, or no connection.
            RequestTimeout: No answer in time.
        """
        try:
            async with (
                self._clock.timeout_at(self._clock.now() + timeout_s),
                self.open(method, url, body=body, headers=headers) as exchange,
            ):
                if exchange.status != 200:
                    return exchange.status, None
                answer = await exchange.read_all(self._limits.upstream_answer_bytes_max)
        except TimeoutError as error:
            raise RequestTimeout("The engine did not answer a question in time.") from error
        try:
            return 200, jsonio.loads(answer)
        except ValueError as error:
            raise UpstreamBadResponse("The engine's answer is not JSON.") from error


class Exchange:
    """One request and its answer.

    Entering sends the request and waits for the status. Leaving closes the
    connection, unless the answer has ended or `finish` said that it is whole.

    Raises, on entering:
        UpstreamUnreachable: No connection within the connect timeout.
        UpstreamDisconnected: Closed before the status; `untouched` is set.
        UpstreamBadResponse: What came is not HTTP.
        RequestTimeout: No status within the first-byte timeout.
    """

    __slots__ = (
        "_body",
        "_bytes_max",
        "_client",
        "_clock",
        "_connection_lost",
        "_content",
        "_expired",
        "_first_byte_timeout_s",
        "_headers",
        "_method",
        "_opening",
        "_received",
        "_response",
        "_stall_timeout_s",
        "_timer",
        "_url",
        "_waiting_since",
        "_whole",
        "status",
    )

    _response: aiohttp.ClientResponse
    _content: aiohttp.StreamReader
    _connection_lost: asyncio.Future[None] | None
    _timer: Timer

    def __init__(
        self,
        client: HttpClient,
        method: str,
        url: URL,
        body: bytes | AsyncIterable[bytes],
        headers: Headers | None,
        *,
        first_byte_timeout_s: float,
        stall_timeout_s: float,
        bytes_max: int,
    ) -> None:
        self._client = client
        self._first_byte_timeout_s = first_byte_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._clock = client._clock
        self._method = method
        self._url = url
        self._body = body
        self._headers = headers
        self._bytes_max = bytes_max
        self._received = 0
        self._waiting_since: float | None = None
        self._whole = False
        self._opening: asyncio.Task[object] | None = None
        self._expired = False
        self.status = 0

    async def __aenter__(self) -> Self:
        session = self._client._session
        if session is None:
            # The last questions of the health check may meet a daemon that ends.
            raise UpstreamDisconnected("The gateway is stopping.")
        self._waiting_since = now = self._clock.now()
        body = self._body
        self._opening = task = self._clock.current_task()
        cancelling = task.cancelling()
        self._watch(now)
        try:
            response = await session.request(
                self._method,
                self._url,
                # aiohttp warns of larger bytes, which it would write in one piece.
                data=io.BytesIO(body)
                if isinstance(body, bytes) and len(body) > _BODY_COPIED_BYTES_MAX
                else body,
                headers=self._headers,
                allow_redirects=False,
                timeout=self._client._timeout,
            )
        except asyncio.CancelledError:
            self._timer.cancel()
            # As asyncio.timeout() does: a cancellation from elsewhere goes first.
            if self._expired and task.uncancel() <= cancelling:
                raise _too_late() from None
            raise
        except BaseException as error:
            self._timer.cancel()
            # TimeoutError is an OSError, and UnicodeError what a host name gives that
            # DNS has no spelling for.
            if isinstance(error, (aiohttp.ClientError, OSError, UnicodeError)):
                raise _failed_to_open(error) from error
            raise
        self._opening = None
        self._body = (
            b""  # It is on its way; a large one need not be kept for as long as the answer.
        )
        self._response = response
        self._content = response.content
        self.status = response.status
        self._client._open.add(self)
        self._hear_of_loss()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    @property
    def retry_after(self) -> str:
        """The header of that name, or nothing."""
        return self._response.headers.get("Retry-After", "")

    @property
    def content_type(self) -> str:
        """The header of that name, or nothing."""
        return self._response.headers.get("Content-Type", "")

    async def read_some(self) -> bytes:
        """What has come since the last read, at least one byte; empty at the end.

        Raises:
            UpstreamDisconnected: The connection ended before the body did.
            UpstreamBadResponse: The body breaks HTTP, or the bound on an answer.
            UpstreamStalled: Silent for longer than the stall timeout.
            RequestTimeout: No byte of the body within the first-byte timeout.
        """
        if self._received:
            self._waiting_since = self._clock.now()
        content = self._content
        try:
            while (arriving := arrival(content)) is not None:
                await arriving
            data = take(content)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise _failed_to_read(error) from error
        self._waiting_since = None
        self._received += len(data)
        if self._received > self._bytes_max:
            raise UpstreamBadResponse("The engine's answer is larger than it may be.")
        return data

    async def read_all(self, bytes_max: int) -> bytes:
        """The rest of the body. Raises as `read_some`, UpstreamBadResponse beyond `bytes_max`."""
        pieces: list[bytes] = []
        while data := await self.read_some():
            pieces.append(data)
            bytes_max -= len(data)
            if bytes_max < 0:
                raise UpstreamBadResponse("The engine's answer is larger than it may be.")
        return b"".join(pieces)

    def finish(self) -> None:
        """Say that the answer is whole, although its body may not have ended yet."""
        self._whole = True

    def leave(self) -> None:
        """Give the connection back, or close it. What leaving the block does."""
        self._timer.cancel()
        if self._content.is_eof():
            self._came_home()  # aiohttp did that when the end arrived.
        elif self._whole and self._content.exception() is None:
            # An engine says "done" a moment before it ends the body. Nobody has
            # to wait for that: the connection goes home by itself, or is closed.
            self._timer = self._clock.call_at(self._clock.now() + LINGER_S, self._close)
            self._content.on_eof(self._came_home)
        else:
            self._close()

    def break_off(self, error: GatewayError) -> None:
        """Close the connection under whoever reads from it; the read raises `error`."""
        self._content.set_exception(error)
        self._close()

    def _watch(self, now: float) -> None:
        """Break the pending read if it has waited too long, else look again when it could have."""
        limit_s = stall_s = self._stall_timeout_s
        if not self._received:
            limit_s = self._first_byte_timeout_s
        due_at = now + stall_s
        since = self._waiting_since
        # Nobody waits while the reader is busy with its own client, or when
        # bytes have come that it will see in this turn of the loop.
        opening = self._opening
        if since is not None and (
            opening is not None or self._content.total_bytes == self._received
        ):
            if since + limit_s <= now:
                self._expire(opening)
                return
            # No later than a stall from now: the first byte shortens the limit.
            due_at = min(due_at, since + limit_s)
        self._timer = self._clock.call_at(due_at, self._look)

    def _expire(self, opening: asyncio.Task[object] | None) -> None:
        if opening is not None:
            self._expired = True
            opening.cancel()
        else:
            self._content.set_exception(
                UpstreamStalled("The model stopped answering midway.")
                if self._received
                else _too_late()
            )

    def _look(self) -> None:
        self._watch(self._clock.now())

    def _hear_of_loss(self) -> None:
        # Where a chunk is broken, aiohttp's C parser forgets the body that it was
        # reading (3.14.5): the connection is closed and the reader never told.
        connection = self._response.connection
        protocol = None if connection is None else connection.protocol
        self._connection_lost = None if protocol is None else protocol.closed
        if self._connection_lost is not None:
            self._connection_lost.remove_done_callback(_retrieve)
            self._connection_lost.add_done_callback(self._lose)

    def _lose(self, connection_lost: asyncio.Future[None]) -> None:
        _retrieve(connection_lost)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(
                UpstreamBadResponse("The answer of the model's engine breaks HTTP.")
            )

    def _came_home(self) -> None:
        self._timer.cancel()
        self._client._open.discard(self)
        if self._connection_lost is not None:
            self._connection_lost.remove_done_callback(self._lose)
            self._connection_lost.add_done_callback(_retrieve)

    def _close(self) -> None:
        self._timer.cancel()
        self._client._open.discard(self)
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            # A plain close would first wait for an unread request body to be sent.
            connection.transport.abort()
        self._response.close()


def _timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None,
        # Looked at only when no pooled connection is there.
        connect=timeouts.connect_timeout_seconds,
        sock_connect=None,
        sock_read=None,
        # Above this aiohttp rounds up to whole seconds.
        ceil_threshold=3600,
    )


def _too_late() -> RequestTimeout:
    return RequestTimeout("The model did not begin to answer in time.")


def _failed_to_open(error: Exception) -> GatewayError:
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return UpstreamUnreachable(
                "The model's engine can't be reached.", retry_after_s=COME_BACK_S
            )
        case aiohttp.ClientConnectionError() | ConnectionError():
            return UpstreamDisconnected(
                "The model's engine closed the connection before it answered.", untouched=True
            )
        case TimeoutError():
            return _too_late()
        case aiohttp.ClientError():
            return UpstreamBadResponse("The model's engine did not answer in HTTP.")
        case _:
            return UpstreamUnreachable(
                "The model's engine can't be reached.", retry_after_s=COME_BACK_S
            )


def _failed_to_read(error: Exception) -> BackendError:
    if isinstance(error, HttpProcessingError):
        return UpstreamBadResponse("The answer of the model's engine breaks HTTP.")
    return UpstreamDisconnected("The connection to the engine ended before its answer did.")


def _retrieve(connection_lost: asyncio.Future[None]) -> None:
    """Take note of why a connection ended; what nobody takes note of, the loop logs."""
    connection_lost.exception()
