"""The dashboard's JSON, without a Grafana: what would be seen too late in one."""

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from bench import panels
from gateway.telemetry.families.state import Gauges, UpstreamGauges
from gateway.telemetry.metrics import Metrics
from tests.observability.validators import ROOT

DASHBOARD: Final[dict[str, Any]] = json.loads(panels.DASHBOARD.read_text("utf-8"))
ALL: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
SHOWN: Final = [panel for panel in ALL if panel["type"] != "row"]
TARGETS: Final = [(panel["title"], target) for panel in SHOWN for target in panel["targets"]]

UNITS: Final = {
    *("none", "short", "s", "bytes", "percentunit", "reqps", "cps", "tokens/s"),
}
"""Grafana's ids of units; what it does not know, such as tokens/s, it writes as it is."""

SELECTOR: Final = re.compile(r"([a-z_:0-9]+)\{([^}]*)\}")


def of_metric(selected: str) -> str:
    """The family that a series of this name belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", selected)


def test_the_json_is_what_the_generator_writes() -> None:
    written = subprocess.run(
        [sys.executable, "conf/grafana/dashboard.py"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    assert panels.DASHBOARD.read_bytes() == written, (
        "python conf/grafana/dashboard.py > conf/grafana/dashboard.json"
    )


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == [
        chr(ord("A") + number) for number in range(len(panel["targets"]))
    ]


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=lambda value: str(value)[:40])
def test_a_query_follows_the_variables(title: str, target: dict[str, Any]) -> None:
    expr = target["expr"]
    assert target["legendFormat"]
    assert target["datasource"]["uid"] == "${datasource}"
    selectors = SELECTOR.findall(expr)
    assert selectors
    for _, matchers in selectors:
        assert 'job=~"$job"' in matchers
        assert 'instance=~"$instance"' in matchers
    for window in re.findall(r"\[([^\]]+)\]", expr):
        assert window in ("$__rate_interval", "1h", "1d"), "rates are over what is shown"
    for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
        by = re.search(r"by \(([^)]*)\)", expr)
        assert by is None or label in by[1].split(", "), f"{label} is added up"


def test_titles_ids_and_places_are_unique() -> None:
    titles = Counter(panel["title"] for panel in SHOWN)
    assert [title for title, count in titles.items() if count > 1] == []
    assert len({panel["id"] for panel in ALL}) == len(ALL)
    for one, other in itertools.combinations(ALL, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    for panel in ALL:
        at = panel["gridPos"]
        assert at["x"] >= 0
        assert at["x"] + at["w"] <= 24


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_overlapping_places_would_be_seen() -> None:
    assert overlap({"x": 0, "y": 0, "w": 8, "h": 8}, {"x": 7, "y": 7, "w": 8, "h": 8})
    assert not overlap({"x": 0, "y": 0, "w": 8, "h": 8}, {"x": 8, "y": 0, "w": 8, "h": 8})


def test_it_can_be_imported_anywhere() -> None:
    """No id of a data source or of an instance of Grafana is in it."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert variables["datasource"]["query"] == "prometheus"
    uids = set(re.findall(r'"uid": "([^"]+)"', panels.DASHBOARD.read_text("utf-8")))
    assert uids == {"${datasource}", DASHBOARD["uid"]}
    assert "id" not in DASHBOARD
    assert DASHBOARD["title"]


def test_there_are_enough_panels_in_named_rows() -> None:
    assert len(SHOWN) >= 14
    assert ALL[0]["type"] == "row"
    assert all(panel["title"] for panel in ALL)


def metrics() -> Iterator[str]:
    """What the gateway exposes, and what the recording rules make of it."""
    upstream = UpstreamGauges(name="u", slots=1, busy=0, up=True)
    page = Metrics("1", state_directory=".").render(
        Gauges(upstreams=[upstream], expected_wait_s=0.0, last_drain_cut_off=0)
    )
    yield from re.findall(r"^# TYPE (\S+)", page.decode(), re.MULTILINE)
    rules = (ROOT / "conf" / "prometheus" / "recording.yml").read_text("utf-8")
    yield from re.findall(r"- record: (\S+)", rules)


def test_every_query_asks_for_metrics_that_there_are() -> None:
    known = set(metrics())
    asked = {name for _, target in TARGETS for name, _ in SELECTOR.findall(target["expr"])}
    assert {name for name in asked if of_metric(name) not in known} == set()


def test_every_metric_is_shown_or_left_out_on_purpose() -> None:
    text = " ".join(target["expr"] for _, target in TARGETS)
    left_out = {
        "gateway_build_info": "for the choice of instances",
        "gateway_traces_sent_total": "those that were lost are shown",
        "gateway_requests_accepted_total": "recorded: the part that is refused",
        "gateway_requests_cancelled_total": "by phase: gateway_client_gone_total",
        "gateway_write_stalls_total": "one of gateway_connections_closed_total",
        "gateway_config_reloads_total": "its last result is shown",
        "gateway_config_last_reload_success_timestamp_seconds": "its last result is shown",
        "model_loaded": "gateway_models_loaded has each engine's",
        "request_queue_depth": "by class: gateway_requests_waiting",
        "gen_ai_server_time_to_first_token_seconds": "time_to_first_token_seconds is shown",
    }
    exposed = {name for name in metrics() if ":" not in name}
    shown = {of_metric(name) for name in re.findall(r"[a-z_]+(?=\{)", text)}
    assert exposed - shown == set(left_out)
