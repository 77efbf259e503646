import json
import logging

import pytest

from gateway.core.errors import BadHttp, GatewayError, MemoryPressure
from gateway.web.refusals import LineBudget, RefusalLog, refusal_response
from tests.fakes import ManualClock


def encode(error: GatewayError, request_id: str) -> bytes:
    return json.dumps({"error": {"code": error.code}}).encode()


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
