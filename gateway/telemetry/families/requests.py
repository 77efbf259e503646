"""What became of requests: the predecessor's names, and how every accepted one ended."""

from collections.abc import Collection
from typing import Final

from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import CLIENT_GONE, tokens_per_s
from gateway.telemetry.families.labels import (
    ERROR_TYPES,
    PHASES,
    REFUSALS,
    REJECTED,
    STATUSES,
    UPSTREAM_KINDS,
)
from gateway.telemetry.families.registry import Families

# A CPU box answers in seconds to minutes, at a few tokens a second.
LATENCY_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
FIRST_TOKEN_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
QUEUE_S: Final = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
TOKENS_PER_S: Final = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500)

OUT_OF_TIME: Final = 504


class RequestFamilies:
    """accepted = completed + failed + cancelled + active, in every scrape.

    Args:
        models: Those that have labels of their own; may grow and shrink.
    """

    def __init__(self, families: Families, *, models: Collection[str]) -> None:
        self._declare_inherited(families, models)
        self._declare_own(families)

    def told(self, record: RequestRecord) -> None:
        """A parsed request has ended."""
        self._requests.add((record.model, record.status))
        if record.reason:
            self._errors.add((record.reason,))
        if record.status == CLIENT_GONE:
            self._client_gone.add((record.phase,))
        match record.outcome:
            case "completed":
                self._completed.value += 1
                self._latency.observe(record.total_s)
            case "failed":
                self._failed.value += 1
                self._latency.observe(record.total_s)
                self._promises_broken.value += record.status == OUT_OF_TIME
            case "cancelled":
                self._cancelled.value += 1
            case "refused":
                if record.status != CLIENT_GONE:
                    self._rejected.add((record.reason,))
                return
        if record.stream and record.first_token_s is not None:
            self._first_token.observe(record.first_token_s)
        self._truncated.value += record.truncated
        if record.rejoined:
            # All else is told by the request that it came back for.
            self._rejoined.value += 1
            return
        self._queue_wait.observe(record.queue_s)
        if record.backend_s is not None:
            self._backend_latency.observe(record.backend_s)
        if record.usage.completion > 0:
            self._tokens.value += record.usage.completion
            speed = tokens_per_s(record)
            if speed is not None:
                self._speed.observe(speed)

    def unparsed(self, reason: str, status: int) -> None:
        """A request was answered with an error, and never came to have a record."""
        if status == CLIENT_GONE:
            self._client_gone.add(("reading",))
        elif status in REFUSALS:
            self._rejected.add((reason,))
        if reason in ERROR_TYPES:
            self._errors.add((reason,))

    def refused(self, reason: str) -> None:
        """Below the app, which never saw it."""
        self._rejected.add((reason,))

    def upstream_failed(self, kind: str) -> None:
        self._upstream_errors.add((kind,))

    def begin_model(self, name: str) -> None:
        self._requests.begin((name, 200))

    def forget_model(self, name: str) -> None:
        self._requests.forget(name)

    def set_active(self, active: int) -> None:
        """So many accepted requests have not ended."""
        ended = self._completed.value + self._failed.value + self._cancelled.value
        self._accepted.value = max(self._accepted.value, ended + active)

    def _declare_inherited(self, families: Families, models: Collection[str]) -> None:
        """The predecessor's, by exact name and label; its gauges are in `state.py`."""
        self._latency = families.distribution(
            "request_latency_seconds",
            "From arrival to the end of the answer, of accepted requests that were answered.",
            LATENCY_S,
        )
        self._first_token = families.distribution(
            "time_to_first_token_seconds",
            "From arrival to the first token, of streamed requests.",
            FIRST_TOKEN_S,
        )
        self._speed = families.distribution(
            "tokens_per_second", "Speed at which answers were generated.", TOKENS_PER_S
        )
        self._tokens = families.total("tokens_generated_total", "Tokens of answers.")
        self._errors = families.tally(
            "inference_errors_total",
            "Requests that got no whole answer, by reason.",
            type=ERROR_TYPES,
        )
        self._requests = families.tally(
            "requests_total",
            "Parsed requests, by model and HTTP status.",
            model=models,
            status=STATUSES,
        )
        self._queue_wait = families.distribution(
            "queue_wait_seconds", "From arrival to a slot, of accepted requests.", QUEUE_S
        )
        self._backend_latency = families.distribution(
            "backend_latency_seconds",
            "Processing time as the backend reports it, or as it was seen from here.",
            LATENCY_S,
        )

    def _declare_own(self, families: Families) -> None:
        self._accepted = families.total(
            "gateway_requests_accepted_total",
            "Requests accepted: completed, failed, cancelled and active ones together.",
        )
        self._completed = families.total(
            "gateway_requests_completed_total", "Accepted requests with a whole answer."
        )
        self._failed = families.total(
            "gateway_requests_failed_total", "Accepted requests that ended in an error."
        )
        self._promises_broken = families.total(
            "gateway_promises_broken_total", "Accepted requests that were not answered in time."
        )
        self._cancelled = families.total(
            "gateway_requests_cancelled_total", "Accepted requests whose caller left."
        )
        self._rejected = families.tally(
            "gateway_rejected_total", "Requests refused before any work was done.", reason=REJECTED
        )
        self._upstream_errors = families.tally(
            "gateway_upstream_errors_total", "Attempts that an upstream broke.", kind=UPSTREAM_KINDS
        )
        self._client_gone = families.tally(
            "gateway_client_gone_total", "Callers who left before the end, by when.", phase=PHASES
        )
        self._truncated = families.total(
            "gateway_truncated_total", "Answers cut at their deadline, with what there was."
        )
        self._rejoined = families.total(
            "gateway_rejoined_total", "Retries that got the answer of an earlier try."
        )
