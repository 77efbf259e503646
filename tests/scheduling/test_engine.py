from gateway.scheduling.engine import Engine
from tests.engines import upstream

CHAIN = ((100, 1), (200, 2))
LONGER = ((100, 1), (200, 2), (300, 3))
OTHER = ((100, 7), (200, 8))


def test_what_ran_is_held_and_what_it_goes_on_from_is_cached() -> None:
    engine = Engine(upstream())
    assert engine.took("m", CHAIN, swaps=False) == 0
    assert engine.took("m", LONGER, swaps=False) == 200
    assert engine.cached_chars("m", CHAIN) == 200
    assert engine.cached_chars("other", CHAIN) == 0


def test_marks_are_those_of_all_that_is_held() -> None:
    engine = Engine(upstream(slots=2))
    assert not engine.marks("m")
    engine.took("m", CHAIN, swaps=False)
    engine.took("m", OTHER, swaps=False)
    assert set(engine.marks("m")) == {1, 2, 7, 8}


def test_a_load_throws_out_what_was_held() -> None:
    engine = Engine(upstream())
    engine.took("m", CHAIN, swaps=False)
    assert engine.took("other", CHAIN, swaps=True) == 0
    assert engine.cached_chars("m", CHAIN) == 0
    assert engine.cached_chars("other", CHAIN) == 200


def test_one_that_was_gone_holds_nothing() -> None:
    engine = Engine(upstream())
    engine.took("m", CHAIN, swaps=False)
    engine.lost()
    assert engine.cached_chars("m", CHAIN) == 0


def test_with_more_slots_more_is_held() -> None:
    one = upstream()
    engine = Engine(one)
    engine.took("m", CHAIN, swaps=False)
    one.resize(2, sure=2)
    engine.took("m", OTHER, swaps=False)
    assert engine.cached_chars("m", CHAIN) == engine.cached_chars("m", OTHER) == 200


def test_the_number_of_slots_is_learned_only_where_it_is_not_given() -> None:
    given, open_ended = upstream(slots=2), upstream(slots=1)
    open_ended.slots_max = 4
    assert Engine(given).learner is None
    assert Engine(open_ended).learner is not None


def test_what_has_no_prompt_leaves_what_is_held() -> None:
    engine = Engine(upstream())
    engine.took("m", CHAIN, swaps=False)
    assert engine.took("m", (), swaps=False) == 0
    assert engine.cached_chars("m", CHAIN) == 200
