"""The metrics page: what the daemon has counted, and how it is right now.

The predecessor's eleven keep their names and labels; what is new is
`gateway_…`. Requests are told once when they have ended, by `RequestRecord`
(what was asked of a model) and `Exchange` (what HTTP saw of it); what is true
at the moment of a scrape comes along with the scrape, as `Gauges`.

No label value comes from a caller: models are those the upstreams offer,
routes those of the route table, reasons and kinds those of the tree of errors,
and everything else is "other". Series have a hard bound on top.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs
from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TEXT_CONTENT_TYPE, TextFormatter

from gateway.core.errors import GatewayError
from gateway.core.ticket import Priority, RequestRecord
from gateway.telemetry.exchange import (
    CLASSES,
    CLIENT_GONE,
    METHODS,
    OTHER,
    Exchange,
    cached_tokens,
    tokens_per_s,
)
from gateway.telemetry.process import footprint, started_at
from gateway.telemetry.series import (
    Budget,
    Distribution,
    Tally,
    Total,
    Value,
    escape_help,
    escape_label,
    fit_for_label,
)

CONTENT_TYPE: Final = TEXT_CONTENT_TYPE

SERIES_MAX: Final = 1000
MODELS_MAX: Final = 32
UPSTREAMS_MAX: Final = 32

# A CPU box answers in seconds to minutes, at a few tokens a second.
LATENCY_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
FIRST_TOKEN_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
QUEUE_S: Final = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
TOKENS_PER_S: Final = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500)
LOAD_S: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

RATIO: Final = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 4)
"""What was expected over what it was: below 1 it took longer."""

JUDGED_S_MIN: Final = 0.05
"""Of a shorter time the ratio says nothing."""


def _tree(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


_ERRORS: Final = tuple(_tree(GatewayError))

STATUSES: Final = frozenset({200, 204, CLIENT_GONE, *(error.status for error in _ERRORS)})

REFUSALS: Final = {error.status for error in _ERRORS if error.status < 500} | {503}
"""What says no before any work was done. Other statuses of errors tell what broke."""

REJECTED: Final = sorted({e.reason for e in _ERRORS if e.status in REFUSALS})

ERROR_TYPES: Final = (
    *("backend_error", "model_not_found", "overload", "queue_full", "auth_failure"),
    *("timeout", "stall", "deadline", "client_gone", "shutting_down", "memory_pressure"),
    *("invalid_request", "invalid_json", "context_length", "unsupported_parameter"),
    *("unsupported_by_model", "too_large", "body_timeout", "internal_error"),
)
"""The predecessor's five, and what else can become of a generation request."""

UPSTREAM_KINDS: Final = sorted({e.kind for e in _ERRORS if hasattr(e, "kind")})

PHASES: Final = ("reading", "queued", "waiting", "streaming")
"""Where a caller left: while its request was read, then as in RequestRecord."""

CLOSE_REASONS: Final = (
    *("header_timeout", "body_timeout", "keepalive_timeout", "write_stall", "evicted"),
    *("too_many_connections", "bad_http"),
)
"""Why we, not the client, closed a connection."""


@attrs.frozen(kw_only=True)
class UpstreamGauges:
    """One upstream at the moment of a scrape."""

    name: str
    slots: int
    busy: int
    up: bool


@attrs.frozen(kw_only=True)
class Gauges:
    """What is true at the moment of a scrape.

    Attributes:
        active_requests: Accepted ones that have not ended; those that wait for a
            slot are among them.
        waiting: Those that wait for a slot, by class.
        expected_wait_s: How long a newcomer would wait for a slot; None where nobody
            could run its request.
        places_held: For clients that were refused, until they come back.
        places_returned: Whose clients came back in time, since the start.
        places_lost: Whose clients did not.
        kept_answers_bytes: Of answers that a client may come back for.
        model_loaded: Whether a request would be served now without loading first.
    """

    queue_depth: int = 0
    active_requests: int = 0
    waiting: Mapping[Priority, int] = attrs.field(factory=dict)
    expected_wait_s: float | None = None
    places_held: int = 0
    places_returned: int = 0
    places_lost: int = 0
    kept_answers_bytes: int = 0
    model_loaded: bool = False
    upstreams: Sequence[UpstreamGauges] = ()
    log_lines_dropped: int = 0


class Metrics:
    """Owns every series of this process. Nothing here awaits or raises.

    accepted = completed + failed + cancelled + active, in every scrape.

    Args:
        routes: Method and template of every route, as `Exchange` spells them.
    """

    def __init__(self, version: str, *, routes: Iterable[tuple[str, str]] = ()) -> None:
        self._registry = Registry()
        self._budget = Budget(SERIES_MAX)
        self._copied_out: list[Total | Tally | Distribution] = []
        self._models: dict[str, None] = {}  # in the order they came, as a set has none
        routes = tuple(routes)
        self._declare_inherited()
        self._declare_own({template for _, template in routes})
        self._declare_scheduling()
        self._declare_gauges(version)
        for method, template in routes:
            self._exchanges.begin((template, method, 200))

    # --- Telling ----------------------------------------------------------

    def told(self, record: RequestRecord) -> None:
        """A parsed request for text has ended."""
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
        if record.priority is not None and record.upstream:
            self._told_slot(record, record.priority)
        self._told_tokens(record)

    def _told_slot(self, record: RequestRecord, priority: Priority) -> None:
        """What it used of a slot, and how well that was foreseen."""
        self._slot_s.add((CLASSES[priority],), record.service_s)
        self._swaps.value += record.swaps
        completed = record.outcome == "completed"
        if not completed and not record.taken_over:
            self._wasted_slot_s.value += record.service_s
        if record.attempts != 1:
            return  # It was foreseen for the first.
        if record.queue_s >= JUDGED_S_MIN:
            self._wait_ratio.observe(record.expected_wait_s / record.queue_s)
        if completed and not record.truncated and record.service_s >= JUDGED_S_MIN:
            self._service_ratio.observe(record.expected_s / record.service_s)

    def _told_tokens(self, record: RequestRecord) -> None:
        usage = record.usage
        if usage.prompt > 0:
            cached = cached_tokens(record)
            self._prompt_tokens.add(("cached",), cached)
            self._prompt_tokens.add(("evaluated",), usage.prompt - cached)
        if usage.completion > 0:
            self._tokens.value += usage.completion
            speed = tokens_per_s(record)
            if speed is not None:
                self._speed.observe(speed)

    def exchanged(self, exchange: Exchange) -> None:
        """An HTTP request was answered. Its record, if it has one, is told apart from it."""
        self._exchanges.add((exchange.route, exchange.method, exchange.status))
        if exchange.record is None and exchange.reason:
            if exchange.status == CLIENT_GONE:
                self._client_gone.add(("reading",))
            elif exchange.status in REFUSALS:
                self._rejected.add((exchange.reason,))
            if exchange.reason in ERROR_TYPES:
                self._errors.add((exchange.reason,))

    def refused(self, reason: str, status: int = 400) -> None:
        """A request was refused below the app, which never sees it and makes no Exchange."""
        self._exchanges.add((OTHER, "OTHER", status))
        self._rejected.add((reason,))

    def upstream_failed(self, kind: str) -> None:
        """One attempt at an upstream broke; another may still serve the request."""
        self._upstream_errors.add((kind,))

    def model_loaded(self, seconds: float) -> None:
        """An upstream has brought a model to memory."""
        self._load_s.observe(seconds)

    def connection_closed(self, reason: str) -> None:
        """We closed a client's connection; one of CLOSE_REASONS."""
        self._closed.add((reason,))
        if reason == "write_stall":
            self._write_stalls.value += 1

    def set_models(self, names: Iterable[str]) -> None:
        """These models are there now, as callers spell them; the first MODELS_MAX get labels.

        One that is gone keeps its series, since it may come back, until
        another model needs the room.
        """
        wanted = [name for name in dict.fromkeys(names) if fit_for_label(name)][:MODELS_MAX]
        for name in wanted:
            if name in self._models:
                continue
            if len(self._models) == MODELS_MAX:
                gone = next(known for known in self._models if known not in wanted)
                del self._models[gone]
                self._requests.forget(gone)
            self._models[name] = None
            self._requests.begin((name, 200))

    # --- Showing ----------------------------------------------------------

    def render(self, gauges: Gauges) -> bytes:
        """The page, in the text format 0.0.4 (CONTENT_TYPE)."""
        self._set_gauges(gauges)
        for series in self._copied_out:
            series.copy_out()
        page: bytes = TextFormatter().marshall(self._registry)
        return page

    def _set_gauges(self, gauges: Gauges) -> None:
        self._queue_depth.set({}, gauges.queue_depth)
        self._active.set({}, gauges.active_requests)
        self._model_loaded.set({}, int(gauges.model_loaded))
        self._lines_dropped.value = gauges.log_lines_dropped
        self._series_refused.value = self._budget.refused
        ended = self._completed.value + self._failed.value + self._cancelled.value
        self._accepted.value = max(self._accepted.value, ended + gauges.active_requests)
        for priority in Priority:
            labels = {"priority": CLASSES[priority]}
            self._waiting.set(labels, gauges.waiting.get(priority, 0))
        self._places_held.set({}, gauges.places_held)
        self._places_returned.value = gauges.places_returned
        self._places_lost.value = gauges.places_lost
        self._kept_answers.set({}, gauges.kept_answers_bytes)
        self._expected_wait.values.clear()
        if gauges.expected_wait_s is not None:
            self._expected_wait.set({}, round(gauges.expected_wait_s, 3))
        for gauge in (self._slots, self._busy, self._up):
            gauge.values.clear()  # an upstream may be gone since the last scrape
        for upstream in gauges.upstreams[:UPSTREAMS_MAX]:
            name = upstream.name if fit_for_label(upstream.name) else OTHER
            labels = {"upstream": escape_label(name)}
            self._slots.set(labels, upstream.slots)
            self._busy.set(labels, upstream.busy)
            self._up.set(labels, int(upstream.up))
        now = footprint()
        self._cpu.value = now.cpu_s
        if now.resident_bytes is not None:
            self._resident.set({}, now.resident_bytes)
        if now.open_fds is not None:
            self._open_fds.set({}, now.open_fds)

    # --- What there is ------------------------------------------------------

    def _declare_inherited(self) -> None:
        """The predecessor's, by exact name and label."""
        self._latency = self._distribution(
            "request_latency_seconds",
            "From arrival to the end of the answer, of accepted requests that were answered.",
            LATENCY_S,
        )
        self._first_token = self._distribution(
            "time_to_first_token_seconds",
            "From arrival to the first token, of streamed requests.",
            FIRST_TOKEN_S,
        )
        self._speed = self._distribution(
            "tokens_per_second", "Speed at which answers were generated.", TOKENS_PER_S
        )
        self._tokens = self._total("tokens_generated_total", "Tokens of answers.")
        self._active = self._gauge(
            "active_requests", "Accepted requests that have not ended, queued ones too."
        )
        self._queue_depth = self._gauge("request_queue_depth", "Requests that wait for a slot.")
        self._model_loaded = self._gauge(
            "model_loaded", "1 if a request would be served without loading a model first."
        )
        self._errors = self._tally(
            "inference_errors_total",
            "Requests that got no whole answer, by reason.",
            type=ERROR_TYPES,
        )
        self._requests = self._tally(
            "requests_total",
            "Parsed requests for text, by model and HTTP status.",
            model=self._models.keys(),
            status=STATUSES,
        )
        self._queue_wait = self._distribution(
            "queue_wait_seconds", "From arrival to a slot, of accepted requests.", QUEUE_S
        )
        self._backend_latency = self._distribution(
            "backend_latency_seconds",
            "Processing time as the backend reports it, or as it was seen from here.",
            LATENCY_S,
        )

    def _declare_own(self, templates: Collection[str]) -> None:
        self._exchanges = self._tally(
            "gateway_requests_total",
            "HTTP requests, by route, method and status.",
            route=templates,
            method=METHODS,
            status=STATUSES,
        )
        self._rejected = self._tally(
            "gateway_rejected_total", "Requests refused before any work was done.", reason=REJECTED
        )
        self._upstream_errors = self._tally(
            "gateway_upstream_errors_total", "Attempts that an upstream broke.", kind=UPSTREAM_KINDS
        )
        self._client_gone = self._tally(
            "gateway_client_gone_total", "Callers who left before the end, by when.", phase=PHASES
        )
        self._closed = self._tally(
            "gateway_connections_closed_total",
            "Connections of clients that the gateway closed.",
            reason=CLOSE_REASONS,
        )
        self._write_stalls = self._total(
            "gateway_write_stalls_total", "Answers given up because nobody read them."
        )
        self._accepted = self._total(
            "gateway_requests_accepted_total",
            "Requests accepted: completed, failed, cancelled and active ones together.",
        )
        self._completed = self._total(
            "gateway_requests_completed_total", "Accepted requests with a whole answer."
        )
        self._failed = self._total(
            "gateway_requests_failed_total", "Accepted requests that ended in an error."
        )
        self._cancelled = self._total(
            "gateway_requests_cancelled_total", "Accepted requests whose caller left."
        )
        self._lines_dropped = self._total(
            "gateway_log_lines_dropped_total", "Log lines lost because nobody took them in time."
        )
        self._series_refused = self._total(
            "gateway_series_refused_total", "Times that the bound on series made one an other."
        )
        self._cpu = self._total(
            "process_cpu_seconds_total", "Processor time used, user and system."
        )

    def _declare_scheduling(self) -> None:
        """What was decided, and what came of it."""
        self._waiting = self._gauge(
            "gateway_requests_waiting", "Requests that wait for a slot, by class.", len(CLASSES)
        )
        self._expected_wait = self._gauge(
            "gateway_expected_wait_seconds",
            "How long a request for the default model that came now would wait for a slot.",
        )
        self._wait_ratio = self._distribution(
            "gateway_wait_estimate_ratio",
            "Expected over actual wait for a slot, of waits from 50 ms.",
            RATIO,
        )
        self._service_ratio = self._distribution(
            "gateway_service_estimate_ratio",
            "Expected over actual time in a slot, of whole answers from 50 ms.",
            RATIO,
        )
        self._slot_s = self._tally(
            "gateway_slot_seconds_total",
            "Time that requests had in slots, by class.",
            priority=CLASSES,
        )
        self._wasted_slot_s = self._total(
            "gateway_wasted_slot_seconds_total",
            "Of that the time of requests that failed or whose caller left, unless the caller's"
            " next try got the answer.",
        )
        self._prompt_tokens = self._tally(
            "gateway_prompt_tokens_total",
            "Tokens of prompts, evaluated or found in a slot: as the engine tells, else estimated"
            " from the characters that the slot was expected to hold.",
            source=("evaluated", "cached"),
        )
        self._swaps = self._total(
            "gateway_model_swaps_total",
            "Times that a request got a slot whose engine did not hold its model.",
        )
        self._load_s = self._distribution(
            "gateway_model_load_seconds", "What it took to load a model.", LOAD_S
        )
        self._truncated = self._total(
            "gateway_truncated_total", "Answers cut at their deadline, with what there was."
        )
        self._rejoined = self._total(
            "gateway_rejoined_total", "Retries that got the answer of an earlier try."
        )
        self._kept_answers = self._gauge(
            "gateway_kept_answers_bytes", "Of answers kept for callers who may come back."
        )
        self._places_held = self._gauge(
            "gateway_places_held", "Places held for refused callers, until they come back."
        )
        self._places_returned = self._total(
            "gateway_places_returned_total", "Places whose callers came back in time."
        )
        self._places_lost = self._total(
            "gateway_places_lost_total", "Places given up because nobody came back."
        )

    def _declare_gauges(self, version: str) -> None:
        self._slots = self._gauge(
            "gateway_slots", "Requests an upstream may run at once.", UPSTREAMS_MAX
        )
        self._busy = self._gauge("gateway_slots_busy", "Slots in use.", UPSTREAMS_MAX)
        self._up = self._gauge("gateway_upstream_up", "1 if requests go there.", UPSTREAMS_MAX)
        self._resident = self._gauge("process_resident_memory_bytes", "Memory held.")
        self._open_fds = self._gauge("process_open_fds", "File descriptors held.")
        info = self._gauge("gateway_build_info", "Always 1; the label tells the version.")
        info.set({"version": escape_label(version)}, 1)
        start = self._gauge("process_start_time_seconds", "When the process began.")
        start.set({}, round(started_at(), 2))

    def _total(self, name: str, doc: str) -> Total:
        total = Total(Counter(name, escape_help(doc), registry=self._registry), self._budget)
        self._copied_out.append(total)
        return total

    def _tally(self, name: str, doc: str, **labels: Collection[Value]) -> Tally:
        collector = Counter(name, escape_help(doc), registry=self._registry)
        tally = Tally(collector, labels, self._budget)
        self._copied_out.append(tally)
        return tally

    def _distribution(self, name: str, doc: str, bounds: Sequence[float]) -> Distribution:
        collector = Histogram(name, escape_help(doc), registry=self._registry, buckets=bounds)
        distribution = Distribution(collector, bounds, self._budget)
        self._copied_out.append(distribution)
        return distribution

    def _gauge(self, name: str, doc: str, series_max: int = 1) -> Gauge:
        self._budget.reserve(series_max)
        return Gauge(name, escape_help(doc), registry=self._registry)
