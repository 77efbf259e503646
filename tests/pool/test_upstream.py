import pytest

from gateway.backends.base import ModelInfo, Probe
from gateway.pool.upstream import Upstream
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
