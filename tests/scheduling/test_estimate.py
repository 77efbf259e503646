import pytest

from gateway.core.ticket import Load
from gateway.scheduling.estimate import ServiceTime, expected_wait_s, retry_after_s


def load(running: int, waiting: int, slots: int = 1) -> Load:
    return Load(slots=slots, running=running, waiting=waiting, service_time_s=4.0)


def test_a_free_slot_means_no_wait() -> None:
    assert expected_wait_s(load(running=0, waiting=0)) == 0.0


def test_the_wait_grows_with_those_before_and_shrinks_with_the_slots() -> None:
    assert expected_wait_s(load(running=1, waiting=9)) == 40.0
    assert expected_wait_s(load(running=2, waiting=9, slots=2)) == 20.0


@pytest.mark.parametrize(("waiting", "expected"), [(0, 2.0), (9, 20.0), (1000, 120.0)])
def test_retry_after_is_within_its_bounds(waiting: int, expected: float) -> None:
    assert retry_after_s(load(running=1, waiting=waiting), 120.0) == expected


def test_retry_after_is_finite_when_no_slot_is_left() -> None:
    assert 1.0 <= retry_after_s(load(running=0, waiting=5, slots=0), 120.0) <= 120.0


def test_the_mean_follows_what_is_observed() -> None:
    service_time = ServiceTime()
    for _ in range(50):
        service_time.observe(0.5)
    assert service_time.mean_s == pytest.approx(0.5, rel=0.01)
