import pytest

from gateway.backends import ollama_wire
from gateway.backends.base import Probe
from gateway.core.models import ModelInfo
from gateway.pool.upstream import LOAD_S_MIN, Upstream
from tests.engines import ScriptedEngine, upstream


def test_no_more_slots_are_taken_than_there_are() -> None:
    one = upstream(slots=1)
    one.take()
    with pytest.raises(AssertionError):
        one.take()


def test_no_more_slots_are_given_back_than_were_taken() -> None:
    with pytest.raises(AssertionError):
        upstream().release()


def test_it_offers_only_the_models_it_is_told_to() -> None:
    limited = Upstream(name="x", backend=ScriptedEngine(), slots=1, offered=frozenset({"a"}))
    assert limited.serves("a")
    assert not limited.serves("b")
    limited.found(Probe(models=(ModelInfo(id="a"), ModelInfo(id="b"))))
    assert limited.serves("a")
    assert not limited.serves("b")


def test_it_is_up_only_once_it_was_reached() -> None:
    fresh = upstream(up=False)
    assert not fresh.up
    fresh.found(Probe(models=()))
    assert fresh.up


def test_with_fewer_slots_the_surplus_runs_on_and_nobody_starts() -> None:
    one = upstream(slots=3)
    for _ in range(3):
        one.take()
    one.resize(1)
    assert one.free == 0
    for in_flight in (2, 1):
        one.release()
        assert (one.in_flight, one.free) == (in_flight, 0)
        with pytest.raises(AssertionError):
            one.take()
    one.release()
    one.take()


def test_with_more_slots_there_is_room_at_once() -> None:
    one = upstream(slots=1)
    one.take()
    one.resize(2)
    assert one.free == 1
    one.take()
    with pytest.raises(AssertionError):
        one.resize(0)


def test_where_the_number_of_slots_is_given_nothing_is_to_be_found_out() -> None:
    engine = ScriptedEngine()
    assert Upstream("x", engine, slots=3).slots_max == 3
    assert Upstream("x", engine, slots=1, slots_max=8).slots_max == 8


class Tagging(ScriptedEngine):
    """Spells names as Ollama does, and counts how often it is asked to."""

    spelt = 0

    def canonical(self, model: str) -> str:
        self.spelt += 1
        return ollama_wire.canonical(model)


def listing(**loaded: bool | None) -> Probe:
    return Probe(models=tuple(ModelInfo(id=f"{id}:latest", loaded=it) for id, it in loaded.items()))


def tagging() -> Upstream:
    return Upstream(name="x", backend=Tagging(), slots=1)


def test_it_holds_what_the_engine_tells_and_all_of_one_that_does_not() -> None:
    one = tagging()
    assert not one.holds("a")
    one.found(listing(a=True, b=False, c=None))
    assert [one.holds(model) for model in ("a", "a:latest", "b", "c", "other")] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_what_has_run_is_held() -> None:
    one = tagging()
    one.found(listing(a=True, b=False))
    one.ran("b", 0.05)
    assert one.holds("b")
    assert one.holds("a")


def test_what_was_put_out_of_memory_is_not_held() -> None:
    one = tagging()
    one.found(listing(a=True, b=True))
    one.dropped("a:latest")
    one.dropped("c")
    assert not one.holds("a")
    assert one.holds("b")


def test_after_a_real_load_the_others_are_gone_until_they_are_seen() -> None:
    one = tagging()
    one.found(listing(a=True, b=False))
    one.ran("b", LOAD_S_MIN)
    assert one.holds("b")
    assert not one.holds("a")
    one.found(listing(a=True, b=True))
    assert one.holds("a")
    one.found(listing(a=False, b=False))
    assert not one.holds("b")


def test_a_name_is_spelt_once_and_names_are_forgotten_in_time() -> None:
    one = tagging()
    one.found(listing(a=True))
    for _ in range(10):
        assert one.holds("a")
        assert one.serves("a")
    assert isinstance(one.backend, Tagging)
    assert one.backend.spelt == 1
    for number in range(10_000):
        assert not one.serves(f"m{number}")
    assert len(one._names) <= 256
    assert one.holds("a")


def test_a_slot_that_is_being_tried_is_not_sure() -> None:
    one = upstream(slots=1)
    one.resize(2, sure=1)
    assert (one.slots, one.sure_slots, one.free) == (2, 1, 2)
    one.resize(2)
    assert one.sure_slots == 2


def test_a_slot_on_trial_takes_no_model_that_has_to_be_loaded() -> None:
    one = upstream(slots=1)
    one.resize(2, sure=1)
    assert one.room_for("m")
    assert one.room_for("cold"), "nobody runs beside it"
    one.take()
    assert one.room_for("m")
    assert not one.room_for("cold")
    one.take()
    assert not one.room_for("m")
