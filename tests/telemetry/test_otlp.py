"""Real messages to a real process that decodes them."""

import socket
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from gateway import __version__
from gateway.config.schema import Tracing
from gateway.core.trace import RANDOM, SAMPLED, Trace, TraceContext
from gateway.telemetry import otlp
from gateway.telemetry.otlp import OtlpExporter
from gateway.telemetry.spans import Here, Traced, spans_of
from tests.telemetry.collecting import Collector, collecting
from tests.telemetry.records import exchange, record

CONTEXT = TraceContext(
    "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", SAMPLED | RANDOM, "congo=t61r"
)
HERE = Here(address="127.0.0.1", port=8000, kind_of=lambda _name: "ollama")
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200


def traced(parent_id: str = "b7ad6b7169203331", **changes: Any) -> Traced:
    told = exchange(trace=Trace(CONTEXT, ours=True, parent_id=parent_id), **changes)
    numbers = count(1)
    spans = spans_of(told, 1_700_000_000.25, here=HERE, new_span_id=lambda: f"{next(numbers):016x}")
    return CONTEXT, spans


@pytest.fixture(scope="module")
def running() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def collector(running: Collector) -> Collector:
    running.answer()
    return running


def exporter(url: str, **settings: Any) -> OtlpExporter:
    return OtlpExporter(Tracing(endpoint=url, **settings))


def test_a_collector_reads_the_spans_that_were_meant(collector: Collector) -> None:
    headers = {"authorization": "Bearer of-the-collector"}
    sent = exporter(collector.url + "/", headers=headers, service_name="llm")
    assert sent.export([traced()]) == ""
    request = collector.next()
    assert request["path"] == "/v1/traces"
    assert request["headers"] == {
        "content-type": "application/x-protobuf",
        "user-agent": f"ollama-gateway/{__version__}",
        **headers,
    }
    server, *children = request["spans"]
    assert server["resource"] == {"service.name": "llm", "service.version": __version__}
    assert server["scope"] == ["gateway", "https://opentelemetry.io/schemas/1.44.0"]
    assert (server["trace_id"], server["span_id"]) == (CONTEXT.trace_id, CONTEXT.span_id)
    assert (server["parent_id"], server["state"]) == ("b7ad6b7169203331", "congo=t61r")
    assert server["flags"] == SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE
    assert (server["name"], server["kind"]) == ("POST /v1/chat/completions", 2)
    assert server["start_ns"] == 1_699_999_998_250_000_000
    assert server["end_ns"] == 1_700_000_000_250_000_000
    assert (server["status"], server["status_message"], server["events"]) == (0, "", 0)
    assert server["attributes"]["gen_ai.usage.output_tokens"] == 20
    assert server["attributes"]["gen_ai.request.stream"] is True
    assert server["attributes"]["gen_ai.response.time_to_first_chunk"] == 0.5
    assert [span["name"] for span in children] == ["queue", "prefill", "decode"]
    for span in children:
        assert (span["parent_id"], span["kind"]) == (CONTEXT.span_id, 1)
        assert span["flags"] == SAMPLED | RANDOM | HAS_IS_REMOTE


def test_a_failure_has_a_status_and_no_words(collector: Collector) -> None:
    failed = traced(status=502, reason="connect", record=record(outcome="failed", status=502))
    assert exporter(collector.url).export([failed]) == ""
    server = collector.next()["spans"][0]
    assert (server["status"], server["status_message"]) == (2, "")
    assert server["attributes"]["error.type"] == "connect"


def test_a_trace_that_begins_here_has_no_parent(collector: Collector) -> None:
    assert exporter(collector.url).export([traced(parent_id="")]) == ""
    server = collector.next()["spans"][0]
    assert server["parent_id"] == ""
    assert not server["flags"] & IS_REMOTE


def test_an_endpoint_may_have_a_path(collector: Collector) -> None:
    assert exporter(collector.url + "/otlp").export([traced()]) == ""
    assert collector.next()["path"] == "/otlp/v1/traces"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 302])
def test_what_would_be_refused_again_is_not_sent_again(collector: Collector, status: int) -> None:
    collector.answer(status=status, headers={"Location": "/elsewhere"})
    assert exporter(collector.url).export([traced()]) == f"status {status}"
    collector.next()
    collector.answer()  # Nothing else has come.


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_work_later_is_sent_again_when_it_is_said(
    collector: Collector, status: int
) -> None:
    collector.answer(status=status, headers={"Retry-After": "0"})
    assert exporter(collector.url).export([traced()]) == f"status {status}"
    for _ in range(4):
        collector.next()
    collector.answer()


def test_a_collector_that_asks_for_too_much_patience_is_not_waited_for(
    collector: Collector,
) -> None:
    collector.answer(status=503, headers={"Retry-After": "3600"})
    assert exporter(collector.url).export([traced()]) == "status 503"
    collector.next()


def test_spans_that_it_rejects_are_told(collector: Collector) -> None:
    collector.answer(rejected=2)
    assert exporter(collector.url).export([traced()]) == "2 spans rejected: too old"
    collector.next()


def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


no_collector = pytest.fixture(nobody)


def test_a_collector_that_is_away_is_told_as_the_system_does(
    no_collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_BACKOFFS_S", ())
    why = exporter(no_collector).export([traced()])
    assert why == "ConnectionRefusedError: [Errno 111] Connection refused"


def test_the_end_breaks_off_waiting_for_another_try(
    no_collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_BACKOFFS_S", (9.0,))
    exporting = exporter(no_collector)
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(exporting.export([traced()])))
    thread.start()
    exporting.shutdown()
    thread.join(5.0)
    assert not thread.is_alive()
    assert "refused" in said[0]
