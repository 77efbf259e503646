import pytest

from gateway.pool.breaker import TRANSITIONS, Breaker, Signal, State


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(failures_max=3)
    for _ in range(5):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.closed
    for _ in range(3):
        breaker.failed(0.0)
    assert breaker.state is State.OPEN


def test_an_open_breaker_is_probed_only_after_its_cooldown() -> None:
    breaker = Breaker(failures_max=1, cooldown_s=1.0)
    breaker.failed(10.0)
    assert not breaker.may_probe(10.9)
    assert breaker.may_probe(11.0)
    assert breaker.state is State.HALF_OPEN


@pytest.mark.parametrize(("alive", "then"), [(True, State.CLOSED), (False, State.OPEN)])
def test_the_probe_of_a_half_open_breaker_decides(alive: bool, then: State) -> None:
    breaker = Breaker(failures_max=1, cooldown_s=1.0)
    breaker.failed(0.0)
    breaker.may_probe(2.0)
    breaker.probed(alive, 2.0)
    assert breaker.state is then


def test_a_failed_probe_opens_a_closed_breaker_at_once() -> None:
    breaker = Breaker(failures_max=5)
    breaker.probed(False, 0.0)
    assert not breaker.closed


def test_it_counts_afresh_after_it_has_closed() -> None:
    breaker = Breaker(failures_max=2, cooldown_s=0.0)
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.may_probe(0.0)
    breaker.probed(True, 0.0)
    breaker.failed(0.0)
    assert breaker.closed


def test_every_move_leads_to_a_known_state_and_every_state_can_be_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {signal for _, signal in TRANSITIONS} == set(Signal)


@pytest.mark.parametrize("alive", [True, False])
def test_a_probe_that_began_before_it_opened_does_not_close_it(alive: bool) -> None:
    breaker = Breaker(failures_max=1)
    breaker.failed(0.0)
    breaker.probed(alive, 0.5)
    assert breaker.state is State.OPEN
