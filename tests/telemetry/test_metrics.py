from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Outcome, Priority
from gateway.telemetry.families.labels import MODELS_MAX
from gateway.telemetry.families.registry import CONTENT_TYPE
from gateway.telemetry.families.state import Gauges, UpstreamGauges
from gateway.telemetry.metrics import GEN_AI_SERIES_MAX, SERIES_MAX, Metrics
from tests.telemetry import promtool
from tests.telemetry.exposition import Page, read
from tests.telemetry.records import exchange, record

ROUTES: Final = [("POST", "/v1/chat/completions"), ("GET", "/health"), ("GET", "/metrics")]

INHERITED: Final = {
    "request_latency_seconds": ("histogram", ()),
    "time_to_first_token_seconds": ("histogram", ()),
    "tokens_per_second": ("histogram", ()),
    "tokens_generated_total": ("counter", ()),
    "active_requests": ("gauge", ()),
    "request_queue_depth": ("gauge", ()),
    "model_loaded": ("gauge", ()),
    "inference_errors_total": ("counter", ("type",)),
    "requests_total": ("counter", ("model", "status")),
    "queue_wait_seconds": ("histogram", ()),
    "backend_latency_seconds": ("histogram", ()),
}

OWN: Final = {
    "gateway_requests_total": ("counter", ("method", "route", "status")),
    "gateway_rejected_total": ("counter", ("reason",)),
    "gateway_upstream_errors_total": ("counter", ("kind",)),
    "gateway_client_gone_total": ("counter", ("phase",)),
    "gateway_connections_closed_total": ("counter", ("reason",)),
    "gateway_write_stalls_total": ("counter", ()),
    "gateway_build_info": ("gauge", ("version",)),
    "gateway_log_lines_dropped_total": ("counter", ()),
    "gateway_traces_sent_total": ("counter", ()),
    "gateway_traces_dropped_total": ("counter", ()),
    "gateway_series_refused_total": ("counter", ()),
    "gateway_slots": ("gauge", ("upstream",)),
    "gateway_slots_busy": ("gauge", ("upstream",)),
    "gateway_upstream_up": ("gauge", ("upstream",)),
    "gateway_requests_accepted_total": ("counter", ()),
    "gateway_requests_completed_total": ("counter", ()),
    "gateway_requests_failed_total": ("counter", ()),
    "gateway_requests_cancelled_total": ("counter", ()),
    "gateway_promises_broken_total": ("counter", ()),
    "gateway_request_queue_max": ("gauge", ()),
    "gateway_ready": ("gauge", ()),
    "gateway_draining": ("gauge", ()),
    "gateway_last_drain_cut_off_requests": ("gauge", ()),
    "gateway_models_loaded": ("gauge", ("upstream",)),
    "gateway_models_loaded_bytes": ("gauge", ("upstream",)),
    "gateway_state_free_bytes": ("gauge", ()),
    "gateway_state_size_bytes": ("gauge", ()),
    "gateway_requests_waiting": ("gauge", ("priority",)),
    "gateway_expected_wait_seconds": ("gauge", ()),
    "gateway_wait_estimate_ratio": ("histogram", ()),
    "gateway_service_estimate_ratio": ("histogram", ()),
    "gateway_slot_seconds_total": ("counter", ("priority",)),
    "gateway_wasted_slot_seconds_total": ("counter", ()),
    "gateway_prompt_tokens_total": ("counter", ("source",)),
    "gateway_model_swaps_total": ("counter", ()),
    "gateway_model_load_seconds": ("histogram", ()),
    "gateway_truncated_total": ("counter", ()),
    "gateway_rejoined_total": ("counter", ()),
    "gateway_kept_answers_bytes": ("gauge", ()),
    "gateway_places_held": ("gauge", ()),
    "gateway_places_returned_total": ("counter", ()),
    "gateway_places_lost_total": ("counter", ()),
    "gateway_caller_requests_total": ("counter", ("caller", "outcome")),
    "gateway_caller_tokens_total": ("counter", ("caller", "kind")),
    "gateway_caller_slot_seconds_total": ("counter", ("caller",)),
    "gateway_storage_errors_total": ("counter", ()),
    "gateway_config_reloads_total": ("counter", ("result",)),
    "gateway_config_last_reload_successful": ("gauge", ()),
    "gateway_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "gateway_loop_lag_seconds": ("histogram", ()),
    "process_resident_memory_bytes": ("gauge", ()),
    "process_cpu_seconds_total": ("counter", ()),
    "process_open_fds": ("gauge", ()),
    "process_max_fds": ("gauge", ()),
    "process_start_time_seconds": ("gauge", ()),
}

GEN_AI: Final = {
    "gen_ai_server_request_duration_seconds": ("histogram", ("error_type",)),
    "gen_ai_server_time_to_first_token_seconds": ("histogram", ()),
    "gen_ai_server_time_per_output_token_seconds": ("histogram", ()),
    "gen_ai_client_token_usage": ("histogram", ("gen_ai_token_type",)),
}
"""OpenTelemetry's; the labels are those besides model and operation."""

ALL: Final = {**INHERITED, **OWN, **GEN_AI}

OLLAMA: Final = UpstreamGauges(
    name="ollama", slots=4, busy=3, up=True, models_loaded=2, models_loaded_bytes=3000
)


def started() -> Metrics:
    metrics = Metrics("1.2.3", routes=ROUTES, state_directory=".")
    metrics.set_models(["llama3.2"])
    return metrics


def scraped(metrics: Metrics, **gauges: Any) -> Page:
    return read(metrics.render(Gauges(**gauges)))


def test_every_metric_has_its_name_type_and_labels() -> None:
    page = scraped(started(), upstreams=[OLLAMA], expected_wait_s=0.0, last_drain_cut_off=0)
    assert page.types == {name: kind for name, (kind, _) in ALL.items()}
    for name, (kind, labels) in ALL.items():
        if name in GEN_AI:
            labels = tuple(sorted((*labels, "gen_ai_operation_name", "gen_ai_request_model")))
        assert page.labels(f"{name}_count" if kind == "histogram" else name) == {labels}, name


def test_prometheus_finds_no_fault_before_or_after_traffic() -> None:
    metrics = started()
    promtool.check(metrics.render(Gauges()))
    metrics.told(record())
    metrics.exchanged(exchange())
    metrics.refused("bad_http")
    metrics.told(record(rejoined=True, upstream=""))
    metrics.model_loaded(2.0)
    promtool.check(metrics.render(Gauges(upstreams=[OLLAMA], expected_wait_s=1.5)))


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_known_series_are_there_at_zero_from_the_start() -> None:
    page = scraped(started())
    for kind in ("backend_error", "model_not_found", "overload", "queue_full", "auth_failure"):
        assert page.value("inference_errors_total", type=kind) == 0
    for kind in ("timeout", "client_gone", "shutting_down", "invalid_request", "context_length"):
        assert page.value("inference_errors_total", type=kind) == 0
    assert page.value("requests_total", model="llama3.2", status="200") == 0
    for method, route in ROUTES:
        series = {"method": method, "route": route, "status": "200"}
        assert page.value("gateway_requests_total", **series) == 0
    for reason in ("bad_http", "host", "head_too_large", "body_timeout", "deadline", "queue_full"):
        assert page.value("gateway_rejected_total", reason=reason) == 0
    for kind in ("connect", "disconnect", "bad_response", "error", "busy", "timeout", "stall"):
        assert page.value("gateway_upstream_errors_total", kind=kind) == 0
    for phase in ("reading", "queued", "waiting", "streaming"):
        assert page.value("gateway_client_gone_total", phase=phase) == 0
    assert page.value("gateway_connections_closed_total", reason="header_timeout") == 0
    for priority in ("interactive", "normal", "batch"):
        assert page.value("gateway_slot_seconds_total", priority=priority) == 0
        assert page.value("gateway_requests_waiting", priority=priority) == 0
    for source in ("evaluated", "cached"):
        assert page.value("gateway_prompt_tokens_total", source=source) == 0
    assert page.value("tokens_generated_total") == 0
    assert page.value("request_latency_seconds_count") == 0


def test_a_completed_request_is_seen_by_every_distribution() -> None:
    metrics = started()
    metrics.told(record())
    page = scraped(metrics)
    assert page.value("requests_total", model="llama3.2", status="200") == 1
    assert page.value("request_latency_seconds_sum") == 2.0
    assert page.value("time_to_first_token_seconds_sum") == 0.5
    assert page.value("queue_wait_seconds_sum") == 0.1
    assert page.value("backend_latency_seconds_sum") == 1.9
    assert page.value("tokens_per_second_sum") == 10.0
    assert page.value("tokens_generated_total") == 20


def test_a_whole_answer_has_no_first_token_time() -> None:
    metrics = started()
    metrics.told(record(stream=False))
    assert scraped(metrics).value("time_to_first_token_seconds_count") == 0


def test_latencies_reach_ten_minutes_and_speeds_from_half_a_token() -> None:
    page = scraped(started())
    assert page.value("request_latency_seconds_bucket", le="600.0") == 0
    assert page.value("tokens_per_second_bucket", le="0.5") == 0
    assert page.value("tokens_per_second_bucket", le="500.0") == 0


def test_a_refused_request_is_counted_but_not_timed() -> None:
    metrics = started()
    metrics.told(record(outcome="refused", status=503, reason="queue_full", usage=Usage()))
    page = scraped(metrics)
    assert page.value("inference_errors_total", type="queue_full") == 1
    assert page.value("gateway_rejected_total", reason="queue_full") == 1
    assert page.value("requests_total", model="llama3.2", status="503") == 1
    assert page.value("request_latency_seconds_count") == 0
    assert page.value("queue_wait_seconds_count") == 0
    assert page.value("gateway_requests_accepted_total") == 0


def test_a_failed_request_keeps_its_tokens() -> None:
    metrics = started()
    metrics.told(record(outcome="failed", status=502, reason="backend_error"))
    page = scraped(metrics)
    assert page.value("inference_errors_total", type="backend_error") == 1
    assert page.value("gateway_requests_failed_total") == 1
    assert page.value("tokens_generated_total") == 20
    assert page.value("gateway_rejected_total", reason="other") == 0


@pytest.mark.parametrize(
    ("ending", "broken"),
    [
        ({"outcome": "failed", "status": 504, "reason": "timeout"}, 1),
        ({"outcome": "failed", "status": 502, "reason": "backend_error"}, 0),
        ({"outcome": "refused", "status": 504, "reason": "timeout"}, 0),
        ({"outcome": "completed", "truncated": True}, 0),
    ],
)
def test_a_promise_is_broken_if_what_was_accepted_was_not_answered_in_time(
    ending: dict[str, Any], broken: int
) -> None:
    metrics = started()
    metrics.told(record(**ending))
    assert scraped(metrics).value("gateway_promises_broken_total") == broken


@pytest.mark.parametrize("phase", ["queued", "waiting", "streaming"])
def test_a_caller_who_leaves_is_counted_by_phase(phase: str) -> None:
    metrics = started()
    metrics.told(record(outcome="cancelled", status=499, reason="client_gone", phase=phase))
    page = scraped(metrics)
    assert page.value("gateway_client_gone_total", phase=phase) == 1
    assert page.value("gateway_requests_cancelled_total") == 1
    assert page.value("request_latency_seconds_count") == 0


def test_a_caller_who_leaves_before_admission_was_not_refused() -> None:
    metrics = started()
    metrics.told(record(outcome="refused", status=499, reason="client_gone", phase="queued"))
    page = scraped(metrics)
    assert page.value("gateway_client_gone_total", phase="queued") == 1
    assert sum(page.series["gateway_rejected_total", key] for key in rejected(page)) == 0


def rejected(page: Page) -> list[tuple[tuple[str, str], ...]]:
    return [labels for name, labels in page.series if name == "gateway_rejected_total"]


def test_one_request_with_a_record_counts_its_refusal_once() -> None:
    metrics = started()
    refused = record(outcome="refused", status=503, reason="queue_full")
    metrics.told(refused)
    metrics.exchanged(exchange(status=503, code="queue_full", reason="queue_full", record=refused))
    page = scraped(metrics)
    assert page.value("gateway_rejected_total", reason="queue_full") == 1
    assert page.value("inference_errors_total", type="queue_full") == 1


def test_a_wrong_key_is_an_auth_failure_and_a_rejection() -> None:
    metrics = started()
    metrics.exchanged(exchange(status=401, reason="auth_failure", record=None))
    page = scraped(metrics)
    assert page.value("inference_errors_total", type="auth_failure") == 1
    assert page.value("gateway_rejected_total", reason="auth_failure") == 1


def test_time_in_slots_is_counted_by_class() -> None:
    metrics = started()
    metrics.told(record(priority=Priority.BATCH, service_s=1.5))
    metrics.told(record(priority=Priority.BATCH, service_s=0.25, outcome="failed", status=502))
    metrics.told(record(priority=Priority.INTERACTIVE, service_s=2.0))
    page = scraped(metrics)
    assert page.value("gateway_slot_seconds_total", priority="batch") == 1.75
    assert page.value("gateway_slot_seconds_total", priority="interactive") == 2.0
    assert page.value("gateway_slot_seconds_total", priority="normal") == 0
    assert page.value("gateway_slot_seconds_total", priority="other") == 0


@pytest.mark.parametrize(
    ("ending", "wasted_s"),
    [
        ({"outcome": "completed"}, 0.0),
        ({"outcome": "completed", "truncated": True}, 0.0),
        ({"outcome": "failed", "status": 502}, 1.5),
        ({"outcome": "cancelled", "status": 499}, 1.5),
        ({"outcome": "cancelled", "status": 499, "taken_over": True}, 0.0),
        ({"outcome": "cancelled", "status": 499, "upstream": ""}, 0.0),
        ({"outcome": "refused", "status": 503, "priority": None}, 0.0),
    ],
)
def test_a_slot_was_wasted_if_nobody_has_the_answer(
    ending: dict[str, Any], wasted_s: float
) -> None:
    metrics = started()
    metrics.told(record(service_s=1.5, **ending))
    assert scraped(metrics).value("gateway_wasted_slot_seconds_total") == wasted_s


def test_a_retry_that_got_an_earlier_answer_counts_nothing_twice() -> None:
    metrics = started()
    metrics.told(record(outcome="cancelled", status=499, taken_over=True))
    before = scraped(metrics)
    metrics.told(record(rejoined=True, upstream="", priority=None, queue_s=0.0))
    page = scraped(metrics)
    changed = {
        name
        for (name, labels), value in page.series.items()
        if value != before.series[name, labels]
    }
    expected = ("process_", "gateway_state_", "request_latency_", "gen_ai_server_request_")
    assert {name for name in changed if not name.startswith(expected)} == {
        "gateway_rejoined_total",
        "gateway_requests_accepted_total",
        "gateway_requests_completed_total",
        "requests_total",
        *(
            f"{name}time_to_first_token_seconds_{part}"
            for name in ("", "gen_ai_server_")
            for part in ("bucket", "count", "sum")
        ),
    }


def test_prompts_are_counted_by_where_their_tokens_came_from() -> None:
    metrics = started()
    metrics.told(record(usage=Usage(prompt=100, completion=1, cached=30)))
    metrics.told(record(usage=Usage(prompt=40, completion=1), prompt_chars=200, cached_chars=150))
    metrics.told(record(usage=Usage()))
    page = scraped(metrics)
    assert page.value("gateway_prompt_tokens_total", source="cached") == 30 + 30
    assert page.value("gateway_prompt_tokens_total", source="evaluated") == 70 + 10


def ratios(page: Page, of: str) -> tuple[float, float]:
    """How many were judged, and the sum of their ratios."""
    name = f"gateway_{of}_estimate_ratio"
    return page.value(f"{name}_count"), page.value(f"{name}_sum")


def test_what_was_expected_is_held_against_what_it_was() -> None:
    metrics = started()
    metrics.told(record(expected_wait_s=3.0, queue_s=2.0, expected_s=1.0, service_s=4.0))
    metrics.told(record(expected_wait_s=0.0, queue_s=2.0, expected_s=4.0, service_s=4.0))
    page = scraped(metrics)
    assert ratios(page, "wait") == (2, 1.5)
    assert ratios(page, "service") == (2, 1.25)
    assert page.value("gateway_service_estimate_ratio_bucket", le="0.25") == 1
    assert page.value("gateway_service_estimate_ratio_bucket", le="0.9") == 1
    assert page.value("gateway_service_estimate_ratio_bucket", le="1.0") == 2


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({"queue_s": 0.049, "service_s": 0.049}, (0, 0)),
        ({"queue_s": 0.05, "service_s": 0.05}, (1, 1)),
        ({"truncated": True}, (1, 0)),
        ({"outcome": "cancelled", "status": 499}, (1, 0)),
        ({"outcome": "failed", "status": 502}, (1, 0)),
        ({"outcome": "cancelled", "status": 499, "upstream": ""}, (0, 0)),
        ({"attempts": 2}, (0, 0)),
        ({"rejoined": True, "upstream": "", "priority": None}, (0, 0)),
    ],
)
def test_only_what_came_to_its_end_says_how_good_an_estimate_was(
    changes: dict[str, Any], judged: tuple[int, int]
) -> None:
    metrics = started()
    metrics.told(record(**changes))
    page = scraped(metrics)
    assert (ratios(page, "wait")[0], ratios(page, "service")[0]) == judged


def test_loads_swaps_and_cut_answers_are_counted() -> None:
    metrics = started()
    metrics.model_loaded(8.0)
    metrics.told(record(swaps=1, truncated=True))
    metrics.told(record(swaps=2, outcome="failed", status=502))
    page = scraped(metrics)
    assert page.value("gateway_model_load_seconds_sum") == 8.0
    assert page.value("gateway_model_swaps_total") == 3
    assert page.value("gateway_truncated_total") == 1


def test_an_unknown_url_is_no_inference_error() -> None:
    metrics = started()
    metrics.exchanged(
        exchange(route="other", method="GET", status=404, reason="unknown_url", record=None)
    )
    page = scraped(metrics)
    assert page.value("gateway_rejected_total", reason="unknown_url") == 1
    assert page.value("inference_errors_total", type="other") == 0


def test_what_breaks_was_not_rejected() -> None:
    metrics = started()
    metrics.exchanged(exchange(status=500, reason="internal_error", record=None))
    page = scraped(metrics)
    assert page.value("inference_errors_total", type="internal_error") == 1
    assert sum(page.series["gateway_rejected_total", key] for key in rejected(page)) == 0


def test_a_caller_who_leaves_while_its_request_is_read_is_counted() -> None:
    metrics = started()
    metrics.exchanged(exchange(status=499, reason="client_gone", record=None))
    assert scraped(metrics).value("gateway_client_gone_total", phase="reading") == 1


def test_a_refusal_below_the_app_is_an_http_request_and_a_rejection() -> None:
    metrics = started()
    metrics.refused("head_too_large", 431)
    page = scraped(metrics)
    series = {"route": "other", "method": "OTHER", "status": "431"}
    assert page.value("gateway_requests_total", **series) == 1
    assert page.value("gateway_rejected_total", reason="head_too_large") == 1


def test_troubles_of_connections_and_upstreams_are_counted() -> None:
    metrics = started()
    metrics.upstream_failed("stall")
    metrics.connection_closed("header_timeout")
    metrics.connection_closed("write_stall")
    page = scraped(metrics)
    assert page.value("gateway_upstream_errors_total", kind="stall") == 1
    assert page.value("gateway_connections_closed_total", reason="header_timeout") == 1
    assert page.value("gateway_connections_closed_total", reason="write_stall") == 1
    assert page.value("gateway_write_stalls_total") == 1


def test_gauges_show_the_moment_of_the_scrape_alone() -> None:
    metrics = started()
    page = scraped(
        metrics,
        queue_depth=7,
        queue_max=50,
        ready=True,
        draining=True,
        active_requests=9,
        model_loaded=True,
        upstreams=[OLLAMA],
        log_lines_dropped=5,
        traces_sent=7,
        traces_dropped=6,
        waiting={Priority.BATCH: 5, Priority.NORMAL: 2},
        expected_wait_s=12.5,
        places_held=4,
        places_returned=3,
        places_lost=2,
        kept_answers_bytes=1000,
        last_drain_cut_off=6,
    )
    assert page.value("gateway_last_drain_cut_off_requests") == 6
    assert page.value("request_queue_depth") == 7
    assert page.value("gateway_request_queue_max") == 50
    assert page.value("gateway_ready") == page.value("gateway_draining") == 1
    assert page.value("gateway_models_loaded", upstream="ollama") == 2
    assert page.value("gateway_models_loaded_bytes", upstream="ollama") == 3000
    assert page.value("gateway_requests_waiting", priority="batch") == 5
    assert page.value("gateway_requests_waiting", priority="normal") == 2
    assert page.value("gateway_requests_waiting", priority="interactive") == 0
    assert page.value("gateway_expected_wait_seconds") == 12.5
    assert page.value("gateway_places_held") == 4
    assert page.value("gateway_places_returned_total") == 3
    assert page.value("gateway_places_lost_total") == 2
    assert page.value("gateway_kept_answers_bytes") == 1000
    assert page.value("active_requests") == 9
    assert page.value("model_loaded") == 1
    assert page.value("gateway_slots", upstream="ollama") == 4
    assert page.value("gateway_slots_busy", upstream="ollama") == 3
    assert page.value("gateway_upstream_up", upstream="ollama") == 1
    assert page.value("gateway_log_lines_dropped_total") == 5
    assert page.value("gateway_traces_sent_total") == 7
    assert page.value("gateway_traces_dropped_total") == 6
    later = scraped(metrics, upstreams=[UpstreamGauges(name="gpu", slots=1, busy=0, up=False)])
    assert later.value("request_queue_depth") == 0
    assert later.value("gateway_requests_waiting", priority="batch") == 0
    assert later.labels("gateway_expected_wait_seconds") == set()
    assert later.labels("gateway_last_drain_cut_off_requests") == set()
    assert later.values("upstream") == {"gpu"}


def test_the_disk_of_the_state_is_watched_if_there_is_one(tmp_path: Path) -> None:
    there = scraped(Metrics("1", state_directory=str(tmp_path)))
    free = there.value("gateway_state_free_bytes")
    assert 0 <= free <= there.value("gateway_state_size_bytes")
    for nowhere in ("", str(tmp_path / "missing")):
        assert (
            scraped(Metrics("1", state_directory=nowhere)).labels("gateway_state_free_bytes")
            == set()
        )


def test_the_version_is_a_label() -> None:
    assert scraped(started()).value("gateway_build_info", version="1.2.3") == 1


def test_a_model_that_is_gone_keeps_its_series_while_there_is_room() -> None:
    metrics = started()
    metrics.told(record())
    metrics.set_models(["qwen3"])
    assert scraped(metrics).value("requests_total", model="llama3.2", status="200") == 1


def test_a_model_that_is_gone_makes_room_for_one_that_is_there() -> None:
    metrics = started()
    metrics.told(record())
    there = [f"model-{number}" for number in range(MODELS_MAX)]
    metrics.set_models(there)
    metrics.told(record())
    page = scraped(metrics)
    assert page.values("model") == {*there, "other"}
    assert page.value("requests_total", model="other", status="200") == 1


def test_models_beyond_the_bound_are_others() -> None:
    metrics = Metrics("1")
    metrics.set_models([f"model-{number}" for number in range(100)])
    metrics.told(record(model="model-99"))
    page = scraped(metrics)
    assert page.value("requests_total", model="other", status="200") == 1
    assert len(page.values("model")) == MODELS_MAX + 1


@given(
    told=st.lists(
        st.tuples(
            st.sampled_from(get_args(Outcome)),
            st.sampled_from([200, 404, 499, 502, 503, 504]),
            st.sampled_from(["", "backend_error", "queue_full"]),
        )
    ),
    active=st.integers(0, 50),
)
@settings(max_examples=50, deadline=None)
def test_accepted_is_what_ended_and_what_is_active(
    told: list[tuple[Outcome, int, str]], active: int
) -> None:
    metrics = started()
    for outcome, status, reason in told:
        metrics.told(record(outcome=outcome, status=status, reason=reason))
    page = scraped(metrics, active_requests=active)
    ended = {
        outcome: page.value(f"gateway_requests_{outcome}_total")
        for outcome in ("completed", "failed", "cancelled")
    }
    assert ended == {outcome: sum(o == outcome for o, _, _ in told) for outcome in ended}
    accepted = page.value("gateway_requests_accepted_total")
    assert accepted == sum(ended.values()) + active


MARK: Final = "Zz9"
texts: Final = st.text(max_size=200).map(lambda text: f"{MARK}{text}")
floats: Final = st.floats() | st.just(1.0)


@st.composite
def strangers(draw: st.DrawFn) -> tuple[Any, Any]:
    """A record and an exchange with nothing in them that we know."""
    odd = record(
        model=draw(texts),
        status=draw(st.integers()),
        reason=draw(texts),
        phase=draw(texts),
        upstream=draw(texts),
        outcome=draw(st.sampled_from(get_args(Outcome))),
        queue_s=draw(floats),
        total_s=draw(floats),
        first_token_s=draw(st.none() | floats),
        backend_s=draw(st.none() | floats),
        usage=Usage(
            prompt=draw(st.integers(-5, 10**9)),
            completion=draw(st.integers(-5, 10**9)),
            cached=draw(st.none() | st.integers(-5, 10**9)),
        ),
        prompt_chars=draw(st.integers(0, 1000)),
        cached_chars=draw(st.integers(0, 1000)),
        expected_wait_s=draw(floats),
        expected_s=draw(floats),
        rejoined=draw(st.booleans()),
        timings=Timings(decode_s=draw(st.none() | floats)),
    )
    return odd, exchange(
        route=draw(texts),
        method=draw(texts),
        status=draw(st.integers()),
        reason=draw(texts),
        caller=draw(texts),
        record=draw(st.sampled_from([odd, None])),
    )


def tell_all(metrics: Metrics, odd: list[tuple[Any, Any]]) -> None:
    for its_record, its_exchange in odd:
        metrics.told(its_record)
        metrics.exchanged(its_exchange)
        metrics.refused(its_exchange.reason, its_exchange.status)
        metrics.upstream_failed(its_exchange.reason)
        metrics.connection_closed(its_exchange.reason)


@pytest.mark.slow
@given(odd=st.lists(strangers(), max_size=20))
@settings(max_examples=100, deadline=None)
def test_nothing_a_caller_sends_reaches_the_page(odd: list[tuple[Any, Any]]) -> None:
    metrics = started()
    before = counted(scraped(metrics))
    tell_all(metrics, odd)
    page = metrics.render(Gauges())
    assert MARK.encode() not in page
    assert counted(read(page)) <= before + 60


def counted(page: Page) -> int:
    """Its series; a histogram is one."""
    return sum(not name.endswith(("_bucket", "_sum")) for name, _ in page.series)


@pytest.mark.slow
@given(names=st.lists(st.text(max_size=140), max_size=60), odd=st.lists(strangers(), max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_page_is_valid_whatever_models_and_upstreams_are_called(
    names: list[str], odd: list[tuple[Any, Any]]
) -> None:
    metrics = Metrics("1")
    metrics.set_models(names)
    tell_all(metrics, odd)
    read(metrics.render(Gauges(upstreams=[upstream(name) for name in names])))


@pytest.mark.slow
@given(
    names=st.lists(st.text(max_size=140), max_size=40),
    odd=st.lists(strangers(), max_size=5),
)
@settings(max_examples=25, deadline=None)
def test_prometheus_finds_no_fault_whatever_models_are_called(
    names: list[str], odd: list[tuple[Any, Any]]
) -> None:
    metrics = started()
    metrics.set_models([*names, 'quo"te', "back\\slash"])
    tell_all(metrics, odd)
    promtool.check(metrics.render(Gauges(upstreams=[upstream(name) for name in names])))


def upstream(name: str) -> UpstreamGauges:
    return UpstreamGauges(name=name, slots=1, busy=0, up=True)


def test_series_have_a_hard_bound_and_its_refusals_are_counted() -> None:
    routes = [("GET", f"/r/{number}") for number in range(500)]
    metrics = Metrics("1", routes=routes)
    metrics.set_models([f"model-{number}" for number in range(MODELS_MAX)])
    for _, route in routes:
        for status in (200, 400, 401, 404):
            metrics.exchanged(exchange(route=route, method="GET", status=status))
    page = scraped(metrics, upstreams=[upstream(str(number)) for number in range(100)])
    assert len(page.series) <= SERIES_MAX + GEN_AI_SERIES_MAX
    assert page.value("gateway_series_refused_total") > 0
    told = [v for (name, _), v in page.series.items() if name == "gateway_requests_total"]
    assert sum(told) == 2000


def test_how_late_the_event_loop_was_is_a_histogram() -> None:
    metrics = Metrics("1")
    for seconds in (0.0, 0.0004, 0.3, 2.0):
        metrics.loop_lagged(seconds)
    page = scraped(metrics)
    assert page.value("gateway_loop_lag_seconds_bucket", le="0.001") == 2
    assert page.value("gateway_loop_lag_seconds_bucket", le="1.0") == 3
    assert page.value("gateway_loop_lag_seconds_count") == 4
    assert page.value("gateway_loop_lag_seconds_sum") == pytest.approx(2.3004)
