import pytest

from gateway.config.schema import ModelSettings
from gateway.core.errors import ModelNotFound, UpstreamUnreachable
from gateway.pool.catalogue import Catalogue
from gateway.pool.pool import Pool
from tests.engines import ScriptedEngine, pool_of, upstream


def test_only_upstreams_that_are_up_and_have_the_model_serve_it() -> None:
    has = upstream("has", engine=ScriptedEngine(models=["a", "b"]))
    down = upstream("down", engine=ScriptedEngine(models=["a"]))
    down.breaker.probed(False, 0.0)
    other = upstream("other", engine=ScriptedEngine(models=["c"]))
    pool = pool_of(has, down, other)
    assert pool.serving("a") == [has]
    assert pool.serving("a", {"has"}) == []


def test_a_model_nobody_has_is_not_found_and_the_sentence_names_those_that_are() -> None:
    pool = pool_of(upstream(engine=ScriptedEngine(models=["llama3.2"])))
    with pytest.raises(ModelNotFound, match=r"llama3\.2"):
        pool.require("gpt-4")


def test_a_model_whose_upstream_is_down_is_unreachable_and_says_when_to_come_back() -> None:
    down = upstream(engine=ScriptedEngine(models=["a"]))
    down.breaker.probed(False, 0.0)
    with pytest.raises(UpstreamUnreachable) as caught:
        pool_of(down).require("a")
    assert caught.value.retry_after_s


def test_an_upstream_that_was_never_reached_may_have_any_model() -> None:
    with pytest.raises(UpstreamUnreachable):
        pool_of(upstream(up=False)).require("whatever")


def test_a_free_slot_is_found_and_not_taken() -> None:
    one = upstream(slots=1)
    pool = pool_of(one)
    assert pool.free_for("m") is one
    assert one.in_flight == 0
    one.take()
    assert pool.free_for("m") is None


def test_a_free_slot_is_sought_where_the_prompt_was_read() -> None:
    one, two = upstream("one"), upstream("two")
    pool = pool_of(one, two)
    assert pool.free_for("m", cached=lambda upstream: 10 if upstream is two else 0) is two
    assert pool.free_for("m", {"two"}, cached=lambda _: 10) is one


def test_aliases_are_listed_as_their_engine_spells_the_model() -> None:
    one = upstream(engine=ScriptedEngine(models=["a"]))
    catalogue = Catalogue({"x": ModelSettings(target="a"), "y": ModelSettings(target="gone")})
    pool = Pool(upstreams=[one], catalogue=catalogue)
    assert [(info.id, info.alias_of) for info in pool.listed()] == [("a", ""), ("x", "a")]
    assert [info.id for info in pool.models()] == ["a"]


def test_who_asks_for_an_alias_of_nothing_learns_what_is_missing() -> None:
    one = upstream(engine=ScriptedEngine(models=["a"]))
    catalogue = Catalogue({"x": ModelSettings(target="a"), "y": ModelSettings(target="gone")})
    pool = Pool(upstreams=[one], catalogue=catalogue)
    with pytest.raises(ModelNotFound) as caught:
        pool.require(catalogue.named("y"))
    assert caught.value.message == (
        "gone is not installed here, which is what this name stands for. Models: a, x."
    )


def test_models_are_listed_once_in_the_order_of_the_upstreams() -> None:
    pool = pool_of(
        upstream("x", engine=ScriptedEngine(models=["b", "a"])),
        upstream("y", engine=ScriptedEngine(models=["a", "c"])),
    )
    assert [info.id for info in pool.models()] == ["b", "a", "c"]


async def test_other_upstreams_and_names_hold_at_once_and_listeners_hear_of_it() -> None:
    pool = pool_of(upstream("old"))
    heard: list[list[str]] = []
    pool.listeners.append(lambda: heard.append([one.name for one in pool.serving("m")]))
    meant = Catalogue({"alias": ModelSettings(target="m")})
    pool.change([upstream("new")], meant)
    assert heard == [["new"]]
    assert pool.catalogue is meant
