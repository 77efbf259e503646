import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.window import Window


def test_what_is_long_past_counts_no_more() -> None:
    window = Window(10.0, 5)
    window.add(3, 1.0)
    window.add(4, 9.0)
    assert window.total(9.5) == 7
    assert window.total(10.5) == 4
    assert window.total(18.0) == 0


def test_a_step_is_used_again_for_a_later_time() -> None:
    window = Window(10.0, 5)
    window.add(3, 1.0)
    window.add(5, 11.0)
    assert window.total(11.0) == 5
    window.add(7, 1.5)
    assert window.total(11.0) == 5, "that moment was left behind"


def test_what_came_evenly_counts_by_the_part_that_lies_within() -> None:
    window = Window(10.0, 10)
    window.spread(100.0, 0.0, 20.0)
    assert window.total(20.0) == pytest.approx(50.0, abs=5.0)
    assert window.per_s(20.0) == pytest.approx(5.0, rel=0.15)


def test_what_came_all_at_once_counts_whole() -> None:
    window = Window(10.0, 10)
    window.spread(8.0, 5.0, 5.0)
    assert window.total(5.0) == 8.0


@given(
    amount=st.floats(0.1, 1e6),
    since=st.floats(0.0, 1e5),
    length=st.floats(0.0, 9.0),
)
def test_nothing_of_what_lies_within_is_lost(amount: float, since: float, length: float) -> None:
    window = Window(10.0, 10)
    window.spread(amount, since, since + length)
    assert window.total(since + length) == pytest.approx(amount)
