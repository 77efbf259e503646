"""What the manual says of logs and traces is what the code does."""

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from gateway.config.telemetry_checks import LIBRARIES, LOGGERS
from gateway.core.messages import Usage
from gateway.core.ticket import Priority
from gateway.core.trace import Trace, TraceContext
from gateway.telemetry.lines import JsonLines
from gateway.telemetry.spans import SEMANTIC_CONVENTIONS, Here, spans_of
from tests.telemetry.records import exchange, record
from tests.test_docs import README, ROOT, code, section, table

TRACE: Final = Trace(
    TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"), ours=True
)


def told_of_everything() -> Any:
    """A request of which there is everything to tell."""
    ended = record(
        reason="connect", phase="streaming", attempts=2, priority=Priority.BATCH, swaps=1,
        expected_wait_s=1.0, truncated=True, usage=Usage(prompt=1, completion=2, cached=1),
    )  # fmt: skip
    return exchange(code="backend_error", reason="connect", record=ended, trace=TRACE)


def fields_of_requests() -> set[str]:
    rejoined = exchange(record=record(rejoined=True))
    lines = (JsonLines().request(0.0, told) for told in (told_of_everything(), rejoined))
    return {name for line in lines for name in json.loads(line)}


def fields_of_records() -> set[str]:
    """Those that every line of `logging` can have."""
    try:
        raise RuntimeError
    except RuntimeError:
        made = logging.LogRecord("gateway", logging.ERROR, "", 0, "a b", None, sys.exc_info())
    vars(made)["suppressed"] = 1
    return set(json.loads(JsonLines().format(made)))


def extras() -> Iterator[tuple[str, str]]:
    """Every field that a module adds, and the event in whose lines it stands."""
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            for keyword in node.keywords:
                if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                    yield from _fields(node, keyword.value)


def _fields(call: ast.Call, extra: ast.Dict) -> Iterator[tuple[str, str]]:
    names = [key.value for key in extra.keys if isinstance(key, ast.Constant)]
    said = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
    if "event" in names:
        event = extra.values[names.index("event")]
        assert isinstance(event, ast.Constant)
        said = event.value
    for name in names:
        assert isinstance(name, str)
        assert isinstance(said, str)
        if name != "event":
            yield name, said


def test_every_field_of_a_line_is_told_and_no_other() -> None:
    rows = table(README, "field", "in lines of", "meaning")
    told = {(code(name)[0], (code(where) or [where])[0]) for name, where, _ in rows}
    assert len(told) == len(rows)
    requests, records = fields_of_requests(), fields_of_records()
    # These two go past Python's `logging`, or are added where a field has a value.
    added = {("lines", "log_lines_dropped"), ("socket", "listening")}
    known = {name for name, where in told if where in ("all", "requests")}
    assert {name for name, where in told if where == "requests"} <= requests
    assert known == requests | records
    assert {(name, where) for name, where in told if name not in known} == added | {
        (name, event) for name, event in extras() if name not in known
    }


def test_every_logger_is_told_and_no_other() -> None:
    told = [code(name)[0] for name, _ in table(README, "logger", "tells")]
    assert sorted(told) == sorted(LOGGERS)
    page = section(README, "Logs")
    assert all(f"`{library}`" in page for library in LIBRARIES)


def test_every_attribute_of_a_span_is_told_and_no_other() -> None:
    here = Here(address="127.0.0.1", port=8000, kind_of=lambda _name: "ollama")
    spans = [
        span
        for told in (told_of_everything(), exchange(trace=TRACE, record=record(rejoined=True)))
        for span in spans_of(told, 0.0, here=here, new_span_id=lambda: "1" * 16)
    ]
    real = {name for span in spans for name in span.attributes}
    page = section(README, "Traces")
    told = set(re.findall(r"`((?:http|url|server|error|gen_ai|gateway)\.[a-z_.]+)`", page))
    assert told == real
    assert f"semantic conventions {SEMANTIC_CONVENTIONS.removesuffix('.0')}" in page
