"""The parts that a dashboard is made of, as Grafana's JSON (schema 39, Grafana 10.4 and later).

Positions are computed: panels of a row stand side by side in the order they are given.
"""

from collections.abc import Sequence
from typing import Any, Final

GRID_WIDTH: Final = 24
ROW_HEIGHT: Final = 1

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

FROM: Final = 'job=~"$job",instance=~"$instance"'
"""What every selector in a query has."""

Json = dict[str, Any]

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"


def query(expr: str, legend: str, **more: Any) -> Json:
    """One query; `FROM` in it stands for the matchers of the variables."""
    return {
        "datasource": SOURCE,
        "expr": expr.replace("FROM", FROM),
        "legendFormat": legend,
        "editorMode": "code",
        "range": True,
        **more,
    }


def quantiles(name: str, *of: float, by: str = "", matchers: str = "FROM") -> list[Json]:
    """Queries for quantiles of a histogram, one for each `of`; `by` is a further label."""
    labels = f"le, {by}" if by else "le"
    return [
        query(
            f"histogram_quantile({quantile}, sum by ({labels}) "
            f"(rate({name}_bucket{{{matchers}}}[$__rate_interval])))",
            f"p{quantile * 100:g}" + (f" {{{{{by}}}}}" if by else ""),
        )
        for quantile in of
    ]


def rate(name: str, legend: str, *, by: str = "", matchers: str = "FROM") -> Json:
    """Events a second, added up by a label."""
    of = f"sum by ({by})" if by else "sum"
    return query(f"{of} (rate({name}{{{matchers}}}[$__rate_interval]))", legend)


def timeseries(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Json],
    *,
    stacked: bool = False,
    least: float | None = 0,
    most: float | None = None,
    width: int = 8,
    height: int = 8,
) -> Json:
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    return _panel(
        "timeseries",
        title,
        description,
        queries,
        width=width,
        height=height,
        defaults={
            "unit": unit,
            "custom": custom,
            **({} if least is None else {"min": least}),
            **({} if most is None else {"max": most}),
        },
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def stat(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Json],
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    words: dict[str, str] | None = None,
    decimals: int | None = None,
    width: int = 4,
    height: int = 4,
) -> Json:
    """Args:
    steps: From which value on it has which colour; None: from the lowest.
    words: What stands for a value.
    """
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": colour, "value": value} for value, colour in steps],
        },
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if words:
        mapped = {
            value: {"text": text, "index": at} for at, (value, text) in enumerate(words.items())
        }
        defaults["mappings"] = [{"type": "value", "options": mapped}]
    return _panel(
        "stat",
        title,
        description,
        queries,
        width=width,
        height=height,
        defaults=defaults,
        options={
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def timeline(
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    words: dict[str, tuple[str, str]],
    width: int = 8,
    height: int = 8,
) -> Json:
    """Args: words: Each value's text and colour."""
    mapped = {
        value: {"text": text, "color": colour, "index": at}
        for at, (value, (text, colour)) in enumerate(words.items())
    }
    return _panel(
        "state-timeline",
        title,
        description,
        queries,
        width=width,
        height=height,
        defaults={
            "unit": "none",
            "custom": {"fillOpacity": 70, "lineWidth": 0},
            "mappings": [{"type": "value", "options": mapped}],
        },
        options={
            "showValue": "auto",
            "mergeValues": True,
            "rowHeight": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        },
    )


def heatmap(
    title: str, description: str, unit: str, name: str, *, width: int = 8, height: int = 8
) -> Json:
    """Of a histogram: how many fell into which bucket."""
    buckets = query(
        f"sum by (le) (increase({name}_bucket{{FROM}}[$__rate_interval]))",
        "{{le}}",
        format="heatmap",
    )
    return _panel(
        "heatmap",
        title,
        description,
        [buckets],
        width=width,
        height=height,
        defaults={"unit": "short"},
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "filterValues": {"le": 1e-9},
            "yAxis": {"unit": unit, "axisPlacement": "left"},
            "tooltip": {"mode": "single", "yHistogram": False},
        },
    )


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    width: int,
    height: int,
    defaults: Json,
    options: Json,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [
            {"refId": chr(ord("A") + number), **asked} for number, asked in enumerate(queries)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def laid_out(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """The panels of all rows, each with its place and its id."""
    laid: list[Json] = []
    y = 0
    for title, panels in rows:
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        laid.append({**row, "gridPos": {"x": 0, "y": y, "w": GRID_WIDTH, "h": ROW_HEIGHT}})
        y += ROW_HEIGHT
        x = line_height = 0
        for panel in panels:
            size = panel["gridPos"]
            if x + size["w"] > GRID_WIDTH:
                x, y, line_height = 0, y + line_height, 0
            laid.append({**panel, "gridPos": {"x": x, "y": y, **size}})
            x += size["w"]
            line_height = max(line_height, size["h"])
        y += line_height
    return [{"id": number, **panel} for number, panel in enumerate(laid, 1)]


def variable(name: str, label: str, of: str) -> Json:
    """A choice among the values of a label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": of,
        "query": {"query": of, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


DATASOURCE: Final[Json] = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "current": {},
}
