"""Every query of dashboard and rules, asked of a real Prometheus that watched a real gateway."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from bench import panels
from tests.observability import scene
from tests.observability.scene import Seen
from tests.observability.validators import ROOT, validator

pytestmark = [pytest.mark.prometheus, pytest.mark.embedded, pytest.mark.slow]

RATE_INTERVAL: Final = "5s"
"""Four scrapes and a bit, as Grafana takes it."""

QUERIES: Final = list(panels.queries(RATE_INTERVAL))

RULES: Final = ROOT / "conf" / "prometheus"
RECORDED: Final = re.findall(r"- record: (\S+)", (RULES / "recording.yml").read_text("utf-8"))
ALERTS: Final = re.findall(r"- alert: (\S+)", (RULES / "alerts.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    validator("prometheus")
    with scene.played(tmp_path_factory.mktemp("scene")) as seen:
        yield seen


def values(seen: Seen, expr: str) -> list[float]:
    """All that it was, from the first act to the last."""
    found = seen.prometheus.over(expr, start=seen.start, end=seen.end, step_s=scene.SCRAPE_S)
    return [value for series in found for _, value in series.values]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel}-{query.legend}")
def test_no_line_of_a_panel_is_empty(query: panels.Query, seen: Seen) -> None:
    assert values(seen, query.expr), query.expr


@pytest.mark.parametrize("panel", sorted({query.panel for query in QUERIES}))
def test_a_panel_shows_what_has_happened(panel: str, seen: Seen) -> None:
    quiet = {"Lost", "Connections closed by the gateway"}
    shown = [
        value for query in QUERIES if query.panel == panel for value in values(seen, query.expr)
    ]
    assert any(value > 0 for value in shown) == (panel not in quiet)


@pytest.mark.parametrize("record", RECORDED)
def test_every_recording_rule_records_something(record: str, seen: Seen) -> None:
    assert values(seen, record)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_asks_for_something_that_there_is(alert: str, seen: Seen) -> None:
    (rule,) = (rule for rule in seen.prometheus.rules() if rule["name"] == alert)
    assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
    # A comparison lets nothing through while all is well; `bool` makes it say so.
    expr = re.sub(r" (==|!=|>=|<=|>|<) ", r" \1 bool ", rule["query"])
    assert values(seen, re.sub(r"^absent\((.*)\)$", r"\1", expr)), expr


@pytest.mark.parametrize("alert", ["GatewayDown", "GatewayEngineDown", "GatewayDrainForced"])
def test_what_went_wrong_has_set_its_alert_off(alert: str, seen: Seen) -> None:
    assert values(seen, f'ALERTS{{alertname="{alert}"}}')


def test_the_next_life_tells_who_was_cut_off(seen: Seen) -> None:
    assert max(values(seen, "gateway_last_drain_cut_off_requests")) == 1
    assert max(values(seen, "gateway_draining")) == 1


def test_every_class_of_trouble_was_seen(seen: Seen) -> None:
    """Or the panels were shown with less than they are for."""
    for series in (
        'gateway_rejected_total{reason="queue_full"}',
        'gateway_rejected_total{reason="deadline"}',
        'gateway_rejected_total{reason="auth_failure"}',
        'gateway_upstream_errors_total{kind="disconnect"}',
        "gateway_promises_broken_total",
        "gateway_model_swaps_total",
        "gateway_model_load_seconds_count",
        'gateway_prompt_tokens_total{source="cached"}',
        'gateway_client_gone_total{phase="streaming"}',
        'gateway_caller_tokens_total{caller="bob",kind="prompt"}',
        'gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="embeddings"}',
    ):
        assert max(values(seen, series), default=0) > 0, series
    assert min(values(seen, "gateway_upstream_up")) == 0
