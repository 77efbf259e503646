"""One running answer, whatever the engine's wire: bytes in, events out, and how it may end."""

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from gateway.backends.http import Exchange
from gateway.core.errors import GatewayError, RequestTimeout, UpstreamDisconnected
from gateway.core.messages import Event, Finished, FinishReason, Usage

SLACK_EVENTS: Final = 256
"""Events beyond the token limit that an engine may send: pieces of UTF-8, tool calls."""

_UNBOUNDED: Final = 2**62


class AnswerReader(Protocol):
    """Reads one engine's wire. Pure. Once it has given `Finished` it is fed nothing more."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete.

        Raises:
            UpstreamBadResponse, UpstreamFailed, ContextLengthExceeded
        """
        ...

    def end(self) -> list[Event]:
        """The body has ended: the events that were held back for that.

        Raises:
            UpstreamDisconnected: The answer had not ended.
            UpstreamBadResponse: There was none.
        """
        ...

    def salvage(self) -> list[Event]:
        """The connection broke: the end of an answer that was whole by then, else nothing."""
        ...


class AnswerStream:
    """The `EventStream` of the engines that are spoken to by HTTP.

    Args:
        exchange: Not entered yet.
        refuse: The error that a status other than 200 means.
        require: Asked before anything is sent; raises what speaks against it, or gives
            an exchange that is entered instead.
        max_tokens: An engine that sends far more is cut off there.
    """

    __slots__ = (
        "_events_left",
        "_events_max",
        "_exchange",
        "_reader",
        "_refuse",
        "_require",
        "ends",
    )

    def __init__(
        self,
        exchange: Exchange,
        reader: AnswerReader,
        *,
        refuse: Callable[[Exchange], Awaitable[GatewayError]],
        require: Callable[[], Awaitable[Exchange | None]] | None = None,
        max_tokens: int | None,
    ) -> None:
        self._exchange = exchange
        self._reader = reader
        self._refuse = refuse
        self._require = require
        self._events_max = _UNBOUNDED if max_tokens is None else max_tokens + SLACK_EVENTS
        self._events_left = self._events_max
        self.ends: list[Finished] = []

    async def __aenter__(self) -> Self:
        if self._require is not None:
            self._exchange = await self._require() or self._exchange
        exchange = self._exchange
        await exchange.__aenter__()
        if exchange.status != 200:
            try:
                raise await self._refuse(exchange)
            finally:
                exchange.leave()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exchange.leave()

    async def read(self) -> Sequence[Event]:
        reader = self._reader
        exchange = self._exchange
        while not self.ends:
            try:
                data = await exchange.read_some()
            except (UpstreamDisconnected, RequestTimeout):
                events = reader.salvage()
                if not events:
                    raise
            else:
                events = reader.feed(data) if data else reader.end()
            if not events:
                continue
            self._events_left -= len(events)
            last = events[-1]
            if type(last) is Finished:
                self.ends.append(last)
                exchange.finish()
            elif self._events_left < 0:
                return self._cut(events)
            return events
        return ()

    def _cut(self, events: list[Event]) -> Sequence[Event]:
        """End an answer that runs on and on. Leaving the block then closes the connection."""
        end = Finished(FinishReason.LENGTH, Usage(completion=self._events_max))
        self.ends.append(end)
        return [*events[: self._events_left], end]
