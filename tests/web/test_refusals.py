import json
import logging

import pytest
from multidict import CIMultiDict

from gateway.core.errors import (
    BadHttp,
    DeadlineUnmeetable,
    GatewayError,
    MemoryPressure,
    Promise,
    QueueFull,
    RequestTimeout,
    UpstreamUnreachable,
)
from gateway.web.refusals import LineBudget, RefusalLog, refusal_response, say_when
from tests.fakes import ManualClock


def encode(error: GatewayError, request_id: str) -> bytes:
    return json.dumps({"error": {"code": error.code}}).encode()


def said(error: GatewayError) -> dict[str, str]:
    headers: CIMultiDict[str] = CIMultiDict()
    say_when(error, headers)
    return dict(headers)


@pytest.mark.parametrize(
    ("retry_after_s", "seconds", "milliseconds"),
    [
        (0.0, "1", "1"),
        (0.0004, "1", "1"),
        (1.0, "1", "1000"),
        (1.2345, "2", "1235"),
        (120.0, "120", "120000"),
    ],
)
def test_the_time_to_come_back_is_never_rounded_down(
    retry_after_s: float, seconds: str, milliseconds: str
) -> None:
    assert said(QueueFull("Full.", retry_after_s=retry_after_s)) == {
        "Retry-After": seconds,
        "retry-after-ms": milliseconds,
        "x-should-retry": "true",
    }


def test_a_place_is_told_and_only_where_one_is_held() -> None:
    held = QueueFull("Full.", retry_after_s=1.0, promise=Promise(place="p-1", wait_s=9.0))
    assert said(held)["x-gateway-place"] == "p-1"
    none = QueueFull("Full.", retry_after_s=1.0, promise=Promise(wait_s=9.0))
    assert "x-gateway-place" not in said(none)


@pytest.mark.parametrize("error", [DeadlineUnmeetable("Never."), RequestTimeout("Too late.")])
def test_what_would_only_fail_again_is_not_to_be_sent_again(error: GatewayError) -> None:
    assert said(error) == {"x-should-retry": "false"}


@pytest.mark.parametrize("error", [BadHttp("Bad."), UpstreamUnreachable("Down.")])
def test_of_other_errors_nothing_is_said(error: GatewayError) -> None:
    assert said(error) == {}


async def test_an_answer_says_when_to_come_back_and_closes() -> None:
    response = refusal_response(MemoryPressure("Full.", retry_after_s=1.2), "req-1", encode)
    assert response.status == 503
    assert response.headers["Retry-After"] == "2"
    assert response.headers["x-request-id"] == "req-1"
    assert response.keep_alive is False


def test_the_first_lines_of_a_second_pass_and_the_others_are_counted() -> None:
    budget = LineBudget(lines=2, per_s=1.0)
    assert [budget.take(10.0 + n / 10) for n in range(5)] == [True, True, False, False, False]
    assert budget.take(11.0)
    assert budget.take_untold() == 3
    assert budget.take_untold() == 0


async def test_a_flood_is_five_lines_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    tell = RefusalLog(clock)
    for _ in range(1000):
        tell(BadHttp("Bad."), remote="10.0.0.1", request_id="req-1")
    assert len(caplog.records) == 5
    assert caplog.records[0].__dict__["reason"] == "bad_http"
    await clock.advance(1.0)
    assert len(caplog.records) == 6
    assert caplog.records[-1].__dict__["count"] == 995
    tell(BadHttp("Bad."), remote="10.0.0.1", request_id="req-1")
    assert len(caplog.records) == 7
