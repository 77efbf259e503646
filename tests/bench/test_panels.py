import json
from pathlib import Path

from bench.panels import queries


def test_queries_come_as_grafana_would_send_them(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.json"
    target = {
        "legendFormat": "{{x}}",
        "expr": 'rate(a{job=~"$job",instance=~"$instance"}[$__rate_interval])',
    }
    path.write_text(
        json.dumps(
            {
                "panels": [
                    {"type": "row", "title": "First"},
                    {
                        "type": "stat",
                        "title": "A",
                        "fieldConfig": {"defaults": {"unit": "s"}},
                        "targets": [target],
                    },
                ]
            }
        )
    )
    (query,) = queries("15s", path)
    assert (query.row, query.panel, query.legend, query.unit) == ("First", "A", "{{x}}", "s")
    assert query.expr == 'rate(a{job=~".*",instance=~".*"}[15s])'
