"""Traces to OpenTelemetry's own Collector: what it writes down is what was meant.

`make test-collector` builds it (tests/real/collector) and names it by COLLECTOR_BIN.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.real.clients import sdk, user
from tests.real.gateway_process import serving
from tests.real.processes import PATIENCE_S, free_port, wait_until

pytestmark = pytest.mark.collector

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"

CONFIG: Final = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
exporters:
  file: {{path: "{written}", flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
"""


class Collector:
    """The running program, and the file that it writes."""

    def __init__(self, port: int, written: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._written = written

    def spans(self) -> list[dict[str, Any]]:
        """Of all requests so far, as the Collector has read them."""
        if not self._written.exists():
            return []
        return [
            {**span, "resource": resource["resource"], "schema": scope["schemaUrl"]}
            for line in self._written.read_text("utf-8").splitlines()
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    program = os.environ.get("COLLECTOR_BIN")
    assert program, "COLLECTOR_BIN must name a Collector; `make test-collector` builds one"
    port, written = free_port(), tmp_path / "traces.json"
    config = tmp_path / "collector.yaml"
    config.write_text(CONFIG.format(port=port, written=written))
    with subprocess.Popen([program, "--config", f"file:{config}"]) as process:
        try:
            yield Collector(port, written)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """OTLP's JSON, where numbers of 64 bits are texts."""
    found = {}
    for each in attributes:
        ((kind, value),) = each["value"].items()
        found[each["key"]] = int(value) if kind == "intValue" else value
    return found


def test_the_collector_reads_what_was_meant(collector: Collector, tmp_path: Path) -> None:
    directory = tmp_path / "gateway"
    directory.mkdir()
    settings = {
        "GATEWAY__BACKEND__KIND": "echo",
        "MODEL_NAME": "echo",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "llm",
    }
    with serving(directory, **settings) as gateway, sdk(gateway) as client:
        chunks = client.chat.completions.create(
            model="echo",
            messages=user("one two three"),
            stream=True,
            extra_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        assert list(chunks)
        wait_until(lambda: len(collector.spans()) == 4, "the spans of one request")
        assert gateway.metric("gateway_traces_sent_total") == 1
    server, *children = sorted(collector.spans(), key=lambda span: span["kind"], reverse=True)
    assert (server["name"], server["kind"]) == ("POST /v1/chat/completions", 2)
    assert (server["traceId"], server["parentSpanId"]) == (TRACE, PARENT)
    assert server["schema"].startswith("https://opentelemetry.io/schemas/1.")
    assert plain(server["resource"]["attributes"])["service.name"] == "llm"
    told = plain(server["attributes"])
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["gen_ai.request.stream"] is True
    assert told["http.response.status_code"] == 200
    assert {span["name"] for span in children} == {"queue", "prefill", "decode"}
    for span in children:
        assert (span["traceId"], span["parentSpanId"]) == (TRACE, server["spanId"])
        assert int(server["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
        assert int(span["endTimeUnixNano"]) <= int(server["endTimeUnixNano"])
