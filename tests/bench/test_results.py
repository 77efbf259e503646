"""What counts as answered in time, and what a whole load comes to."""

import math
from typing import Any

import attrs
import pytest

from bench.results import (
    BROKEN,
    TIMEOUT,
    UNFINISHED,
    Attempt,
    Outcome,
    Quantiles,
    Result,
    report,
    summarise,
)


def attempt(sent_at: float = 0.0, took_s: float = 1.0, status: int = 200, **more: Any) -> Attempt:
    told = {"tokens": 10, "finish_reason": "stop"} if status == 200 else {"code": "queue_full"}
    return Attempt(sent_at=sent_at, ended_at=sent_at + took_s, status=status, **told | more)


def result(*attempts: Attempt, stream: bool = False, abandoned: bool = False) -> Result:
    return Result(
        number=0,
        model="a:latest",
        stream=stream,
        max_tokens=None,
        attempts=attempts,
        abandoned=abandoned,
    )


DEADLINE_S = 2.0


@pytest.mark.parametrize(
    ("became", "outcome"),
    [
        (result(attempt(took_s=2.0)), Outcome.IN_TIME),
        (result(attempt(took_s=2.1)), Outcome.LATE),
        (result(attempt(status=504, code="request_timeout")), Outcome.TIMED_OUT),
        (result(attempt(status=408, code="timeout")), Outcome.TIMED_OUT),
        (result(attempt(status=0, code=TIMEOUT)), Outcome.TIMED_OUT),
        (result(attempt(code="request_timeout"), stream=True), Outcome.TIMED_OUT),
        (result(attempt(status=503)), Outcome.REFUSED),
        (result(attempt(status=429)), Outcome.REFUSED),
        (result(attempt(status=500, code="backend_error")), Outcome.FAILED),
        (result(attempt(status=0, code=BROKEN)), Outcome.FAILED),
        (result(attempt(code=UNFINISHED)), Outcome.FAILED),
        (result(attempt(status=503), abandoned=True), Outcome.ABANDONED),
        (result(abandoned=True), Outcome.ABANDONED),
        # A stream's first token must come in time, its end may come when it will.
        (result(attempt(took_s=9.0, first_token_at=2.0), stream=True), Outcome.IN_TIME),
        (result(attempt(took_s=9.0, first_token_at=2.1), stream=True), Outcome.LATE),
        (result(attempt(took_s=1.0), stream=True), Outcome.FAILED),
        # Each try has a deadline of its own.
        (result(attempt(0.0, status=503), attempt(50.0)), Outcome.IN_TIME),
    ],
)
def test_a_request_comes_to_one_thing(became: Result, outcome: Outcome) -> None:
    assert became.outcome(DEADLINE_S) is outcome


def test_a_load_is_summed_up() -> None:
    results = [
        result(attempt(0.0, 1.0)),
        result(attempt(1.0, 2.0, truncated=True)),
        result(attempt(0.0, 5.0)),
        result(attempt(0.0, 0.01, 503), attempt(8.0, 2.0)),
        result(attempt(0.0, 0.03, 503), attempt(1.0, 0.02, 503, code="deadline_unmeetable")),
        result(attempt(0.0, 0.02, 503), abandoned=True),
    ]
    summary = summarise(results, deadline_s=DEADLINE_S, window_s=4.0)
    assert summary.requests == 6
    assert summary.outcomes == {
        Outcome.IN_TIME: 3,
        Outcome.LATE: 1,
        Outcome.TIMED_OUT: 0,
        Outcome.REFUSED: 1,
        Outcome.FAILED: 0,
        Outcome.ABANDONED: 1,
    }
    assert summary.in_time == 3
    assert summary.codes == {"queue_full": 3, "deadline_unmeetable": 1}
    assert (summary.retries, summary.truncated) == (2, 1)
    assert summary.refusal_s == Quantiles(p50=0.02, p95=0.03, p99=0.03)
    assert summary.latency_s.p99 == 5.0
    assert summary.total_s.p99 == 10.0
    assert summary.wall_s == 10.0
    assert summary.goodput_per_s == pytest.approx(0.3)
    assert summary.tokens_per_s == pytest.approx(4.0)
    assert summary.useful_tokens_per_s == pytest.approx(3.0)
    assert summary.window_goodput_per_s == pytest.approx(2 / 4.0)


def test_every_request_is_in_one_outcome() -> None:
    results = [result(attempt(status=status)) for status in (200, 503, 504, 500, 200)]
    summary = summarise(results, deadline_s=DEADLINE_S)
    assert sum(summary.outcomes.values()) == summary.requests == 5


def test_a_try_that_timed_out_counts_though_its_retry_was_answered() -> None:
    late = attempt(status=504, code="request_timeout")
    summary = summarise([result(late, attempt(3.0))], deadline_s=DEADLINE_S)
    assert (summary.timeouts, summary.in_time) == (1, 1)


def test_without_a_window_it_is_the_whole_load() -> None:
    summary = summarise([result(attempt(3.0, 2.0))], deadline_s=DEADLINE_S)
    assert summary.window_goodput_per_s == summary.goodput_per_s == 0.5


def test_streams_have_the_time_to_their_first_token() -> None:
    results = [result(attempt(5.0, 4.0, first_token_at=5.25), stream=True)]
    assert summarise(results, deadline_s=DEADLINE_S).first_token_s.p50 == 0.25


def test_nothing_comes_to_nothing() -> None:
    summary = summarise([], deadline_s=DEADLINE_S)
    assert summary.requests == summary.goodput_per_s == 0
    assert all(math.isnan(seconds) for seconds in attrs.astuple(summary.latency_s))
    assert "goodput" in report(summary)


def test_the_report_says_why_requests_were_refused() -> None:
    summary = summarise([result(attempt(status=503))] * 2, deadline_s=DEADLINE_S)
    assert "2 × queue_full" in report(summary)
