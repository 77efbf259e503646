"""Rules of `[logging]` and `[tracing]`."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.config.structure import structure
from gateway.config.telemetry_checks import LOGGERS, log_levels, trace_collector

GATEWAY = Path(__file__).parents[2] / "gateway"


def told(check: Any, document: dict[str, Any]) -> list[str]:
    config, wrong = structure(document)
    assert wrong == []
    return [mistake.text for mistake in check(config)]


def test_the_loggers_are_those_of_the_code() -> None:
    source = "".join(path.read_text("utf-8") for path in GATEWAY.rglob("*.py"))
    spoken = set(re.findall(r'getLogger\("(gateway[\w.]*)"\)', source))
    # These two go past Python's `logging`.
    assert {*spoken, "gateway.request", "gateway.log"} == set(LOGGERS)


@pytest.mark.parametrize("name", [*LOGGERS, "aiohttp", "aiohttp.server", "asyncio", "py.warnings"])
def test_a_logger_that_there_is_may_have_a_level(name: str) -> None:
    assert told(log_levels, {"logging": {"levels": {name: "debug"}}}) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gateway.engin", 'did you mean "gateway.engine"?'),
        ("Gateway.Web", 'did you mean "gateway.web"?'),
        ("asynci", 'did you mean "asyncio"?'),
        ("gateway.engine.ollama", 'did you mean "gateway.engine"?'),
        ("root", "there are gateway, gateway.config,"),
        ("", "there are gateway, gateway.config,"),
    ],
)
def test_a_logger_that_there_is_not_is_a_slip(name: str, hint: str) -> None:
    (text,) = told(log_levels, {"logging": {"levels": {name: "debug"}}})
    assert text.startswith(f"there is no such logger; {hint}")


def test_a_level_that_there_is_not_is_refused() -> None:
    _, (mistake,) = structure({"logging": {"levels": {"gateway.web": "inf"}}})
    assert mistake.key == ("logging", "levels", "gateway.web")
    assert "did you mean `info`?" in mistake.text


@pytest.mark.parametrize(
    "endpoint",
    ["", "http://localhost:4318", "http://localhost:4318/", "https://otlp.example/otlp"],
)
def test_a_collector_has_a_plain_url(endpoint: str) -> None:
    assert told(trace_collector, {"tracing": {"endpoint": endpoint}}) == []


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("localhost:4318", "must be http:// or https://"),
        ("grpc://localhost:4317", "must be http:// or https://"),
        ("http://", "must be http:// or https://"),
        ("http://localhost:99999", "must be http:// or https://"),
        ("http://localhost:4318/v1/traces", "must end before /v1/traces"),
        ("http://localhost:4318/v1/traces/", "must end before /v1/traces"),
        ("http://me:secret@localhost:4318", "put them into tracing.headers"),
        ("http://localhost:4318?token=secret", "must have no query"),
        ("http://localhost:4318/a b", "must be plain ASCII"),
    ],
)
def test_what_is_wrong_with_a_collectors_url_is_said(endpoint: str, text: str) -> None:
    (said,) = told(trace_collector, {"tracing": {"endpoint": endpoint}})
    assert text in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("headers", "texts"),
    [
        ({"authorization": "Bearer abc", "x-scope-orgid": "1"}, []),
        ({"authorization": ""}, ["must be printable ASCII, and not empty."]),
        ({"authorization": "a\nb"}, ["must be printable ASCII, and not empty."]),
        ({"authori zation": "a"}, ["this is no name of a header, such as authorization."]),
    ],
)
def test_headers_are_such_that_http_can_carry(headers: dict[str, str], texts: list[str]) -> None:
    assert told(trace_collector, {"tracing": {"headers": headers}}) == texts
