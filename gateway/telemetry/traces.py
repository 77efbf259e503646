"""Traces on their way to a collector: a bounded buffer, and a thread that empties it.

Who answers a request appends and never waits. The thread makes spans of what it
finds and sends them, many at once. A collector that is slow or away costs spans,
which are counted, and nothing else.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Sequence
from random import Random
from time import time
from typing import Final, Protocol

from gateway.config.schema import Tracing as Settings
from gateway.core.errors import ConfigError
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.spans import Here, Traced, spans_of
from gateway.telemetry.tracing import Tracing

REQUESTS_MAX: Final = 2048
"""That wait to be sent, about 2 KiB each."""

BATCH_REQUESTS: Final = 128
LINGER_S: Final = 2.0
"""How long requests are collected before they are sent, unless there is a batch of them."""

CLOSE_S: Final = 2.0
"""How long the end of the daemon waits for a collector."""

log = logging.getLogger("gateway.traces")


class Exporter(Protocol):
    """Speaks to a collector. Called on one thread; `shutdown` on any."""

    def export(self, traces: Sequence[Traced]) -> str:
        """Send all of it, within seconds; "", or in a line why that did not work."""
        ...

    def shutdown(self) -> None:
        """Have a running `export` give up soon."""
        ...


class Traces:
    """The running traces.

    Every request that was told and is sampled is sent or counted in `dropped`.

    Attributes:
        tracing: Decides which requests are traced.
        sent, dropped: Requests whose spans a collector took; that nobody took.
    """

    def __init__(self, exporter: Exporter, *, tracing: Tracing, here: Here) -> None:
        self.tracing = tracing
        self.sent = 0
        self.dropped = 0
        self._exporter = exporter
        self._here = here
        self._waiting: deque[tuple[float, Exchange]] = deque()
        self._counting = threading.Lock()
        self._pending = threading.Event()
        self._urgent = threading.Event()
        self._closing = threading.Event()
        self._taken = True
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def exchanged(self, exchange: Exchange) -> None:
        """A request was answered. Never waits."""
        trace = exchange.trace
        if trace is None or not trace.ours or not trace.context.sampled:
            return
        if len(self._waiting) >= REQUESTS_MAX or self._closing.is_set():
            self._drop(1)
            return
        self._waiting.append((time(), exchange))
        if not self._pending.is_set():
            self._pending.set()
        if len(self._waiting) == BATCH_REQUESTS:
            self._urgent.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is left, for so long at the most, and take nothing more."""
        self._closing.set()
        self._urgent.set()
        self._pending.set()
        self._thread.join(timeout_s)
        self._exporter.shutdown()
        left = len(self._waiting)
        self._waiting.clear()
        if left:
            self._drop(left)
            log.warning("traces_left", extra={"requests": left})

    def _run(self) -> None:
        while not self._closing.is_set():
            self._pending.wait()
            self._urgent.wait(LINGER_S)
            # Cleared before the buffer is emptied: what comes now sets them again.
            self._pending.clear()
            self._urgent.clear()
            self._empty()
        self._empty()

    def _empty(self) -> None:
        while batch := self._batch():
            try:
                why = self._exporter.export([self._traced(*item) for item in batch])
            except Exception as error:
                # Of a library's error any text may quote anything.
                why = type(error).__name__
            if why:
                self._drop(len(batch))
            else:
                self.sent += len(batch)
            self._say(why)

    def _batch(self) -> list[tuple[float, Exchange]]:
        batch: list[tuple[float, Exchange]] = []
        while len(batch) < BATCH_REQUESTS:
            try:
                batch.append(self._waiting.popleft())
            except IndexError:  # `close` may empty it too
                break
        return batch

    def _traced(self, ended_at: float, exchange: Exchange) -> Traced:
        assert exchange.trace is not None
        new_span_id = self.tracing.new_span_id
        spans = spans_of(exchange, ended_at, here=self._here, new_span_id=new_span_id)
        return exchange.trace.context, spans

    def _drop(self, requests: int) -> None:
        with self._counting:
            self.dropped += requests

    def _say(self, why: str) -> None:
        """That nobody takes them, and that somebody does again; each once."""
        if why and self._taken:
            log.warning("traces_not_taken", extra={"reason": why})
        elif why:
            log.debug("traces_not_taken", extra={"reason": why})
        elif not self._taken:
            log.info("traces_taken", extra={"lost": self.dropped})
        self._taken = not why


def open_traces(settings: Settings, *, here: Here) -> Traces | None:
    """None where no collector is configured: then nothing of OpenTelemetry is loaded.

    Raises:
        ConfigError: One is, and what speaks to it is not installed.
    """
    if not settings.endpoint:
        return None
    try:
        from gateway.telemetry.otlp import OtlpExporter
    except ImportError:
        raise ConfigError(
            [
                "tracing.endpoint: opentelemetry-proto is not installed, which traces need; type"
                f" `{sys.executable} -m pip install 'ollama-gateway[otel]'`, or leave it empty."
            ]
        ) from None
    log.info("traces go to %s", settings.endpoint)
    dice = Random()  # nosec B311 # an id is no secret
    tracing = Tracing(sample_ratio=settings.sample_ratio, dice=dice)
    return Traces(OtlpExporter(settings), tracing=tracing, here=here)
