import attrs
import pytest

from gateway.admission.admission import Places
from gateway.core.ticket import Priority
from gateway.daemon.statistics import Statistics, UpstreamStatistics, gauges, readiness

UP = UpstreamStatistics(name="one", up=True, slots=2, busy=1, holds_default_model=True)
WELL = Statistics(
    draining=False,
    warm=True,
    waiting=0,
    queue_bound=5,
    active=1,
    upstreams=(UP,),
    log_lines_dropped=0,
)
DOWN = attrs.evolve(UP, up=False)
BUSY = attrs.evolve(UP, busy=2)


def test_a_daemon_that_is_well_is_ready() -> None:
    assert readiness(WELL).reason == ""


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (attrs.evolve(WELL, draining=True), "draining"),
        (attrs.evolve(WELL, upstreams=(DOWN,)), "backend"),
        (attrs.evolve(WELL, upstreams=()), "backend"),
        (attrs.evolve(WELL, warm=False), "warming_up"),
        (attrs.evolve(WELL, waiting=5, upstreams=(BUSY,)), "queue_full"),
        (attrs.evolve(WELL, draining=True, warm=False, upstreams=(DOWN,)), "draining"),
    ],
)
def test_the_gravest_reason_is_told(now: Statistics, reason: str) -> None:
    assert readiness(now).reason == reason


def test_a_free_slot_is_room_even_if_the_queue_is_full() -> None:
    assert readiness(attrs.evolve(WELL, waiting=5)).reason == ""


def test_one_upstream_that_is_up_is_enough() -> None:
    assert readiness(attrs.evolve(WELL, upstreams=(DOWN, UP))).reason == ""


def test_the_gauges_show_the_same() -> None:
    shown = gauges(attrs.evolve(WELL, waiting=3, upstreams=(UP, DOWN)), None)
    assert (shown.queue_depth, shown.active_requests, shown.model_loaded) == (3, 1, True)
    assert [upstream.up for upstream in shown.upstreams] == [True, False]
    assert not gauges(attrs.evolve(WELL, upstreams=(DOWN,)), None).model_loaded


@pytest.mark.parametrize(
    ("now", "ready", "draining"),
    [(WELL, True, False), (attrs.evolve(WELL, draining=True), False, True)],
)
def test_the_gauges_say_what_ready_says(now: Statistics, ready: bool, draining: bool) -> None:
    shown = gauges(now, None)
    assert (shown.ready, shown.draining, shown.queue_max) == (ready, draining, 5)


def test_the_gauges_show_what_waits_and_what_is_held() -> None:
    shown = gauges(
        attrs.evolve(
            WELL,
            waiting_by_class={Priority.BATCH: 2},
            places=Places(held=1, returned=2, lost=3),
            kept_answers_bytes=4,
            last_drain_cut_off=5,
        ),
        1.5,
    )
    assert shown.waiting == {Priority.BATCH: 2}
    assert shown.expected_wait_s == 1.5
    assert (shown.places_held, shown.places_returned, shown.places_lost) == (1, 2, 3)
    assert (shown.kept_answers_bytes, shown.last_drain_cut_off) == (4, 5)
