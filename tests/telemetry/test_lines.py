import json
import logging
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Priority
from gateway.telemetry.lines import LINE_BYTES_MAX, JsonLines, TextLines
from tests.telemetry.records import exchange, record

AT = 1_700_000_000.25

odd_texts = st.text(max_size=5000) | st.text(
    alphabet='\x00\x1b\r\n\x7f\x85\u2028\ud800"\\', max_size=3000
)


def log_record(message: str, *args: object, logger: str = "gateway.test", **told: Any) -> Any:
    made = logging.LogRecord(logger, logging.WARNING, __file__, 1, message, args, None)
    made.created = AT
    vars(made).update(told)
    return made


def told_of(made: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(JsonLines().format(made))
    return fields


def test_a_requests_line_has_every_field_under_its_name() -> None:
    assert json.loads(JsonLines().request(AT, exchange())) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "gateway.request",
        "event": "request",
        "request_id": "req-1",
        "route": "/v1/chat/completions",
        "method": "POST",
        "status": 200,
        "caller": "anonymous",
        "model": "llama3.2",
        "stream": True,
        "upstream": "ollama",
        "outcome": "completed",
        "queue_ms": 100.0,
        "first_token_ms": 500.0,
        "total_ms": 2000.0,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "tokens_per_s": 10.0,
    }


def test_what_was_decided_is_told_where_it_is_not_the_usual() -> None:
    decided = record(
        priority=Priority.BATCH, expected_wait_s=0.25, swaps=1, truncated=True, rejoined=True
    )
    line = json.loads(JsonLines().request(AT, exchange(record=decided)))
    usual = json.loads(JsonLines().request(AT, exchange()))
    assert {name: line[name] for name in line.keys() - usual.keys()} == {
        "priority": "batch",
        "expected_wait_ms": 250.0,
        "swaps": 1,
        "truncated": True,
        "rejoined": True,
    }
    assert "tokens_per_s" not in line  # Its tokens were written for the earlier try.


def test_a_request_without_a_record_tells_what_http_saw() -> None:
    refused = exchange(
        route="other", method="GET", status=404, code="unknown_url", reason="unknown_url", caller=""
    )
    refused.record = None
    line = json.loads(JsonLines().request(AT, refused))
    assert line["code"] == line["reason"] == "unknown_url"
    assert set(line) == {
        *("time", "level", "logger", "event", "request_id", "route", "method", "status"),
        *("code", "reason", "total_ms"),
    }


def test_a_caller_who_left_is_told_with_its_phase() -> None:
    gone = record(outcome="cancelled", status=499, reason="client_gone", phase="queued", attempts=2)
    line = json.loads(JsonLines().request(AT, exchange(status=499, record=gone)))
    assert line["reason"] == "client_gone"
    assert line["phase"] == "queued"
    assert line["attempts"] == 2


@pytest.mark.parametrize(
    ("route", "status", "level"),
    [
        ("/v1/chat/completions", 200, "info"),
        ("/v1/chat/completions", 401, "info"),
        ("/v1/chat/completions", 503, "info"),
        ("/v1/chat/completions", 502, "warning"),
        ("/v1/chat/completions", 500, "warning"),
        ("/health", 200, "debug"),
        ("/metrics", 200, "debug"),
        ("/metrics", 401, "info"),
        ("/ready", 503, "debug"),
        ("/health", 503, "info"),
        ("/ready", 500, "warning"),
    ],
)
def test_the_level_of_a_request(route: str, status: int, level: str) -> None:
    told = exchange(route=route, status=status, record=None)
    assert json.loads(JsonLines().request(AT, told))["level"] == level


def test_a_word_is_an_event_and_what_is_told_with_it_are_fields() -> None:
    fields = told_of(log_record("drain_forced", requests=3, kind=None, waited_s=0.5))
    assert fields == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "gateway.test",
        "event": "drain_forced",
        "requests": 3,
        "kind": None,
        "waited_s": 0.5,
    }


def test_a_sentence_is_a_message() -> None:
    fields = told_of(log_record("upstream %s is %s", "ollama", "down"))
    assert fields["event"] == "log"
    assert fields["message"] == "upstream ollama is down"


def test_of_others_only_the_first_line_is_told() -> None:
    said = "Task exception was never retrieved\nfuture: <Task exception=ValueError('canary')>"
    assert told_of(log_record(said, logger="asyncio"))["message"] == said.partition("\n")[0]


def test_a_traceback_is_one_field_without_what_the_error_quotes() -> None:
    try:
        int("can" + "ary")
    except ValueError:
        made = log_record("internal_error", request_id="req-1")
        made.exc_info = sys.exc_info()
    line = JsonLines().format(made)
    assert json.loads(line)["exception"].endswith("ValueError")
    assert "canary" not in line


def test_text_of_any_script_is_ascii_on_the_wire_and_itself_when_read() -> None:
    line = JsonLines().request(AT, exchange(code="é🦙\x7f"))
    assert line.isascii()
    assert "\x7f" not in line
    assert json.loads(line)["code"] == "é🦙\x7f"


def test_numbers_too_large_for_json_are_told_as_text() -> None:
    assert told_of(log_record("odd", size=10**30))["size"] == str(10**30)


def check_line(line: str) -> None:
    assert len(line) < LINE_BYTES_MAX
    assert re.fullmatch(r"[\x20-\x7e]*", line)


@given(model=odd_texts, name=odd_texts, request_id=odd_texts)
def test_a_requests_line_is_json_bounded_and_printable(
    model: str, name: str, request_id: str
) -> None:
    told = exchange(request_id=request_id, caller=name, record=record(model=model, upstream=name))
    line = JsonLines().request(AT, told)
    check_line(line)
    assert json.loads(line)["event"] == "request"
    check_line(TextLines().request(AT, told))


@given(
    message=odd_texts,
    extras=st.dictionaries(odd_texts.filter(bool), odd_texts | st.integers() | st.floats()),
    logger=st.sampled_from(["gateway.test", "asyncio"]),
)
def test_a_records_line_is_json_bounded_and_printable(
    message: str, extras: dict[str, Any], logger: str
) -> None:
    made = log_record("%s", message, logger=logger)
    vars(made).update({f"x{name}": value for name, value in extras.items()})
    line = JsonLines().format(made)
    check_line(line)
    assert json.loads(line)["logger"] == logger
    check_line(TextLines().format(made))


def test_of_a_long_traceback_the_end_is_kept() -> None:
    error: BaseException = RuntimeError("x" * 190)
    for _ in range(7):
        following = RuntimeError('"' * 150)
        following.__cause__ = error
        error = following
    made = log_record("m" * 5000)
    made.exc_info = (type(error), error, None)
    for number in range(100):
        setattr(made, f"extra_{number}", '"' * 500)
    line = JsonLines().format(made)
    check_line(line)
    assert json.loads(line)["exception"].endswith('"')


@given(seconds=st.floats(), tokens=st.integers())
def test_odd_figures_of_an_engine_make_no_line_unreadable(seconds: float, tokens: int) -> None:
    odd = record(
        queue_s=seconds, total_s=seconds, first_token_s=seconds, backend_s=seconds,
        usage=Usage(completion=tokens), timings=Timings(decode_s=seconds),
    )  # fmt: skip
    check_line(JsonLines().request(AT, exchange(record=odd)))
    check_line(TextLines().request(AT, exchange(record=odd)))


def test_a_line_for_people_reads_like_one() -> None:
    line = TextLines().request(AT, exchange())
    assert re.fullmatch(
        r"\d\d:\d\d:20\.250 info    POST /v1/chat/completions 200 2\.0 s  request_id=req-1 .*"
        r" model=llama3\.2 .* queue_ms=100\.0  .*",
        line,
    )
    assert "total_ms" not in line


def test_short_times_are_shown_in_milliseconds() -> None:
    assert " 200 4 ms" in TextLines().request(AT, exchange(total_s=0.004))


def test_for_people_a_traceback_follows_on_lines_of_its_own() -> None:
    made = log_record("engine_lost", upstream="ollama")
    made.exc_info = (OSError, OSError(5, "broken"), None)
    first, *more = TextLines().format(made).split("\n")
    assert first.endswith("warning engine_lost  upstream=ollama")
    assert more == ["OSError: [Errno 5] broken"]


def test_for_people_a_stranger_is_named() -> None:
    assert TextLines().format(log_record("hm hm", logger="asyncio")).endswith("logger=asyncio")
