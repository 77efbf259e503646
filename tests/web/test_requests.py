import attrs
import pytest

from gateway.core.messages import Usage
from gateway.core.ticket import Forecast, Progress, RequestRecord
from gateway.web.requests import forecast_document, progress_document

RUNNING = Progress(
    request_id="mine",
    model="m",
    state="decode",
    service_s=12.0,
    so_far_s=9.0004,
    queue_s=2.0,
    load_s=3.0,
    prefill_s=1.5,
    decode_s=2.5,
)
QUEUED = Progress(
    request_id="mine",
    model="m",
    state="queued",
    position=3,
    wait_s=31.25,
    why="a slot",
    service_s=12.0,
    so_far_s=2.0,
    queue_s=2.0,
)
RECORD = RequestRecord(
    request_id="mine",
    caller="me",
    model="m",
    stream=False,
    outcome="completed",
    status=200,
    usage=Usage(prompt=7, completion=5),
    truncated=True,
)
ENDED = attrs.evolve(RUNNING, state="ended", record=RECORD)


def test_of_one_that_waits_it_is_told_for_what_and_how_long() -> None:
    assert progress_document(QUEUED) == {
        "object": "gateway.request",
        "id": "mine",
        "model": "m",
        "state": "queued",
        "elapsed_ms": 2000,
        "queue_ms": 2000,
        "load_ms": 0,
        "prefill_ms": 0,
        "decode_ms": 0,
        "estimated_service_ms": 12_000,
        "estimated_wait_ms": 31_250,
        "queue_position": 3,
        "waits_for": "a slot",
    }


def test_of_one_that_runs_its_time_is_told_in_parts() -> None:
    told = progress_document(RUNNING)
    parts = ("queue_ms", "load_ms", "prefill_ms", "decode_ms")
    assert [told[part] for part in parts] == [2000, 3000, 1500, 2500]
    assert told["elapsed_ms"] == 9000
    assert (told["estimated_wait_ms"], told["waits_for"]) == (0, "")


def test_of_one_that_has_ended_it_is_told_how() -> None:
    told = progress_document(ENDED)
    assert (told["state"], told["outcome"], told["status"], told["reason"]) == (
        "ended",
        "completed",
        200,
        "",
    )
    assert (told["truncated"], told["rejoined"]) == (True, False)
    assert told["usage"] == {"prompt_tokens": 7, "completion_tokens": 5}
    assert not {"estimated_wait_ms", "queue_position", "waits_for"} & told.keys()


def test_no_time_is_less_than_nothing() -> None:
    told = progress_document(attrs.evolve(RUNNING, prefill_s=-0.001))
    assert told["prefill_ms"] == 0


FITS = Forecast(wait_s=4.5, service_s=12.0, position=2, deadline_s=60.0)


def test_of_what_would_be_let_in_it_is_told_when() -> None:
    assert forecast_document(FITS) == {
        "object": "gateway.forecast",
        "accepted": True,
        "code": None,
        "estimated_wait_ms": 4500,
        "estimated_service_ms": 12_000,
        "queue_position": 2,
        "deadline_ms": 60_000,
    }


@pytest.mark.parametrize(("after_s", "told"), [(7.5, {"retry_after_ms": 7500}), (None, {})])
def test_of_what_would_be_refused_it_is_told_why_and_when_to_come_back(
    after_s: float | None, told: dict[str, int]
) -> None:
    forecast = attrs.evolve(FITS, refused="queue_full", retry_after_s=after_s)
    document = forecast_document(forecast)
    assert (document["accepted"], document["code"]) == (False, "queue_full")
    assert {name: document[name] for name in document if name == "retry_after_ms"} == told
