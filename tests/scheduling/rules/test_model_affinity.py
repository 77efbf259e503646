import pytest

from gateway.core.ticket import Ticket
from gateway.scheduling.rules.model_affinity import ModelAffinity
from tests.scheduling.scenes import numbers, scene, waiting


def alternating(count: int = 4) -> list[Ticket]:
    """a b a b…, all from the first second."""
    return [waiting(n, model="ab"[n % 2], arrived_at=0.0) for n in range(count)]


def test_those_stay_whose_model_is_in_memory() -> None:
    kept = ModelAffinity(20.0).narrow(alternating(), scene(loaded=["a"]))
    assert numbers(kept) == [0, 2]


def test_of_one_model_all_stay_loaded_or_not() -> None:
    tickets = [waiting(1, model="a"), waiting(2, model="a")]
    assert numbers(ModelAffinity(20.0).narrow(tickets, scene(loaded=["b"]))) == [1, 2]


def test_models_that_are_in_memory_together_need_no_turns() -> None:
    kept = ModelAffinity(20.0).narrow(alternating(), scene(now=100.0, loaded=["a", "b"]))
    assert numbers(kept) == [0, 1, 2, 3]


def test_a_load_that_nobody_notices_is_not_avoided() -> None:
    kept = ModelAffinity(20.0).narrow(alternating(), scene(loaded=["a"], load_s=0.2))
    assert numbers(kept) == [0, 1, 2, 3]


def test_with_none_in_memory_it_is_the_model_of_the_oldest() -> None:
    assert numbers(ModelAffinity(20.0).narrow(alternating(), scene(loaded=[]))) == [0, 2]


def test_one_that_was_passed_over_too_long_ends_the_turn() -> None:
    rule = ModelAffinity(20.0)
    assert numbers(rule.narrow(alternating(), scene(now=20.0, loaded=["a"]))) == [0, 2]
    assert numbers(rule.narrow(alternating(), scene(now=20.1, loaded=["a"]))) == [1, 3]


def test_the_oldest_of_several_models_is_next() -> None:
    tickets = [waiting(n, model=model, arrived_at=n) for n, model in enumerate("acbc")]
    kept = ModelAffinity(20.0).narrow(tickets, scene(now=30.0, loaded=["a"]))
    assert numbers(kept) == [1, 3]


def test_what_was_waited_before_the_turn_does_not_count_again() -> None:
    rule = ModelAffinity(20.0)
    rule.granted(waiting(0, model="a"), now=100.0, load_s=5.0, cached_chars=0)
    assert numbers(rule.narrow(alternating(), scene(now=119.0, loaded=["a"]))) == [0, 2]
    assert numbers(rule.narrow(alternating(), scene(now=121.0, loaded=["a"]))) == [1, 3]


def test_a_grant_without_a_load_begins_no_turn() -> None:
    rule = ModelAffinity(20.0)
    rule.granted(waiting(0, model="a"), now=100.0, load_s=0.0, cached_chars=0)
    assert numbers(rule.narrow(alternating(), scene(now=101.0, loaded=["a"]))) == [1, 3]


@pytest.mark.parametrize(("load_s", "turn_s"), [(1.0, 20.0), (5.0, 20.0), (10.0, 40.0)])
def test_a_turn_is_as_long_as_four_loads_at_least(load_s: float, turn_s: float) -> None:
    rule = ModelAffinity(20.0)
    for now, kept in ((turn_s - 0.1, [0, 2]), (turn_s + 0.1, [1, 3])):
        assert numbers(rule.narrow(alternating(), scene(now, loaded=["a"], load_s=load_s))) == kept
