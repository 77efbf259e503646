"""Writes the dashboard: `python conf/grafana/dashboard.py > conf/grafana/dashboard.json`.

The JSON is what Grafana imports; here is what it is made of, so that a change of a query
is one line to read. A test holds both together, another asks a real Prometheus every query.
"""

import json
import sys
from typing import Final

from engines import ESTIMATES, GEN_AI, MODELS
from operating import CALLERS, PROCESS
from panels import DATASOURCE, FROM, SOURCE, laid_out, variable
from serving import GLANCE, LATENCY, QUEUE, REFUSALS, THROUGHPUT

DASHBOARD: Final = {
    "uid": "ollama-gateway",
    "title": "Ollama gateway",
    "description": "What callers get, what it costs the engine, and what the gateway promises.",
    "tags": ["ollama", "llm", "gateway"],
    "schemaVersion": 39,
    "version": 1,
    "editable": True,
    "graphTooltip": 1,
    "refresh": "30s",
    "time": {"from": "now-1h", "to": "now"},
    "timezone": "browser",
    "templating": {
        "list": [
            DATASOURCE,
            variable("job", "Job", "label_values(gateway_build_info, job)"),
            variable(
                "instance", "Instance", 'label_values(gateway_build_info{job=~"$job"}, instance)'
            ),
        ]
    },
    "annotations": {
        "list": [
            {
                "name": "Starts",
                "datasource": SOURCE,
                "enable": True,
                "iconColor": "blue",
                "expr": f"changes(process_start_time_seconds{{{FROM}}}[2m]) > 0",
                "titleFormat": "started",
            }
        ]
    },
    "panels": laid_out(
        [
            ("At a glance", GLANCE),
            ("Latency", LATENCY),
            ("Throughput", THROUGHPUT),
            ("Queue and slots", QUEUE),
            ("Refusals and errors", REFUSALS),
            ("Estimates and prompts", ESTIMATES),
            ("Engines and models", MODELS),
            ("Callers", CALLERS),
            ("OpenTelemetry names", GEN_AI),
            ("Process", PROCESS),
        ]
    ),
}

if __name__ == "__main__":
    json.dump(DASHBOARD, sys.stdout, indent=2, ensure_ascii=False)
    print()
