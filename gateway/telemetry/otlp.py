"""Spans to a collector: OTLP 1 over HTTP, as protobuf.

Only loaded where a collector is configured; the `otel` extra brings the messages.
They are filled here and sent by the standard library: OpenTelemetry's own SDK takes
five times the processor time for the same bytes, and four times the disk.

Source: "OTLP Specification 1.8", sections "OTLP/HTTP Response" (which statuses are
worth another try) and "Partial Success".
"""

import http.client
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway import __version__
from gateway.config.schema import Tracing as Settings
from gateway.config.telemetry_checks import TRACES_PATH
from gateway.telemetry.clean import clean
from gateway.telemetry.spans import SEMANTIC_CONVENTIONS, Attribute, Traced

EXPORT_S: Final = 10.0
"""How long a batch is tried to be sent."""

_TRY_S: Final = 5.0
_BACKOFFS_S: Final = (1.0, 2.0, 4.0)
_WORTH_ANOTHER_TRY: Final = frozenset({429, 502, 503, 504})
_ANSWER_BYTES_MAX: Final = 64 * 1024

_KINDS: Final = {
    "server": trace_pb2.Span.SPAN_KIND_SERVER,
    "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
}
_HAS_IS_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_IS_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_SCHEMA: Final = f"https://opentelemetry.io/schemas/{SEMANTIC_CONVENTIONS}"


class OtlpExporter:
    """Sends spans to one collector. `export` is called on one thread."""

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.endpoint)
        self._connection = (
            http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        )
        self._address = url.hostname or "", url.port
        self._path = url.path.rstrip("/") + TRACES_PATH
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"ollama-gateway/{__version__}",
            **settings.headers,
        }
        self._service_name = settings.service_name
        self._ending = threading.Event()

    def export(self, traces: Sequence[Traced]) -> str:
        """As `Exporter.export`."""
        body = encode(traces, self._service_name)
        until = time.monotonic() + EXPORT_S
        why = ""
        for backoff_s in (*_BACKOFFS_S, EXPORT_S):
            again_in_s: float | None = backoff_s
            try:
                status, answered, answer = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                why = clean(f"{type(error).__name__}: {error}")
            else:
                if status == 200:
                    return _rejected(answer)
                why = f"status {status}"
                again_in_s = _again_in_s(status, answered, backoff_s)
            if again_in_s is None or time.monotonic() + again_in_s >= until:
                break
            if self._ending.wait(again_in_s):
                break
        return why

    def shutdown(self) -> None:
        """As `Exporter.shutdown`."""
        self._ending.set()

    def _post(self, body: bytes) -> tuple[int, Message, bytes]:
        # A connection for each batch: there is one every other second at the most.
        connection = self._connection(*self._address, timeout=_TRY_S)
        try:
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()


def encode(traces: Sequence[Traced], service_name: str) -> bytes:
    """The body of a request to a collector."""
    message = ExportTraceServiceRequest()
    ours = message.resource_spans.add()
    resource = {"service.name": service_name, "service.version": __version__}
    _put(resource, ours.resource.attributes.add)
    scope = ours.scope_spans.add(schema_url=_SCHEMA)
    scope.scope.name, scope.scope.version = "gateway", __version__
    add = scope.spans.add
    for context, spans in traces:
        trace_id = bytes.fromhex(context.trace_id)
        for span in spans:
            # Only the server's span can have a parent elsewhere.
            remote = _IS_REMOTE if span.kind == "server" and span.parent_id else 0
            made = add(
                trace_id=trace_id,
                span_id=bytes.fromhex(span.span_id),
                parent_span_id=bytes.fromhex(span.parent_id),
                flags=context.flags | _HAS_IS_REMOTE | remote,
                trace_state=context.state,
                name=span.name,
                kind=_KINDS[span.kind],
                start_time_unix_nano=_nanoseconds(span.start_s),
                end_time_unix_nano=_nanoseconds(span.end_s),
            )
            if span.failed:
                # No description: it would be a sentence.
                made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
            _put(span.attributes, made.attributes.add)
    body: bytes = message.SerializeToString()
    return body


def _put(attributes: Mapping[str, Attribute], add: Callable[..., KeyValue]) -> None:
    for key, value in attributes.items():
        made = add(key=key).value
        if isinstance(value, str):
            made.string_value = value
        elif isinstance(value, bool):  # an int too, and so before it
            made.bool_value = value
        elif isinstance(value, int):
            made.int_value = value
        else:
            made.double_value = value


def _nanoseconds(at: float) -> int:
    # A float tells microseconds of today.
    return round(at * 1e6) * 1000


def _again_in_s(status: int, headers: Message, backoff_s: float) -> float | None:
    """When to try once more; None where that would not help."""
    if status not in _WORTH_ANOTHER_TRY:
        return None
    said = headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdecimal() else backoff_s


def _rejected(answer: bytes) -> str:
    """What a collector that took the request did not take of it; "" if it took all."""
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return ""  # It has said 200, in words of its own.
    if not partial.rejected_spans:
        return ""
    return clean(f"{partial.rejected_spans} spans rejected: {partial.error_message}")
