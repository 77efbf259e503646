from typing import Final

import pytest

from gateway.core.messages import Usage
from gateway.telemetry.history import ENDED_KEPT, LATELY_S, NOW_S, History, judged
from tests.fakes import ManualClock
from tests.telemetry.records import exchange, record

REFUSED: Final = record(outcome="refused", status=503, reason="queue_full", priority=None)


def begun() -> tuple[History, ManualClock]:
    clock = ManualClock(now=1000.0)
    return History(clock=clock), clock


def test_the_latest_come_first_and_only_so_many_are_kept() -> None:
    history, _ = begun()
    for number in range(ENDED_KEPT + 5):
        history.told(record(request_id=f"r{number}"))
    ids = [ended.record.request_id for ended in history.ended]
    assert ids[0] == f"r{ENDED_KEPT + 4}"
    assert ids[-1] == "r5"
    assert history.outcomes == {"completed": ENDED_KEPT + 5}


async def test_refusals_count_by_reason_and_lately() -> None:
    history, clock = begun()
    history.told(REFUSED)
    history.exchanged(exchange(status=401, reason="auth_failure", record=None))
    await clock.advance(LATELY_S + 20.0)
    history.told(REFUSED)
    history.refused("bad_http")
    told = [(count.reason, count.total, count.lately) for count in history.refusals()]
    assert told == [("queue_full", 2, 1), ("bad_http", 1, 1), ("auth_failure", 1, 0)]
    assert history.ended == ()


def test_a_refusal_is_counted_by_its_record_or_by_its_exchange_and_never_by_both() -> None:
    history, _ = begun()
    history.told(REFUSED)
    history.exchanged(exchange(status=503, reason="queue_full", record=REFUSED))
    assert [count.total for count in history.refusals()] == [1]


def test_what_broke_or_was_left_is_no_refusal() -> None:
    history, _ = begun()
    history.told(record(outcome="failed", status=502, reason="upstream_failed"))
    history.told(record(outcome="refused", status=499, reason="client_gone"))
    history.exchanged(exchange(status=502, reason="upstream_failed", record=None))
    history.exchanged(exchange(status=499, reason="client_gone", record=None))
    assert history.refusals() == []


async def test_the_speed_is_that_of_the_last_seconds() -> None:
    history, clock = begun()
    assert history.tokens_per_s([]) == 0.0
    history.told(record(usage=Usage(completion=60), first_token_s=1.0, total_s=4.0))
    assert history.tokens_per_s([]) == pytest.approx(6.0, rel=0.15)
    await clock.advance(NOW_S / 2)
    assert history.tokens_per_s([]) == pytest.approx(6.0, rel=0.15)
    await clock.advance(NOW_S)
    assert history.tokens_per_s([]) == 0.0


def test_what_is_being_written_counts_by_its_last_seconds() -> None:
    history, _ = begun()
    assert history.tokens_per_s([(10, 2.0)]) == pytest.approx(1.0, rel=0.15)
    assert history.tokens_per_s([(1000, 100.0)]) == pytest.approx(10.0, rel=0.15)
    assert history.tokens_per_s([(1, 0.0)]) > 0.0


def test_an_answer_that_was_given_twice_was_written_once() -> None:
    history, _ = begun()
    history.told(record(rejoined=True))
    assert history.tokens_per_s([]) == 0.0
    assert len(history.ended) == 1


def test_estimates_are_judged_by_those_that_can_be() -> None:
    history, _ = begun()
    history.told(record(expected_wait_s=2.0, queue_s=1.0, expected_s=1.0, service_s=2.0))
    history.told(record(queue_s=0.001, service_s=0.001))  # too short
    history.told(record(queue_s=5.0, attempts=2))  # foreseen for another upstream
    history.told(record(queue_s=0.0, outcome="failed", status=502))  # not to its end
    history.told(record(queue_s=0.0, truncated=True))
    history.told(record(queue_s=0.0, usage=Usage()))  # only loaded
    assert (history.waits.count, history.waits.ratio, history.waits.error) == (1, 2.0, 1.0)
    assert (history.services.count, history.services.ratio) == (1, 0.5)


def test_a_usual_error_is_told_and_not_an_outliers() -> None:
    found = judged([(1.1, 1.0), (0.9, 1.0), (1.0, 1.0), (1.1, 1.0), (50.0, 1.0)])
    assert found.error == pytest.approx(0.1)
    assert found.ratio == pytest.approx(1.1)
    assert judged([]).error is None
