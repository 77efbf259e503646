"""What a caller can ask about its own requests: where one is, and what one would meet."""

from typing import Any

from aiohttp import web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import RequestNotFound
from gateway.core.ticket import ANONYMOUS, Forecast, Progress
from gateway.service import Service
from gateway.web.visit import VISIT, json_reply


class Requests:
    """GET /v1/requests/{id}."""

    def __init__(self, *, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def one(self, web_request: web.Request) -> web.Response:
        visit = web_request[VISIT]
        progress = self._service.progress(web_request.match_info["id"], visit.caller or ANONYMOUS)
        if progress is None:
            raise RequestNotFound("There is no such request of yours, or it ended long ago.")
        return json_reply(visit, jsonio.dumps(progress_document(progress)), self._clock.now())


def progress_document(progress: Progress) -> dict[str, Any]:
    """What is shown of a request, times in milliseconds."""
    document: dict[str, Any] = {
        "object": "gateway.request",
        "id": progress.request_id,
        "model": progress.model,
        "state": progress.state,
        "elapsed_ms": _ms(progress.so_far_s),
        "queue_ms": _ms(progress.queue_s),
        "load_ms": _ms(progress.load_s),
        "prefill_ms": _ms(progress.prefill_s),
        "decode_ms": _ms(progress.decode_s),
        "estimated_service_ms": _ms(progress.service_s),
    }
    record = progress.record
    if record is None:
        document["estimated_wait_ms"] = _ms(progress.wait_s)
        document["queue_position"] = progress.position
        document["waits_for"] = progress.why
        return document
    document["outcome"] = record.outcome
    document["status"] = record.status
    document["reason"] = record.reason
    document["truncated"] = record.truncated
    document["rejoined"] = record.rejoined
    document["usage"] = {
        "prompt_tokens": record.usage.prompt,
        "completion_tokens": record.usage.completion,
    }
    return document


def forecast_document(forecast: Forecast) -> dict[str, Any]:
    """What is shown of a dry run, times in milliseconds."""
    document: dict[str, Any] = {
        "object": "gateway.forecast",
        "accepted": not forecast.refused,
        "code": forecast.refused or None,
        "estimated_wait_ms": _ms(forecast.wait_s),
        "estimated_service_ms": _ms(forecast.service_s),
        "queue_position": forecast.position,
        "deadline_ms": _ms(forecast.deadline_s),
    }
    if forecast.retry_after_s is not None:
        document["retry_after_ms"] = _ms(forecast.retry_after_s)
    return document


def _ms(seconds: float) -> int:
    return round(max(0.0, seconds) * 1000.0)
