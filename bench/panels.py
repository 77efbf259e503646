"""The queries of the dashboard, as Grafana would send them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from bench.processes import ROOT

DASHBOARD: Final = ROOT / "conf" / "grafana" / "dashboard.json"


@attrs.frozen
class Query:
    """One line of a panel, or several of one legend.

    Attributes:
        expr: With the variables put in, for every job and instance.
    """

    row: str
    panel: str
    legend: str
    unit: str
    expr: str


def queries(rate_interval: str, dashboard: Path = DASHBOARD) -> Iterator[Query]:
    """All of them, in the order of the page.

    Args:
        rate_interval: What Grafana makes of the time that is shown, at least four scrapes.
    """
    row = ""
    for panel in json.loads(dashboard.read_text("utf-8"))["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        for target in panel["targets"]:
            yield Query(
                row=row,
                panel=panel["title"],
                legend=target["legendFormat"],
                unit=panel["fieldConfig"]["defaults"]["unit"],
                expr=target["expr"]
                .replace("$__rate_interval", rate_interval)
                .replace("$job", ".*")
                .replace("$instance", ".*"),
            )
