"""A whole answer that reaches its deadline: what there is of it is the answer, where that is
worth something."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import Scheduling
from gateway.core.errors import GatewayError, RequestTimeout, ShuttingDown
from gateway.core.messages import (
    Finished,
    FinishReason,
    GenerateRequest,
    JsonObject,
    ReasoningDelta,
    TextDelta,
    Tool,
)
from gateway.core.ticket import ANONYMOUS, Hints
from gateway.story import Answer
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import Build, House, leave, open_houses, read_all

DEADLINE_S = 60.0


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


def stuck(*before: object) -> ScriptedEngine:
    """An engine that says so much, and then nothing more."""
    return ScriptedEngine([*before, asyncio.Event()])


def scheduled(houses: Build, engine: ScriptedEngine) -> House:
    return houses(upstream(engine=engine), scheduling=Scheduling())


async def at_the_deadline(house: House, asked: GenerateRequest | None = None) -> GatewayError:
    """What a request is told that has not ended by then."""
    running = await house.begun(asked)
    await house.clock.advance(DEADLINE_S)
    with pytest.raises(GatewayError) as caught:
        await running
    return caught.value


async def test_at_its_deadline_it_ends_with_what_it_has(houses: Build) -> None:
    engine = stuck([ReasoningDelta("hm")], [TextDelta("hel"), TextDelta("lo")])
    house = scheduled(houses, engine)
    running = await house.begun()
    await house.clock.advance(DEADLINE_S - 0.1)
    assert not running.done()
    await house.clock.advance(0.1)
    *said, end = await running
    assert said == [ReasoningDelta("hm"), TextDelta("hel"), TextDelta("lo")]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert end.usage.completion == 3
    assert end.usage.prompt > 0
    assert engine.running == 0
    [record] = house.records
    assert (record.outcome, record.status, record.reason) == ("completed", 200, "")
    assert record.truncated
    assert record.usage == end.usage
    assert house.broken == []


async def test_the_clients_own_time_is_what_counts(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta("a")]))
    running = await house.begun(hints=Hints(timeout_s=7.0))
    await house.clock.advance(7.0)
    assert len(await running) == 2
    assert house.records[0].total_s == 7.0


async def test_its_consumer_can_tell_before_it_writes_the_head(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta("a")]))
    told: list[bool] = []

    async def consume(answer: Answer) -> None:
        await read_all(answer)
        told.append(answer.truncated)
        assert await answer.read() == ()

    running = asyncio.create_task(
        house.service.run(request(), consume, caller=ANONYMOUS, request_id="r")
    )
    await settle()
    await house.clock.advance(DEADLINE_S)
    await running
    assert told == [True]


TOOL = Tool(name="f", description="", parameters={})


@pytest.mark.parametrize(
    "asked",
    [
        attrs.evolve(request(), tools=(TOOL,)),
        attrs.evolve(request(), output_format=JsonObject()),
    ],
    ids=["tools", "structured output"],
)
async def test_what_is_worth_nothing_in_part_is_a_timeout(
    houses: Build, asked: GenerateRequest
) -> None:
    house = scheduled(houses, stuck([TextDelta("{")]))
    assert isinstance(await at_the_deadline(house, asked), RequestTimeout)
    [record] = house.records
    assert (record.outcome, record.status, record.truncated) == ("failed", 504, False)
    assert house.broken == ["timeout"]


async def test_nothing_at_all_is_a_timeout(houses: Build) -> None:
    house = scheduled(houses, stuck())
    assert isinstance(await at_the_deadline(house), RequestTimeout)
    assert not house.records[0].truncated


async def test_a_stream_is_not_cut_at_the_deadline(houses: Build) -> None:
    go_on = asyncio.Event()
    house = scheduled(houses, ScriptedEngine([[TextDelta("a")], go_on, HELLO]))
    running = await house.begun(request(stream=True))
    await house.clock.advance(2 * DEADLINE_S)
    go_on.set()
    assert await running == [TextDelta("a"), *HELLO]
    assert not house.records[0].truncated


async def test_a_stream_that_has_used_all_its_time_is_an_error_and_no_end(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta("a")]))
    running = await house.begun(request(stream=True))
    await house.clock.advance(600.0)
    with pytest.raises(RequestTimeout):
        await running
    assert not house.records[0].truncated


async def test_it_can_be_switched_off(houses: Build) -> None:
    scheduling = Scheduling(truncate_at_deadline=False)
    house = houses(upstream(engine=stuck([TextDelta("a")])), scheduling=scheduling)
    assert isinstance(await at_the_deadline(house), RequestTimeout)


async def test_being_told_to_stop_is_no_deadline(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta("a")]))
    running = await house.begun()
    house.service.abort(ShuttingDown("bye"))
    with pytest.raises(ShuttingDown):
        await running
    assert not house.records[0].truncated


async def test_a_client_that_leaves_is_gone_and_not_cut(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta("a")]))
    await leave(await house.begun())
    [record] = house.records
    assert (record.outcome, record.status, record.truncated) == ("cancelled", 499, False)


async def test_of_several_answers_the_whole_ones_are_whole_and_each_token_counts_once(
    houses: Build,
) -> None:
    engine = ScriptedEngine([HELLO], [[TextDelta("a")], asyncio.Event()])
    house = scheduled(houses, engine)
    running = await house.begun(request(n=3))
    await house.clock.advance(DEADLINE_S)
    events = await running
    ends = [event for event in events if isinstance(event, Finished)]
    assert [end.reason for end in ends] == [
        FinishReason.STOP,
        FinishReason.LENGTH,
        FinishReason.LENGTH,
    ]
    assert sum((end.usage for end in ends[1:]), ends[0].usage).completion == 3
    assert house.records[0].usage.completion == 3
    assert engine.running == 0


async def test_an_answer_that_ends_in_the_turn_of_its_deadline_is_whole_or_cut(
    houses: Build,
) -> None:
    last = asyncio.Event()
    house = scheduled(houses, ScriptedEngine([[TextDelta("a")], last, HELLO]))
    running = await house.begun()
    house.clock.call_at(DEADLINE_S, last.set)
    await house.clock.advance(DEADLINE_S)
    *_, end = await running
    assert isinstance(end, Finished)
    [record] = house.records
    assert record.truncated == (end.reason is FinishReason.LENGTH)
    assert (record.outcome, record.usage) == ("completed", end.usage)


async def test_a_machine_on_which_every_answer_is_cut_is_known_to_be_slow(houses: Build) -> None:
    house = scheduled(houses, stuck([TextDelta(letter) for letter in "slowly"]))
    believed_s = house.forecast().service_s
    for _ in range(5):
        running = await house.begun()
        await house.clock.advance(DEADLINE_S)
        assert len(await running) == 7
    assert house.forecast().service_s > 4 * believed_s
