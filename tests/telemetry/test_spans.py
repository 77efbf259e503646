import json
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Priority
from gateway.core.trace import Trace, TraceContext
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.spans import Here, Span, spans_of
from tests.telemetry.records import exchange, record

ENDED_AT = 1_700_000_000.0
TRACE = Trace(
    TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
    ours=True,
    parent_id="b7ad6b7169203331",
)
HERE = Here(address="127.0.0.1", port=8000, kind_of={"ollama": "ollama"}.get)  # type: ignore[arg-type]


def spans(told: Exchange, here: Here = HERE) -> list[Span]:
    told.trace = TRACE
    numbers = count(1)
    return spans_of(told, ENDED_AT, here=here, new_span_id=lambda: f"{next(numbers):016x}")


def phases(**changes: Any) -> dict[str, tuple[float, float]]:
    """Name → start and length, from the request's arrival on."""
    ended = record(**changes)
    arrived_at = ENDED_AT - ended.total_s
    _, *children = spans(exchange(record=ended, total_s=ended.total_s + 0.5))
    return {
        span.name: (round(span.start_s - arrived_at, 3), round(span.end_s - span.start_s, 3))
        for span in children
    }


def test_a_request_is_one_span_of_the_server_with_its_phases_below() -> None:
    server, *children = spans(exchange(total_s=2.5))
    assert (server.name, server.kind) == ("POST /v1/chat/completions", "server")
    assert (server.span_id, server.parent_id) == (TRACE.context.span_id, TRACE.parent_id)
    assert (server.start_s, server.end_s) == (ENDED_AT - 2.5, ENDED_AT)
    assert [(span.parent_id, span.kind) for span in children] == [
        (server.span_id, "internal") for _ in children
    ]
    assert len({span.span_id for span in (server, *children)}) == 1 + len(children)


def test_the_phases_follow_each_other_from_arrival_to_end() -> None:
    assert phases(queue_s=0.2, load_s=0.3, first_token_s=0.9, total_s=2.0) == {
        "queue": (0.0, 0.2),
        "load": (0.2, 0.3),
        "prefill": (0.5, 0.4),
        "decode": (0.9, 1.1),
    }


def test_a_load_within_the_engine_is_told_by_its_own_word() -> None:
    told = phases(queue_s=0.1, first_token_s=0.9, timings=Timings(load_s=0.5))
    assert told["load"] == (0.1, 0.5)
    assert told["prefill"] == (0.6, 0.3)
    # It may count more than was waited for.
    assert phases(queue_s=0.1, first_token_s=0.9, timings=Timings(load_s=60.0))["load"] == (
        0.1,
        0.8,
    )


def test_without_a_load_there_is_no_span_of_one() -> None:
    assert list(phases()) == ["queue", "prefill", "decode"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"outcome": "refused", "status": 503, "queue_s": 0.0, "first_token_s": None}, []),
        (
            {"outcome": "cancelled", "status": 499, "phase": "queued", "queue_s": 2.0}
            | {"first_token_s": None},
            ["queue"],
        ),
        ({"outcome": "failed", "status": 504, "queue_s": 2.0, "first_token_s": None}, ["queue"]),
        (
            {"outcome": "cancelled", "status": 499, "phase": "waiting", "first_token_s": None},
            ["queue", "prefill"],
        ),
        ({"outcome": "failed", "status": 502, "first_token_s": None}, ["queue", "prefill"]),
        ({"outcome": "failed", "status": 502}, ["queue", "prefill", "decode"]),
    ],
)
def test_a_request_that_ended_early_has_the_phases_that_it_reached(
    changes: dict[str, Any], names: list[str]
) -> None:
    assert list(phases(**changes)) == names


def test_what_the_conventions_have_a_name_for_has_it() -> None:
    ended = record(usage=Usage(prompt=10, completion=20, cached=4))
    server, *_ = spans(exchange(record=ended))
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "llama3.2",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "llama3.2",
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gateway.request_id": "req-1",
        "gateway.caller": "anonymous",
        "gateway.upstream": "ollama",
        "gateway.outcome": "completed",
    }
    assert not server.failed


def test_what_was_decided_is_told_where_it_is_not_the_usual() -> None:
    decided = record(
        priority=Priority.BATCH, expected_wait_s=0.25, attempts=2, truncated=True, rejoined=True
    )
    usual, told = (spans(exchange(record=each))[0].attributes for each in (record(), decided))
    assert {name: told[name] for name in told.keys() - usual.keys()} == {
        "gateway.priority": "batch",
        "gateway.expected_wait": 0.25,
        "gateway.attempts": 2,
        "gateway.truncated": True,
        "gateway.rejoined": True,
    }


@pytest.mark.parametrize(
    ("changes", "error_type", "failed"),
    [
        ({"status": 404, "reason": "model_not_found"}, "model_not_found", False),
        ({"status": 502, "reason": "connect"}, "connect", True),
        ({"status": 503, "reason": "queue_full"}, "queue_full", True),
        ({"status": 499}, "client_gone", False),
    ],
)
def test_an_error_is_a_word_and_a_failure_only_if_it_is_ours(
    changes: dict[str, Any], error_type: str, failed: bool
) -> None:
    server, *_ = spans(exchange(record=None, **changes))
    assert server.attributes["error.type"] == error_type
    assert server.failed == failed
    assert ("http.response.status_code" in server.attributes) == (changes["status"] != 499)


def test_a_stream_that_broke_failed_although_its_head_said_200() -> None:
    broken = record(outcome="failed", status=502, reason="disconnect")
    server, *_ = spans(exchange(record=broken))
    assert server.failed
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["error.type"] == "disconnect"
    assert "gen_ai.response.model" not in server.attributes


def test_what_a_caller_invents_is_no_name() -> None:
    (server,) = spans(exchange(route="other", method="OTHER", status=405, record=None))
    assert server.name == "HTTP"
    assert server.attributes["http.request.method"] == "_OTHER"
    assert "http.route" not in server.attributes
    (server,) = spans(exchange(route="other", method="GET", status=404, record=None))
    assert server.name == "GET"


def test_a_port_that_is_not_known_is_not_told() -> None:
    here = Here(address="127.0.0.1", port=0, kind_of=lambda _name: "")
    server, *_ = spans(exchange(), here)
    assert "server.port" not in server.attributes
    assert "gen_ai.provider.name" not in server.attributes


@given(model=st.text(max_size=500), upstream=st.text(max_size=50), caller=st.text(max_size=50))
def test_texts_are_short_and_plain(model: str, upstream: str, caller: str) -> None:
    told = spans(exchange(caller=caller, record=record(model=model, upstream=upstream)))
    text = json.dumps([dict(span.attributes) for span in told])
    assert text.isascii()
    assert all(len(value) <= 200 for value in texts_of(told))


def texts_of(told: Sequence[Span]) -> list[str]:
    return [value for span in told for value in span.attributes.values() if isinstance(value, str)]


seconds = st.floats(min_value=0.0, max_value=1e4)


@given(queue=seconds, load=seconds, said=seconds, first=st.none() | seconds, total=seconds)
def test_phases_lie_within_the_request_and_behind_each_other(
    queue: float, load: float, said: float, first: float | None, total: float
) -> None:
    ended = record(
        queue_s=queue, load_s=load, first_token_s=first, total_s=total,
        timings=Timings(load_s=said),
    )  # fmt: skip
    server, *children = spans(exchange(record=ended, total_s=total))
    times = [time for span in children for time in (span.start_s, span.end_s)]
    inside = [server.start_s, *times, server.end_s]
    assert all(later - earlier >= -1e-6 for earlier, later in pairwise(inside))
