"""What is true right now, as one frozen value; /ready and /metrics are views of it."""

from collections.abc import Mapping

import attrs

from gateway.admission.admission import Places
from gateway.core.ticket import Priority
from gateway.telemetry.metrics import Gauges, UpstreamGauges
from gateway.web.ops import Readiness


@attrs.frozen(kw_only=True)
class UpstreamStatistics:
    """One upstream.

    Attributes:
        up: It was reached, and has not failed since.
        holds_default_model: The model is in its memory, as far as it tells.
    """

    name: str
    up: bool
    slots: int
    busy: int
    holds_default_model: bool


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
    """

    draining: bool
    warm: bool
    waiting: int
    queue_bound: int
    active: int
    upstreams: tuple[UpstreamStatistics, ...]
    log_lines_dropped: int
    waiting_by_class: Mapping[Priority, int] = attrs.field(factory=dict)
    places: Places = Places()
    kept_answers_bytes: int = 0


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
                name=upstream.name, slots=upstream.slots, busy=upstream.busy, up=upstream.up
            )
            for upstream in now.upstreams
        ),
        log_lines_dropped=now.log_lines_dropped,
    )
