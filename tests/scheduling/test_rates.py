import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.rates import CONCURRENCY_MAX, Meter, Sums, WritingRates


def meter(began_s: float = 0.1) -> Meter:
    return Meter(Sums(began_s=began_s), prior_units=8.0)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("tokens", [8, 20, 400])
def test_a_prior_wrong_by_two_is_right_after_five(factor: float, tokens: int) -> None:
    writing = meter()
    for _ in range(5):
        writing.observe(tokens, tokens * 0.1 * factor)
    assert writing.each_s == pytest.approx(0.1 * factor, rel=0.03)


@pytest.mark.parametrize("before", [0, 1, 3, 30])
@pytest.mark.parametrize("tokens", [4, 20, 2000])
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_one_outlier_moves_it_by_two_at_the_most(before: int, tokens: int, factor: float) -> None:
    writing = meter()
    for _ in range(before):
        writing.observe(20, 2.0)
    was_s = writing.each_s
    writing.observe(tokens, tokens * 0.1 * factor)
    assert 0.5 * was_s <= writing.each_s <= 2.0 * was_s * (1.0 + 1e-9)


@pytest.mark.parametrize("factor", [0.05, 20.0])
def test_a_box_that_has_changed_is_believed(factor: float) -> None:
    writing = meter()
    for _ in range(50):
        writing.observe(20, 2.0)
    for _ in range(12):
        writing.observe(20, 2.0 * factor)
    assert writing.each_s == pytest.approx(0.1 * factor, rel=0.1)


def test_doubt_goes_with_evidence_and_stays_with_scatter() -> None:
    steady, noisy = meter(), meter()
    assert math.sqrt(steady.variance) == 0.5
    for number in range(30):
        steady.observe(20, 2.0)
        noisy.observe(20, 2.0 * (1.3 if number % 2 else 0.7))
    assert math.sqrt(steady.variance) < 0.001
    assert math.sqrt(noisy.variance) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("units", "seconds"), [(0, 1.0), (-1, 1.0), (20, 0.0), (20, -1.0), (1, 1e9), (20, math.nan)]
)
def test_what_can_not_be_true_is_not_taken_in(units: float, seconds: float) -> None:
    writing = meter()
    writing.observe(units, seconds)
    assert writing.each_s == 0.1
    assert writing.sums.count == 0


@given(
    st.builds(
        Sums,
        began_s=st.floats(1e-7, 1e4),
        units=st.floats(0.0, 1e12),
        seconds=st.floats(0.0, 1e12),
        squares=st.floats(0.0, 1e12),
        count=st.integers(0, 2**53),
    ),
    st.lists(st.tuples(st.floats(), st.floats()), max_size=10),
)
def test_whatever_is_remembered_or_seen_it_stays_sane(
    sums: Sums, seen: list[tuple[float, float]]
) -> None:
    any_meter = Meter(sums, prior_units=8.0)
    for units, seconds in seen:
        any_meter.observe(units, seconds)
    assert 1e-7 <= any_meter.each_s <= 1e4
    assert 0.0 <= any_meter.variance < 2.0


# --- At each number of requests at once -----------------------------------------


def rates(**seen: float) -> WritingRates:
    writing = WritingRates(0.1, prior_units=8.0)
    for name, each_s in seen.items():
        for _ in range(30):
            writing.observe(int(name[1:]), 20, 20 * each_s)
    return writing


def test_before_anything_was_seen_many_at_once_share_one_rate() -> None:
    assert rates().at(1).each_s == 0.1
    assert rates().at(4).each_s == pytest.approx(0.4)


def test_each_number_at_once_has_its_own_rate() -> None:
    writing = rates(k1=0.1, k4=0.15)
    assert writing.at(1).each_s == pytest.approx(0.1, rel=0.01)
    assert writing.at(4).each_s == pytest.approx(0.15, rel=0.01)


def test_a_number_never_seen_borrows_what_is_true_on_every_engine() -> None:
    writing = rates(k2=0.1, k8=0.16)
    assert writing.at(1).each_s == pytest.approx(0.1, rel=0.01)  # no slower than two
    assert writing.at(3).each_s == pytest.approx(0.15, rel=0.01)  # three share what two had
    assert writing.at(5).each_s == pytest.approx(0.16, rel=0.01)  # no slower than eight
    assert writing.at(16).each_s == pytest.approx(0.32, rel=0.01)


def test_what_was_borrowed_follows_what_it_was_borrowed_from() -> None:
    writing = rates(k1=0.1)
    assert writing.at(2).each_s == pytest.approx(0.2, rel=0.01)
    for _ in range(50):
        writing.observe(1, 20, 1.0)
    assert writing.at(2).each_s == pytest.approx(0.1, rel=0.1)


@given(st.integers(-10, 10**6))
def test_any_number_at_once_has_a_rate(concurrency: int) -> None:
    writing = rates()
    writing.observe(concurrency, 20, 2.0)
    assert writing.at(concurrency).each_s > 0.0
    assert all(1 <= number <= CONCURRENCY_MAX for number, _ in writing.state())
