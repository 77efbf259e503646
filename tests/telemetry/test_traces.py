"""What is told of is sent or counted, and nobody waits for it."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from random import Random

import pytest

from gateway.config.schema import Tracing as Settings
from gateway.core.errors import ConfigError
from gateway.core.trace import Trace, TraceContext
from gateway.telemetry.spans import Here, Traced
from gateway.telemetry.traces import BATCH_REQUESTS, REQUESTS_MAX, Traces, open_traces
from gateway.telemetry.tracing import Tracing
from tests.telemetry.records import exchange

HERE = Here(address="127.0.0.1", port=8000, kind_of=lambda _name: "echo")
HANG_S = 10.0


class Shelf:
    """An exporter that keeps what it is given, once it is let."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Traced]] = []
        self.why: str | Exception = ""
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.done = threading.Semaphore(0)

    def export(self, traces: Sequence[Traced]) -> str:
        self.entered.set()
        assert self.open.wait(HANG_S)
        self.batches.append(traces)
        self.done.release()
        if isinstance(self.why, Exception):
            raise self.why
        return self.why

    def shutdown(self) -> None:
        self.open.set()

    @property
    def names(self) -> list[str]:
        """Of all spans."""
        return [span.name for batch in self.batches for _, spans in batch for span in spans]


Start = Callable[[Shelf], Traces]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("gateway.telemetry.traces.LINGER_S", 0.0)
    running: list[Traces] = []

    def started(shelf: Shelf) -> Traces:
        traces = Traces(
            shelf,
            tracing=Tracing(sample_ratio=1.0, dice=Random(7)),
            here=HERE,
        )
        running.append(traces)
        return traces

    yield started
    for traces in running:
        traces.close()


def test_each_request_is_sent_with_its_spans(start: Start) -> None:
    shelf = Shelf()
    traces = start(shelf)
    for _ in range(3):
        traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    traces.close()
    assert shelf.names == ["POST /v1/chat/completions", "queue", "prefill", "decode"] * 3
    assert len({context.trace_id for batch in shelf.batches for context, _ in batch}) == 3
    assert (traces.sent, traces.dropped) == (3, 0)


def test_what_is_not_ours_or_not_sampled_is_not_sent(start: Start) -> None:
    shelf = Shelf()
    traces = start(shelf)
    came = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 0)
    for trace in (None, Trace(came), traces.tracing.begin(came)):
        traces.exchanged(exchange(trace=trace))
    traces.close()
    assert shelf.batches == []
    assert (traces.sent, traces.dropped) == (0, 0)


def test_many_go_together_but_not_too_many(start: Start) -> None:
    shelf = Shelf()
    shelf.open.clear()
    traces = start(shelf)
    traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    assert shelf.entered.wait(HANG_S)  # What comes now waits.
    for _ in range(2 * BATCH_REQUESTS):
        traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    shelf.open.set()
    traces.close(HANG_S)
    assert [len(batch) for batch in shelf.batches] == [1, BATCH_REQUESTS, BATCH_REQUESTS]


def test_what_a_slow_collector_does_not_take_is_dropped_and_counted(start: Start) -> None:
    shelf = Shelf()
    shelf.open.clear()
    traces = start(shelf)
    traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    assert shelf.entered.wait(HANG_S)
    for _ in range(REQUESTS_MAX + 10):
        traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    assert traces.dropped == 10
    shelf.open.set()
    traces.close(HANG_S)
    assert (traces.sent, traces.dropped) == (REQUESTS_MAX + 1, 10)


def test_the_end_waits_for_a_collector_no_longer_than_it_may(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf()
    shelf.open.clear()
    monkeypatch.setattr(shelf, "shutdown", lambda: None)  # It does not even give up when told.
    traces = start(shelf)
    traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    assert shelf.entered.wait(HANG_S)
    traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    traces.close(0.01)
    assert traces.dropped == 1
    traces.exchanged(exchange(trace=traces.tracing.begin(None)))
    assert traces.dropped == 2
    shelf.open.set()


def test_that_nobody_takes_them_is_said_once_and_that_somebody_does_again(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.traces")
    shelf = Shelf()
    traces = start(shelf)
    for why in ("refused", "refused", OSError("a secret"), "", ""):
        shelf.why = why
        traces.exchanged(exchange(trace=traces.tracing.begin(None)))
        assert shelf.done.acquire(timeout=HANG_S)
    traces.close(HANG_S)
    said = [(record.message, getattr(record, "reason", "")) for record in caplog.records]
    assert said == [("traces_not_taken", "refused"), ("traces_taken", "")]
    assert (traces.sent, traces.dropped) == (2, 3)


def test_without_a_collector_there_is_nothing() -> None:
    assert open_traces(Settings(), here=HERE) is None


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys; from gateway.cli.main import main; import gateway.daemon.run;"
        "sys.exit(any(name.startswith(('opentelemetry', 'google')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_missing_package_is_a_mistake_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.telemetry.otlp", raising=False)
    messages = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    monkeypatch.setitem(sys.modules, messages, None)
    settings = Settings(endpoint="http://127.0.0.1:4318")
    with pytest.raises(ConfigError) as raised:
        open_traces(settings, here=HERE)
    (mistake,) = raised.value.mistakes
    assert mistake.startswith("tracing.endpoint: ")
    assert "pip install 'ollama-gateway[otel]'" in mistake
