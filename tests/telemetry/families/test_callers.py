import re

import attrs

from gateway.core.messages import Usage
from gateway.telemetry.families.callers import CALLERS_MAX
from gateway.telemetry.families.state import Gauges
from gateway.telemetry.metrics import Metrics
from tests.telemetry.records import record


def samples(metrics: Metrics, name: str) -> dict[str, float]:
    """By the labels as they are written."""
    page = metrics.render(Gauges()).decode()
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_what_a_caller_asks_for_is_counted_under_its_name_and_charged_as_told() -> None:
    metrics = Metrics("1")
    metrics.set_callers(["alice", "bob"])
    metrics.told(record(caller="alice", charged=Usage(prompt=7, completion=3), service_s=1.5))
    refused = record(caller="alice", outcome="refused", status=429, service_s=0.0)
    metrics.told(attrs.evolve(refused, reason="tokens_per_day"))
    metrics.told(record(caller="bob", outcome="failed", status=502, service_s=0.25))
    requests = samples(metrics, "gateway_caller_requests_total")
    assert requests['caller="alice",outcome="completed"'] == 1
    assert requests['caller="alice",outcome="refused"'] == 1
    assert requests['caller="bob",outcome="failed"'] == 1
    tokens = samples(metrics, "gateway_caller_tokens_total")
    assert tokens['caller="alice",kind="prompt"'] == 7
    assert tokens['caller="alice",kind="completion"'] == 3
    assert tokens['caller="bob",kind="prompt"'] == 0
    slots = samples(metrics, "gateway_caller_slot_seconds_total")
    assert (slots['caller="alice"'], slots['caller="bob"']) == (1.5, 0.25)
    assert samples(metrics, "gateway_rejected_total")['reason="tokens_per_day"'] == 1


def test_a_retry_that_got_an_earlier_answer_and_who_left_before_count_for_nobody() -> None:
    metrics = Metrics("1")
    metrics.set_callers(["alice"])
    metrics.told(record(caller="alice", rejoined=True))
    metrics.told(record(caller="alice", outcome="refused", status=499, phase="queued"))
    assert sum(samples(metrics, "gateway_caller_requests_total").values()) == 0


def test_callers_are_there_from_the_start_and_too_many_share_one_name() -> None:
    metrics = Metrics("1")
    metrics.set_callers([f"caller-{number}" for number in range(CALLERS_MAX + 5)])
    metrics.set_callers(["one-more", "caller-0"])
    names = samples(metrics, "gateway_caller_slot_seconds_total")
    assert len(names) == CALLERS_MAX + 1
    metrics.told(record(caller="one-more", service_s=2.0))
    assert samples(metrics, "gateway_caller_slot_seconds_total")['caller="other"'] == 2.0


def test_what_can_not_be_stored_is_counted() -> None:
    metrics = Metrics("1")
    metrics.storage_failed()
    assert samples(metrics, "gateway_storage_errors_total") == {"": 1.0}
