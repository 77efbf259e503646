"""What is true at the moment of a scrape, and so comes along with it."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from gateway.core.ticket import Priority
from gateway.telemetry.exchange import CLASSES, OTHER
from gateway.telemetry.families.registry import Families
from gateway.telemetry.series import escape_label, fit_for_label

UPSTREAMS_MAX: Final = 32


@attrs.frozen(kw_only=True)
class UpstreamGauges:
    """One upstream.

    Attributes:
        models_loaded: In its memory, as far as it tells.
        models_loaded_bytes: Of their files.
    """

    name: str
    slots: int
    busy: int
    up: bool
    models_loaded: int = 0
    models_loaded_bytes: int = 0


@attrs.frozen(kw_only=True)
class Gauges:
    """The whole daemon.

    Attributes:
        queue_max: As many may wait for a slot.
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
        ready: Whether a request that comes now has a chance.
        draining: Whether nothing new is taken any more.
        last_drain_cut_off: Requests that the drain before this life had to cut off; None
            where nothing is known of it.
    """

    queue_depth: int = 0
    queue_max: int = 0
    active_requests: int = 0
    waiting: Mapping[Priority, int] = attrs.field(factory=dict)
    expected_wait_s: float | None = None
    places_held: int = 0
    places_returned: int = 0
    places_lost: int = 0
    kept_answers_bytes: int = 0
    model_loaded: bool = False
    ready: bool = False
    draining: bool = False
    last_drain_cut_off: int | None = None
    upstreams: Sequence[UpstreamGauges] = ()
    log_lines_dropped: int = 0
    traces_sent: int = 0
    traces_dropped: int = 0


class StateFamilies:
    def __init__(self, families: Families) -> None:
        self._declare_queue(families)
        self._declare_upstreams(families)
        self._ready = families.gauge(
            "gateway_ready", "1 if a request that comes now has a chance, as /ready says."
        )
        self._draining = families.gauge(
            "gateway_draining", "1 if nothing new is taken any more, and what runs goes on."
        )
        self._cut_off = families.gauge(
            "gateway_last_drain_cut_off_requests",
            "Requests that the drain before the last start had to cut off.",
        )
        self._lines_dropped = families.total(
            "gateway_log_lines_dropped_total", "Log lines lost because nobody took them in time."
        )
        self._traces_sent = families.total(
            "gateway_traces_sent_total", "Requests whose spans the collector took."
        )
        self._traces_dropped = families.total(
            "gateway_traces_dropped_total", "Requests whose spans no collector took."
        )

    def set(self, gauges: Gauges) -> None:
        """As it is now."""
        self._queue_depth.set({}, gauges.queue_depth)
        self._queue_max.set({}, gauges.queue_max)
        self._active.set({}, gauges.active_requests)
        self._model_loaded.set({}, int(gauges.model_loaded))
        self._ready.set({}, int(gauges.ready))
        self._draining.set({}, int(gauges.draining))
        self._cut_off.values.clear()
        if gauges.last_drain_cut_off is not None:
            self._cut_off.set({}, gauges.last_drain_cut_off)
        self._lines_dropped.value = gauges.log_lines_dropped
        self._traces_sent.value = gauges.traces_sent
        self._traces_dropped.value = gauges.traces_dropped
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
        self._set_upstreams(gauges.upstreams[:UPSTREAMS_MAX])

    def _set_upstreams(self, upstreams: Sequence[UpstreamGauges]) -> None:
        for gauge in (self._slots, self._busy, self._up, self._models, self._models_bytes):
            gauge.values.clear()  # an upstream may be gone since the last scrape
        for upstream in upstreams:
            name = upstream.name if fit_for_label(upstream.name) else OTHER
            labels = {"upstream": escape_label(name)}
            self._slots.set(labels, upstream.slots)
            self._busy.set(labels, upstream.busy)
            self._up.set(labels, int(upstream.up))
            self._models.set(labels, upstream.models_loaded)
            self._models_bytes.set(labels, upstream.models_loaded_bytes)

    def _declare_queue(self, families: Families) -> None:
        self._active = families.gauge(
            "active_requests", "Accepted requests that have not ended, queued ones too."
        )
        self._queue_depth = families.gauge("request_queue_depth", "Requests that wait for a slot.")
        self._queue_max = families.gauge(
            "gateway_request_queue_max", "Requests that may wait for a slot."
        )
        self._waiting = families.gauge(
            "gateway_requests_waiting", "Requests that wait for a slot, by class.", len(CLASSES)
        )
        self._expected_wait = families.gauge(
            "gateway_expected_wait_seconds",
            "How long a request for the default model that came now would wait for a slot.",
        )
        self._kept_answers = families.gauge(
            "gateway_kept_answers_bytes", "Of answers kept for callers who may come back."
        )
        self._places_held = families.gauge(
            "gateway_places_held", "Places held for refused callers, until they come back."
        )
        self._places_returned = families.total(
            "gateway_places_returned_total", "Places whose callers came back in time."
        )
        self._places_lost = families.total(
            "gateway_places_lost_total", "Places given up because nobody came back."
        )

    def _declare_upstreams(self, families: Families) -> None:
        self._model_loaded = families.gauge(
            "model_loaded", "1 if a request would be served without loading a model first."
        )
        self._slots = families.gauge(
            "gateway_slots", "Requests an upstream may run at once.", UPSTREAMS_MAX
        )
        self._busy = families.gauge("gateway_slots_busy", "Slots in use.", UPSTREAMS_MAX)
        self._up = families.gauge("gateway_upstream_up", "1 if requests go there.", UPSTREAMS_MAX)
        self._models = families.gauge(
            "gateway_models_loaded",
            "Models in an upstream's memory, as far as it tells.",
            UPSTREAMS_MAX,
        )
        self._models_bytes = families.gauge(
            "gateway_models_loaded_bytes", "Of the files of the models in memory.", UPSTREAMS_MAX
        )
