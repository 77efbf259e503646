"""What is true right now, as one frozen value; /ready and /metrics are views of it."""

from collections.abc import Mapping

import attrs

from gateway.admission.admission import Places
from gateway.core.ticket import Priority
from gateway.telemetry.families.state import Gauges, UpstreamGauges
from gateway.web.ops import Readiness


@attrs.frozen(kw_only=True)
class UpstreamStatistics:
    """One upstream.

    Attributes:
        up: It was reached, and has not failed since.
        holds_default_model: The model is in its memory, as far as it tells.
        models_loaded: So many are there, as far as it tells.
        models_loaded_bytes: Of their files.
    """

    name: str
    up: bool
    slots: int
    busy: int
    holds_default_model: bool
    models_loaded: int = 0
    models_loaded_bytes: int = 0


@attrs.frozen(kw_only=True)
class Statistics:
    """The whole daemon.

    Attributes:
        waiting: Requests that wait for a slot.
        active: Accepted requests that have not ended, those that wait too.
        waiting_by_class: Of `waiting`, without those who are about to go on or to leave.
        places: Held for those who were refused.
        kept_answers_bytes: Of answers that a caller may come back for.
        log_lines_dropped: Since the start.
        traces_sent, traces_dropped: Requests, since the start.
        last_drain_cut_off: Requests that the drain before this life had to cut off; None
            where nothing is known of it.
    """

    draining: bool
    warm: bool
    waiting: int
    queue_bound: int
    active: int
    upstreams: tuple[UpstreamStatistics, ...]
    log_lines_dropped: int
    traces_sent: int = 0
    traces_dropped: int = 0
    waiting_by_class: Mapping[Priority, int] = attrs.field(factory=dict)
    places: Places = Places()
    kept_answers_bytes: int = 0
    last_drain_cut_off: int | None = None


def readiness(now: Statistics) -> Readiness:
    """Whether a request that comes now has a chance; the gravest reason if not."""
    if now.draining:
        return Readiness("draining", "The gateway is shutting down.")
    if not any(upstream.up for upstream in now.upstreams):
        return Readiness("backend", "No backend answers.")
    if not now.warm:
        return Readiness("warming_up", "The default model is being loaded.")
    if now.waiting >= now.queue_bound and not any(
        upstream.busy < upstream.slots for upstream in now.upstreams if upstream.up
    ):
        return Readiness("queue_full", f"{now.waiting} requests are waiting.")
    return Readiness()


def gauges(now: Statistics, expected_wait_s: float | None) -> Gauges:
    """The part that a scrape shows beside the counters.

    Args:
        expected_wait_s: What a newcomer would wait for a slot; None where nobody
            could run its request. Finding out costs what letting one in does.
    """
    return Gauges(
        queue_depth=now.waiting,
        queue_max=now.queue_bound,
        ready=not readiness(now).reason,
        draining=now.draining,
        active_requests=now.active,
        waiting=now.waiting_by_class,
        expected_wait_s=expected_wait_s,
        places_held=now.places.held,
        places_returned=now.places.returned,
        places_lost=now.places.lost,
        kept_answers_bytes=now.kept_answers_bytes,
        model_loaded=any(
            upstream.up and upstream.holds_default_model for upstream in now.upstreams
        ),
        upstreams=tuple(
            UpstreamGauges(
                name=upstream.name,
                slots=upstream.slots,
                busy=upstream.busy,
                up=upstream.up,
                models_loaded=upstream.models_loaded,
                models_loaded_bytes=upstream.models_loaded_bytes,
            )
            for upstream in now.upstreams
        ),
        log_lines_dropped=now.log_lines_dropped,
        traces_sent=now.traces_sent,
        traces_dropped=now.traces_dropped,
        last_drain_cut_off=now.last_drain_cut_off,
    )
