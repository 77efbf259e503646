"""Requests that ask nothing of a model, but that it be loaded, or put out of memory."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.core.errors import ModelNotFound, NotPermitted, QueueFull, UpstreamFailed
from gateway.core.messages import Finished, FinishReason, GenerateRequest
from gateway.core.ticket import ANONYMOUS
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import Build, open_houses

NOTHING = GenerateRequest(model="m", max_tokens=1)
MANAGER = attrs.evolve(ANONYMOUS, manage_models=True)


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


def unloaded(*steps: asyncio.Event | BaseException) -> ScriptedEngine:
    engine = ScriptedEngine(models=("m", "other"))
    engine.resident = {"other"}
    engine.load_steps = list(steps)
    return engine


async def test_a_request_that_asks_nothing_loads_its_model_and_runs_none(houses: Build) -> None:
    engine = unloaded()
    house = houses(upstream(engine=engine))
    assert await house.run(NOTHING) == [Finished(FinishReason.STOP)]
    assert engine.loads == ["m"]
    assert engine.opened == 0
    [record] = house.records
    assert (record.outcome, record.usage.completion) == ("completed", 0)


async def test_a_model_that_is_there_is_not_loaded_again(houses: Build) -> None:
    engine = unloaded()
    house = houses(upstream(engine=engine))
    await house.run(NOTHING)
    await house.run(NOTHING)
    assert engine.loads == ["m"]


async def test_a_load_waits_for_its_turn(houses: Build) -> None:
    """Else whoever loads a model would throw out the one that others wait for."""
    go = asyncio.Event()
    engine = ScriptedEngine([go, HELLO], models=("m", "other"))
    engine.resident = {"other"}
    house = houses(upstream(engine=engine))
    running = asyncio.create_task(house.run(request("other")))
    await engine.started.wait()
    loading = asyncio.create_task(house.run(NOTHING))
    await settle()
    assert engine.loads == []
    go.set()
    await running
    await loading
    assert engine.loads == ["m"]


async def test_a_load_that_has_no_place_is_refused(houses: Build) -> None:
    go = asyncio.Event()
    house = houses(upstream(engine=ScriptedEngine([go, HELLO])), bound=0)
    running = asyncio.create_task(house.run())
    await settle()
    with pytest.raises(QueueFull):
        await house.run(NOTHING)
    go.set()
    await running


async def test_a_load_that_fails_says_so(houses: Build) -> None:
    house = houses(upstream(engine=unloaded(UpstreamFailed("no memory"))))
    with pytest.raises(UpstreamFailed):
        await house.run(NOTHING)


async def test_nothing_is_learned_of_what_was_not_computed(houses: Build) -> None:
    house = houses(upstream(engine=unloaded()))
    before = house.made.costs.to_document()
    await house.run(NOTHING)
    assert house.made.costs.to_document() == before


# --- Out of memory ------------------------------------------------------------------------


async def test_who_may_not_puts_nobodys_model_out_of_memory(houses: Build) -> None:
    engine = unloaded()
    house = houses(upstream(engine=engine))
    with pytest.raises(NotPermitted):
        await house.service.unload("other", ANONYMOUS)
    assert engine.unloads == []


async def test_a_model_is_put_out_of_every_engine_that_has_it(houses: Build) -> None:
    one, two = unloaded(), unloaded()
    upstreams = [upstream("one", engine=one), upstream("two", engine=two)]
    house = houses(*upstreams)
    await house.service.unload("other", MANAGER)
    assert one.unloads == two.unloads == ["other"]
    assert not any(each.holds("other") for each in upstreams)


async def test_a_model_that_nobody_has_can_not_be_put_out(houses: Build) -> None:
    house = houses(upstream())
    with pytest.raises(ModelNotFound):
        await house.service.unload("nobody-has-this", MANAGER)


async def test_the_default_model_can_be_put_out_by_that_name(houses: Build) -> None:
    engine = ScriptedEngine()
    await houses(upstream(engine=engine)).service.unload("default", MANAGER)
    assert engine.unloads == ["m"]
