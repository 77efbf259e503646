"""What a caller may ask for, through the waist: charged once for what it had, and given back."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import ModelSettings, Scheduling
from gateway.core.errors import (
    GatewayError,
    ModelNotAllowed,
    NotPermitted,
    QueueFull,
    RateLimited,
    ShuttingDown,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import EmbedRequest, Event, Finished, FinishReason, TextDelta, Usage
from gateway.core.ticket import NO_HINTS, Caller, CallerLimits
from gateway.story import Answer
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import FIRST_TRY, SECOND_TRY, Build, House, leave, open_houses

LIMITED = Caller(
    name="limited",
    limits=CallerLimits(requests_per_minute=10, tokens_per_minute=10_000, requests_at_once=3),
)
WORDS = [TextDelta("oh "), TextDelta("well ")]


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


async def count(answer: Answer) -> list[Event]:
    """Reads as the handlers do."""
    events: list[Event] = []
    while batch := await answer.read():
        events += batch
        answer.tokens += len(batch)
    return events


async def begun(house: House, stream: bool = True) -> "asyncio.Task[list[Event]]":
    run = house.service.run(request(stream=stream), count, caller=LIMITED, request_id="r")
    task = asyncio.create_task(run)
    await settle()
    return task


def left(house: House, name: str, caller: Caller = LIMITED) -> int:
    return house.made.limits.standing(caller, house.clock.now())[name].left


def charged(house: House) -> tuple[int, int]:
    """Of the last request."""
    used = house.records[-1].charged
    return used.prompt, used.completion


async def test_a_whole_answer_is_charged_as_the_engine_counts_it(houses: Build) -> None:
    house = houses(upstream())
    await house.run(caller=LIMITED)
    assert charged(house) == (3, 2)
    assert left(house, "tokens_per_minute") == 9995
    assert left(house, "requests_per_minute") == 9
    assert left(house, "requests_at_once") == 3


async def test_who_has_had_enough_is_refused_and_no_engine_hears_of_it(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    for _ in range(10):
        await house.run(caller=LIMITED)
    with pytest.raises(RateLimited):
        await house.run(caller=LIMITED)
    assert engine.opened == 10
    record = house.records[-1]
    assert (record.outcome, record.status, record.reason) == (
        "refused",
        429,
        "requests_per_minute",
    )
    assert charged(house) == (0, 0)
    await house.clock.advance(6.0)
    await house.run(caller=LIMITED)


async def test_a_request_that_is_refused_for_overload_has_used_nothing(houses: Build) -> None:
    hold = asyncio.Event()
    house = houses(upstream(engine=ScriptedEngine([hold, HELLO])), bound=1)
    tasks = [await begun(house), await begun(house)]
    before = house.made.limits.standing(LIMITED, house.clock.now())
    with pytest.raises(QueueFull):
        await house.run(caller=LIMITED)
    assert house.made.limits.standing(LIMITED, house.clock.now()) == before
    hold.set()
    await asyncio.gather(*tasks)


async def test_a_drain_is_told_before_a_limit(houses: Build) -> None:
    house = houses(upstream())
    for _ in range(10):
        await house.run(caller=LIMITED)
    house.service.begin_drain()
    with pytest.raises(ShuttingDown):
        await house.run(caller=LIMITED)


@pytest.mark.parametrize("fault", [UpstreamFailed("x"), UpstreamDisconnected("x")])
async def test_one_that_fails_before_its_answer_begins_is_given_back_whole(
    houses: Build, fault: GatewayError
) -> None:
    house = houses(upstream(engine=ScriptedEngine([fault])))
    with pytest.raises(GatewayError):
        await house.run(caller=LIMITED)
    assert charged(house) == (0, 0)
    assert (left(house, "requests_per_minute"), left(house, "tokens_per_minute")) == (10, 10_000)


async def test_one_that_breaks_midway_is_charged_what_came(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([WORDS, UpstreamFailed("x")])))
    task = await begun(house)
    with pytest.raises(UpstreamFailed):
        await task
    prompt, completion = charged(house)
    assert prompt > 0
    assert completion == 2
    assert left(house, "tokens_per_minute") == 10_000 - prompt - completion


async def test_who_leaves_midway_is_charged_what_came_and_not_what_was_expected(
    houses: Build,
) -> None:
    house = houses(upstream(engine=ScriptedEngine([WORDS, asyncio.Event()])))
    client = await begun(house)
    assert left(house, "tokens_per_minute") < 9950, "as many as were expected"
    await leave(client)
    prompt, completion = charged(house)
    assert (house.records[-1].outcome, completion) == ("cancelled", 2)
    assert left(house, "tokens_per_minute") == 10_000 - prompt - 2


async def test_who_leaves_while_its_prompt_is_read_is_charged_what_was_read(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([asyncio.Event()])))
    client = await begun(house)
    [running] = house.service.running(1)
    assert running.progress.state == "prefill"
    await house.clock.advance(running.progress.service_s / 1000.0)
    await leave(client)
    soon = house.records[-1].charged.prompt
    client = await begun(house)
    await house.clock.advance(10.0)
    await leave(client)
    late = house.records[-1].charged
    assert 0 <= soon < late.prompt
    assert late.completion == 0


async def test_who_leaves_the_queue_is_charged_no_tokens(houses: Build) -> None:
    hold = asyncio.Event()
    house = houses(upstream(engine=ScriptedEngine([hold, HELLO])))
    running, waiting = await begun(house), await begun(house)
    await house.clock.advance(10.0)
    await leave(waiting)
    assert charged(house) == (0, 0)
    hold.set()
    await running


async def test_an_engine_that_counts_nothing_is_counted_for(houses: Build) -> None:
    silent = [*WORDS, Finished(FinishReason.STOP, Usage())]
    house = houses(upstream(engine=ScriptedEngine([silent])))
    await (await begun(house))
    prompt, completion = charged(house)
    assert (prompt > 0, completion) == (True, 2)
    assert (house.records[-1].usage.prompt, house.records[-1].usage.completion) == (0, 0)


async def test_the_request_that_only_loads_a_model_is_charged_nothing(houses: Build) -> None:
    house = houses(upstream())
    await house.run(attrs.evolve(request(), messages=()), caller=LIMITED)
    assert charged(house) == (0, 0)
    assert left(house, "requests_per_minute") == 9


async def test_a_retry_that_gets_the_answer_of_an_earlier_try_is_charged_once(
    houses: Build,
) -> None:
    go_on = asyncio.Event()
    engine = ScriptedEngine([[TextDelta("oh ")], go_on, HELLO])
    house = houses(upstream(engine=engine), scheduling=Scheduling(rejoin_seconds=1.5))
    alone = attrs.evolve(
        LIMITED, limits=attrs.evolve(LIMITED.limits, requests_per_minute=1, requests_at_once=1)
    )
    await leave(await house.begun(caller=alone, hints=FIRST_TRY))
    assert left(house, "requests_at_once", alone) == 0, "it still runs, for who comes back"
    retry = await house.begun(caller=alone, hints=SECOND_TRY)
    go_on.set()
    await retry
    await settle()
    by_rejoined = {record.rejoined: record.charged for record in house.records}
    assert (by_rejoined[False].prompt, by_rejoined[False].completion) == (3, 2)
    assert by_rejoined[True] == Usage()
    assert left(house, "tokens_per_minute", alone) == 9995
    assert left(house, "requests_at_once", alone) == 1


async def test_those_who_share_a_call_are_charged_their_own_parts(houses: Build) -> None:
    async def take(answer: Answer) -> None:
        await answer.read()

    def embed(*texts: str) -> "asyncio.Task[None]":
        asked = EmbedRequest(model="m", inputs=texts)
        return asyncio.create_task(
            house.service.run(asked, take, caller=LIMITED, request_id=texts[0])
        )

    gate = asyncio.Event()
    engine = ScriptedEngine()
    engine.embed_steps = [gate]
    house = houses(upstream(engine=engine))
    tasks = []
    for texts in (("a",), ("bb", "c"), ("dddd",)):
        tasks.append(embed(*texts))
        await settle()
    gate.set()
    await asyncio.gather(*tasks)
    assert engine.calls == [("a",), ("bb", "c", "dddd")]
    assert [record.charged.prompt for record in house.records] == [1, 3, 4]
    assert left(house, "tokens_per_minute") == 10_000 - 8
    await settle()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_abort_gives_back_all_that_is_held(houses: Build, stream: bool) -> None:
    house = houses(upstream(engine=ScriptedEngine([WORDS, asyncio.Event()])))
    tasks = [await begun(house, stream) for _ in range(3)]
    assert left(house, "requests_at_once") == 0
    house.service.abort(ShuttingDown("x"))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert left(house, "requests_at_once") == 3


async def test_a_dry_run_says_what_a_limit_would_do_and_takes_nothing(houses: Build) -> None:
    house = houses(upstream())
    ask = house.service.forecast
    for number in range(20):
        assert not ask(request(), caller=LIMITED, hints=NO_HINTS).refused, number
    for _ in range(10):
        await house.run(caller=LIMITED)
    forecast = ask(request(), caller=LIMITED)
    assert forecast.refused == "rate_limit_exceeded"
    assert forecast.retry_after_s == pytest.approx(6.0)


# --- Models and lengths ---------------------------------------------------------------


PICKY = Caller(name="picky", models=frozenset({"small"}))
ALIASES = {"small": ModelSettings(target="m"), "other": ModelSettings(target="m")}


async def test_a_model_that_is_not_for_this_caller_is_refused_by_every_name(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine), models=ALIASES)
    for name in ("m", "default", "other", "nobody-has-this"):
        with pytest.raises(ModelNotAllowed):
            await house.run(request(name), caller=PICKY)
        with pytest.raises(ModelNotAllowed):
            house.service.forecast(request(name), caller=PICKY)
        record = house.records[-1]
        assert (record.outcome, record.status) == ("refused", 403)
    assert engine.opened == 0
    assert await house.run(request("small"), caller=PICKY) == list(HELLO)


async def test_who_may_put_models_out_of_memory_may_do_so_with_its_own(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine), models=ALIASES)
    manager = attrs.evolve(PICKY, manage_models=True)
    with pytest.raises(ModelNotAllowed):
        await house.service.unload("m", manager)
    with pytest.raises(NotPermitted):
        await house.service.unload("small", PICKY)
    await house.service.unload("small", manager)
    assert engine.unloads == ["m"]


@pytest.mark.parametrize(("asked", "got"), [(None, 5), (3, 3), (5, 5), (6, 5)])
async def test_no_answer_is_longer_than_its_caller_may_have(
    houses: Build, asked: int | None, got: int
) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    brief = Caller(name="brief", limits=CallerLimits(max_tokens=5))
    await house.run(attrs.evolve(request(), max_tokens=asked), caller=brief)
    assert engine.requests[0].max_tokens == got
    assert house.made.limits.standing(brief, 0.0) == {}


async def test_nothing_is_kept_of_callers_without_limits(houses: Build) -> None:
    house = houses(upstream())
    await house.run()
    assert house.made.limits._accounts == {}
