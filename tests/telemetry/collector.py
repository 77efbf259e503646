"""A collector: a process of its own that takes OTLP over HTTP and decodes the real messages.

It listens on a free port, which it prints, and then prints a line of JSON for each
request that it was sent: the headers of interest, and the spans in it. What it
answers is said on its standard input, a line of JSON for each request from then on.

    python -m tests.telemetry.collector
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

_KEPT = ("content-type", "authorization", "user-agent")


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping; fails when one is there twice."""
    found = {each.key: _value(each) for each in attributes}
    assert len(found) == len(attributes)
    return found


def _value(attribute: KeyValue) -> Any:
    return getattr(attribute.value, attribute.value.WhichOneof("value") or "")


def spans_in(body: bytes) -> list[dict[str, Any]]:
    """Every span, with what stands above it."""
    return [
        {
            "resource": plain(resource.resource.attributes),
            "scope": [scope.scope.name, scope.schema_url],
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_span_id.hex(),
            "state": span.trace_state,
            "flags": span.flags,
            "name": span.name,
            "kind": span.kind,
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "status": span.status.code,
            "status_message": span.status.message,
            "events": len(span.events),
            "attributes": plain(span.attributes),
        }
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


class _Handler(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {
            "path": self.path,
            "headers": {name: self.headers[name] for name in _KEPT if name in self.headers},
            "spans": spans_in(body),
        }
        # Before it is answered: whoever knows that it was sent finds it here.
        print(json.dumps(told), flush=True)
        answer = ExportTraceServiceResponse()
        if rejected := self.answers.get("rejected"):
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = "too old"
        text = answer.SerializeToString()
        self.send_response(self.answers.get("status", 200))
        for name, value in self.answers.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        _Handler.answers = json.loads(line)
        print("{}", flush=True)  # From now on that is so.


if __name__ == "__main__":
    main()
