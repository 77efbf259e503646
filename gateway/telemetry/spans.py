"""A finished request as spans. Pure.

    POST /v1/chat/completions      the HTTP request, kind server
      queue                        until it had its slot
      load                         until its model was in memory, if that was waited for
      prefill                      until the first token
      decode                       until the end

They are made of the times in the `RequestRecord`, after the answer has gone: while
it runs nothing is noted for them. Names follow OpenTelemetry's semantic conventions
1.44 for HTTP servers and for generative AI; what they have no word for is
`gateway.…`. No attribute holds a text of a caller's, but for the name of a model as
the log has it, and a span that failed says why in a word of ours, never in a sentence.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import attrs

from gateway.core.ticket import Priority, RequestRecord
from gateway.core.trace import TraceContext
from gateway.telemetry.clean import clean
from gateway.telemetry.exchange import CLASSES, CLIENT_GONE, OTHER, Exchange

SEMANTIC_CONVENTIONS: Final = "1.44.0"
"""The version whose names are used."""

Attribute = str | int | float | bool


@attrs.frozen(kw_only=True)
class Span:
    """One span, in nobody's format.

    Attributes:
        parent_id: "" for the first of its trace.
        start_s, end_s: Seconds since the epoch.
        failed: The service did not do what it should have; a refusal of what is
            wrong with the request is none of its failures.
    """

    name: str
    kind: Literal["server", "internal"]
    span_id: str
    parent_id: str
    start_s: float
    end_s: float
    failed: bool = False
    attributes: Mapping[str, Attribute]


Traced = tuple[TraceContext, Sequence[Span]]
"""The spans of one request, and where its own is in its trace."""


@attrs.frozen(kw_only=True)
class Here:
    """What spans say of this gateway.

    Attributes:
        address, port: Where it listens; 0 where the port is not known.
        kind_of: The kind of an upstream, by its name; "" for one that is gone.
    """

    address: str
    port: int
    kind_of: Callable[[str], str]


def spans_of(
    exchange: Exchange, ended_at: float, *, here: Here, new_span_id: Callable[[], str]
) -> list[Span]:
    """The spans of a request that has a trace of ours, the server's first.

    Args:
        ended_at: Seconds since the epoch.
    """
    trace, record = exchange.trace, exchange.record
    assert trace is not None
    # A stream that broke had a 200 in its head.
    status = exchange.status if record is None else max(exchange.status, record.status)
    server = Span(
        name=_name(exchange),
        kind="server",
        span_id=trace.context.span_id,
        parent_id=trace.parent_id,
        start_s=ended_at - exchange.total_s,
        end_s=ended_at,
        failed=status >= 500,
        attributes={
            **_http(exchange, here),
            **({} if record is None else _generation(record, here)),
        },
    )
    phases = () if record is None else _phases(record, ended_at - record.total_s)
    return [
        server,
        *(
            Span(
                name=name,
                kind="internal",
                span_id=new_span_id(),
                parent_id=server.span_id,
                start_s=start_s,
                end_s=end_s,
                attributes={},
            )
            for name, start_s, end_s in phases
        ),
    ]


def _phases(record: RequestRecord, arrived_at: float) -> Iterator[tuple[str, float, float]]:
    """What an accepted request went through: name, start and end, one right after the other.

    The record's times lie one behind the other already; they are bounded by it all the
    same, since an engine's own word on its load may not fit them.
    """
    if record.outcome == "refused":
        return
    total_s = record.total_s
    slot_s = min(record.queue_s, total_s)
    yield "queue", arrived_at, arrived_at + slot_s
    if record.phase == "queued" or slot_s == total_s:
        return
    first_s = total_s
    if record.first_token_s is not None:
        first_s = min(max(record.first_token_s, slot_s), total_s)
    load_s = min(max(record.load_s, record.timings.load_s or 0.0), first_s - slot_s)
    loaded_s = slot_s + load_s
    if load_s > 0.0:
        yield "load", arrived_at + slot_s, arrived_at + loaded_s
    yield "prefill", arrived_at + loaded_s, arrived_at + first_s
    if record.first_token_s is not None:
        yield "decode", arrived_at + first_s, arrived_at + total_s


def _name(exchange: Exchange) -> str:
    method = "HTTP" if exchange.method == "OTHER" else exchange.method
    return method if exchange.route == OTHER else f"{method} {exchange.route}"


def _http(exchange: Exchange, here: Here) -> dict[str, Attribute]:
    told: dict[str, Attribute] = {
        "http.request.method": "_OTHER" if exchange.method == "OTHER" else exchange.method,
        "url.scheme": "http",
        "server.address": here.address,
        "gateway.request_id": clean(exchange.request_id),
    }
    if here.port:
        told["server.port"] = here.port
    if exchange.route != OTHER:
        told["http.route"] = exchange.route
    if exchange.status != CLIENT_GONE:  # else nothing was sent
        told["http.response.status_code"] = exchange.status
    if exchange.caller:
        told["gateway.caller"] = clean(exchange.caller)
    record = exchange.record
    reason = exchange.reason or ("" if record is None else record.reason)
    if reason or exchange.status == CLIENT_GONE:
        told["error.type"] = reason or "client_gone"
    return told


def _generation(record: RequestRecord, here: Here) -> dict[str, Attribute]:
    told: dict[str, Attribute] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.request.model": clean(record.model),
        "gen_ai.request.stream": record.stream,
        "gateway.outcome": record.outcome,
    }
    if record.upstream:
        told["gateway.upstream"] = clean(record.upstream)
        if kind := here.kind_of(record.upstream):
            told["gen_ai.provider.name"] = kind
    if record.outcome == "completed":
        told["gen_ai.response.model"] = clean(record.model)
    if record.stream and record.first_token_s is not None:
        told["gen_ai.response.time_to_first_chunk"] = record.first_token_s
    usage = record.usage
    if usage.prompt or usage.completion:
        told["gen_ai.usage.input_tokens"] = usage.prompt
        told["gen_ai.usage.output_tokens"] = usage.completion
    if usage.cached is not None:
        told["gen_ai.usage.cache_read.input_tokens"] = usage.cached
    if record.phase:
        told["gateway.phase"] = record.phase
    if record.priority is not None and record.priority is not Priority.NORMAL:
        told["gateway.priority"] = CLASSES[record.priority]
    if record.expected_wait_s > 0.0:
        told["gateway.expected_wait"] = record.expected_wait_s
    if record.attempts > 1:
        told["gateway.attempts"] = record.attempts
    if record.truncated:
        told["gateway.truncated"] = True
    if record.rejoined:
        told["gateway.rejoined"] = True
    return told
