from collections.abc import Sequence

import pytest

from gateway.pool.balancer import choose
from gateway.pool.upstream import Upstream
from tests.engines import ScriptedEngine, upstream


def holding(name: str, *models: str, slots: int = 2) -> Upstream:
    """An upstream that has both models, and these in memory."""
    engine = ScriptedEngine(models=["a", "b"])
    engine.resident = set(models)
    return upstream(name, slots=slots, engine=engine)


def test_nobody_free_is_nobody_chosen() -> None:
    busy = upstream(slots=1)
    busy.take()
    assert choose([busy], "m") is None
    assert choose([], "m") is None


def test_one_with_more_busy_than_it_has_slots_is_not_free() -> None:
    shrunk = upstream(slots=2)
    shrunk.take()
    shrunk.take()
    shrunk.resize(1)
    assert choose([shrunk], "m") is None


def test_the_least_busy_by_share_of_its_slots_is_chosen() -> None:
    small, large = upstream("small", slots=2), upstream("large", slots=10)
    small.take()
    for _ in range(4):
        large.take()
    assert choose([small, large], "m") is large


def test_the_first_among_equals_is_chosen() -> None:
    first, second = upstream("first"), upstream("second")
    assert choose([first, second], "m") is first


def test_one_that_holds_the_model_is_chosen_before_one_that_is_idle() -> None:
    idle, busy = holding("idle", "b"), holding("busy", "a")
    busy.take()
    assert choose([idle, busy], "a") is busy
    assert choose([idle, busy], "b") is idle


def test_one_that_holds_the_model_but_has_no_slot_is_not_waited_for() -> None:
    idle, full = holding("idle"), holding("full", "a", slots=1)
    full.take()
    assert choose([idle, full], "a") is idle


@pytest.mark.parametrize(
    ("cached", "chosen"), [([0, 500, 100], 1), ([500, 500, 100], 0), ([0, 0, 0], 0)]
)
def test_among_those_the_one_that_has_read_most_of_the_prompt(
    cached: Sequence[int], chosen: int
) -> None:
    upstreams = [holding(name, "a") for name in ("x", "y", "z")]
    lengths = dict(zip((one.name for one in upstreams), cached, strict=True))
    upstreams[1].take()
    found = choose(upstreams, "a", lambda one: lengths[one.name])
    assert found is upstreams[chosen]


def test_a_prompt_that_was_read_is_worth_less_than_a_model_that_is_loaded() -> None:
    empty, loaded = holding("empty"), holding("loaded", "a")
    assert choose([empty, loaded], "a", lambda one: 9000 if one is empty else 0) is loaded
