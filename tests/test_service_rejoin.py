"""A client that drops its request and sends it again: one generation, and its answer."""

import asyncio
import math
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import Scheduling
from gateway.core.errors import GatewayError, ShuttingDown, UpstreamDisconnected, UpstreamFailed
from gateway.core.messages import Finished, FinishReason, TextDelta
from gateway.core.ticket import ANONYMOUS, NO_HINTS, Caller, Hints
from gateway.story import Answer
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import (
    FIRST_TRY,
    SECOND_TRY,
    Build,
    House,
    leave,
    open_houses,
    read_all,
)

PATIENCE_S = 1.5
RULES = Scheduling(rejoin_seconds=PATIENCE_S)
REST = list(HELLO)
ALL = [TextDelta("oh "), *REST]


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


class Scene:
    """One slot, whose engine says a word, waits for `go_on`, and says the rest."""

    def __init__(self, houses: Build, scheduling: Scheduling = RULES, slots: int = 1) -> None:
        self.go_on = asyncio.Event()
        self.engine = ScriptedEngine([[TextDelta("oh ")], self.go_on, HELLO])
        self.house: House = houses(upstream(engine=self.engine, slots=slots), scheduling=scheduling)


@pytest.fixture
async def scene(houses: Build) -> Scene:
    return Scene(houses)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_retry_gets_the_answer_that_runs(scene: Scene, stream: bool) -> None:
    house = scene.house
    await leave(await house.begun(request(stream=stream), hints=FIRST_TRY))
    assert scene.engine.running == 1
    await house.clock.advance(1.0)
    retry = await house.begun(request(stream=stream), hints=SECOND_TRY)
    scene.go_on.set()
    assert await retry == ALL
    assert scene.engine.opened == 1
    await settle()
    first, second = sorted(house.records, key=lambda record: record.outcome)
    assert (first.outcome, first.status, first.phase) == ("cancelled", 499, "streaming")
    assert (second.outcome, second.status, second.rejoined) == ("completed", 200, True)
    assert (second.usage.prompt, second.usage.completion) == (3, 2)
    assert (second.upstream, second.queue_s) == ("", 0.0)
    assert not first.rejoined


async def test_the_retry_gets_the_answer_that_has_ended_meanwhile(scene: Scene) -> None:
    await leave(await scene.house.begun(hints=FIRST_TRY))
    scene.go_on.set()
    await settle()
    scene.house.assert_nothing_is_held()
    await scene.house.clock.advance(8.0)
    assert await scene.house.run(hints=SECOND_TRY) == ALL
    assert scene.engine.opened == 1
    assert [record.outcome for record in scene.house.records] == ["cancelled", "completed"]


async def test_a_client_that_leaves_before_the_first_token_is_waited_for_too(
    houses: Build,
) -> None:
    go_on = asyncio.Event()
    engine = ScriptedEngine([go_on, HELLO])
    house = houses(upstream(engine=engine), scheduling=RULES)
    await leave(await house.begun(hints=FIRST_TRY))
    retry = await house.begun(hints=SECOND_TRY)
    go_on.set()
    assert await retry == REST
    assert engine.opened == 1


async def test_while_somebody_listens_it_goes_on_for_as_long_as_it_takes(scene: Scene) -> None:
    await leave(await scene.house.begun(hints=FIRST_TRY))
    retry = await scene.house.begun(hints=SECOND_TRY)
    await scene.house.clock.advance(30.0)
    assert scene.engine.running == 1
    scene.go_on.set()
    assert await retry == ALL


async def test_a_retry_that_leaves_too_is_waited_for_like_the_first(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    await house.clock.advance(1.0)
    await leave(await house.begun(hints=SECOND_TRY))
    await house.clock.advance(PATIENCE_S - 0.1)
    third = await house.begun(hints=attrs.evolve(FIRST_TRY, retry_count=2))
    scene.go_on.set()
    assert await third == ALL
    assert scene.engine.opened == 1
    outcomes = sorted(record.outcome for record in house.records)
    assert outcomes == ["cancelled", "cancelled", "completed"]


async def test_when_nobody_comes_back_the_engine_is_stopped_in_time(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    await house.clock.advance(PATIENCE_S - 0.1)
    assert scene.engine.running == 1
    assert house.service.active == 1
    await house.clock.advance(0.1)
    house.assert_nothing_is_held()
    [record] = house.records
    assert (record.outcome, record.status) == ("cancelled", 499)
    assert house.broken == []


async def test_who_comes_back_later_begins_anew(scene: Scene) -> None:
    await leave(await scene.house.begun(hints=FIRST_TRY))
    await scene.house.clock.advance(PATIENCE_S)
    scene.go_on.set()
    assert await scene.house.run(hints=SECOND_TRY) == ALL
    assert scene.engine.opened == 2
    assert not scene.house.records[-1].rejoined


@pytest.mark.parametrize(
    "hints",
    [NO_HINTS, Hints(fingerprint=b"of a body"), Hints(retry_count=0)],
    ids=["nothing said", "no count", "no body"],
)
async def test_a_client_that_does_not_count_its_tries_is_stopped_at_once(
    scene: Scene, hints: Hints
) -> None:
    await leave(await scene.house.begun(hints=hints))
    scene.house.assert_nothing_is_held()


@pytest.mark.parametrize(
    "scheduling",
    [attrs.evolve(RULES, rejoin=False), attrs.evolve(RULES, rejoin_seconds=0.0)],
    ids=["no rejoining", "no patience"],
)
async def test_it_can_be_switched_off(houses: Build, scheduling: Scheduling) -> None:
    scene = Scene(houses, scheduling)
    await leave(await scene.house.begun(hints=FIRST_TRY))
    scene.house.assert_nothing_is_held()
    scene.go_on.set()
    assert await scene.house.run(hints=SECOND_TRY) == ALL
    assert scene.engine.opened == 2


@pytest.mark.parametrize(
    ("caller", "hints"),
    [
        (Caller(name="somebody else"), SECOND_TRY),
        (ANONYMOUS, attrs.evolve(SECOND_TRY, user="another")),
        (ANONYMOUS, attrs.evolve(SECOND_TRY, fingerprint=b"of another")),
        (ANONYMOUS, FIRST_TRY),
    ],
    ids=["another caller", "another end user", "another body", "a first try"],
)
async def test_nobody_else_gets_it(houses: Build, caller: Caller, hints: Hints) -> None:
    scene = Scene(houses, slots=2)
    await leave(await scene.house.begun(hints=FIRST_TRY))
    other = await scene.house.begun(caller=caller, hints=hints)
    assert scene.engine.opened == 2
    scene.go_on.set()
    assert await other == ALL
    await settle()
    assert not any(record.rejoined for record in scene.house.records)


async def test_a_client_that_is_still_there_keeps_its_answer_to_itself(houses: Build) -> None:
    scene = Scene(houses, slots=2)
    first = await scene.house.begun(hints=FIRST_TRY)
    retry = await scene.house.begun(hints=SECOND_TRY)
    scene.go_on.set()
    assert await first == await retry == ALL
    assert scene.engine.opened == 2


async def test_an_answer_that_breaks_before_its_first_word_is_no_answer_to_a_retry(
    houses: Build,
) -> None:
    breaks = asyncio.Event()
    engine = ScriptedEngine([breaks, UpstreamFailed("x")], [HELLO])
    house = houses(upstream(engine=engine), scheduling=RULES)
    await leave(await house.begun(hints=FIRST_TRY))
    retry = await house.begun(hints=SECOND_TRY)
    breaks.set()
    assert await retry == REST
    assert engine.opened == 2
    [first, second] = house.records
    assert first.outcome == "cancelled"
    assert (second.outcome, second.rejoined, second.attempts) == ("completed", False, 1)
    assert house.broken == ["error"]


async def test_an_answer_that_breaks_midway_is_an_error_to_both(houses: Build) -> None:
    breaks = asyncio.Event()
    engine = ScriptedEngine([[TextDelta("oh ")], breaks, UpstreamDisconnected("x")], [HELLO])
    house = houses(upstream(engine=engine), scheduling=RULES)
    await leave(await house.begun(hints=FIRST_TRY))
    retry = await house.begun(hints=SECOND_TRY)
    breaks.set()
    with pytest.raises(UpstreamDisconnected):
        await retry
    await settle()
    assert engine.opened == 1
    assert sorted(record.outcome for record in house.records) == ["cancelled", "failed"]
    assert house.broken == ["disconnect"]
    assert await house.run(hints=attrs.evolve(FIRST_TRY, retry_count=2)) == REST


async def test_a_retry_waits_no_longer_than_its_own_time(scene: Scene) -> None:
    """A whole answer is cut at the deadline of who waits for it, not of who began it."""
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    retry = await house.begun(hints=attrs.evolve(SECOND_TRY, timeout_s=5.0))
    await house.clock.advance(5.0)
    word, end = await retry
    assert word == TextDelta("oh ")
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert house.records[-1].truncated
    await house.clock.advance(PATIENCE_S)
    house.assert_nothing_is_held()


async def test_the_deadline_of_who_has_left_ends_nothing(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=attrs.evolve(FIRST_TRY, timeout_s=2.0)))
    retry = await house.begun(hints=attrs.evolve(SECOND_TRY, timeout_s=20.0))
    await house.clock.advance(10.0)
    scene.go_on.set()
    assert await retry == ALL


async def test_a_connection_that_breaks_while_we_write_is_a_client_that_left(
    scene: Scene,
) -> None:
    """It is heard of twice: the write fails, and the server cancels the task."""
    house = scene.house

    async def consume(answer: Answer) -> None:
        await answer.read()
        raise ConnectionResetError

    first = asyncio.create_task(
        house.service.run(
            request(stream=True), consume, caller=ANONYMOUS, request_id="r", hints=FIRST_TRY
        )
    )
    await settle()
    await leave(first)
    assert scene.engine.running == 1
    retry = await house.begun(request(stream=True), hints=SECOND_TRY)
    scene.go_on.set()
    assert await retry == ALL
    await settle()
    assert sorted(record.outcome for record in house.records) == ["cancelled", "completed"]


async def test_a_stream_that_was_all_said_to_who_had_left_is_said_again(scene: Scene) -> None:
    """The end was written to a connection that nobody read any more."""
    house = scene.house

    async def consume(answer: Answer) -> None:
        await read_all(answer)
        raise ConnectionResetError

    first = asyncio.create_task(
        house.service.run(request(), consume, caller=ANONYMOUS, request_id="r", hints=FIRST_TRY)
    )
    scene.go_on.set()
    with pytest.raises(ConnectionResetError):
        await first
    assert await house.run(hints=SECOND_TRY) == ALL
    assert scene.engine.opened == 1


async def test_n_answers_are_rejoined_as_well(houses: Build) -> None:
    go_on = asyncio.Event()
    engine = ScriptedEngine([HELLO], [[TextDelta("oh ")], go_on, HELLO])
    house = houses(upstream(engine=engine), scheduling=RULES)
    await leave(await house.begun(request(n=2), hints=FIRST_TRY))
    retry = await house.begun(request(n=2), hints=SECOND_TRY)
    go_on.set()
    assert await retry == [*REST, *ALL]
    assert engine.opened == 2
    assert house.records[-1].usage.completion == 4


async def test_being_told_to_stop_ends_it_at_once_for_everybody(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    retry = await house.begun(hints=SECOND_TRY)
    assert house.service.abort(ShuttingDown("bye")) == 2
    with pytest.raises(ShuttingDown):
        await retry
    await settle()
    house.assert_nothing_is_held()
    assert sorted(record.outcome for record in house.records) == ["cancelled", "failed"]


async def test_what_nobody_listens_to_is_aborted_too(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    assert house.service.abort(ShuttingDown("bye")) == 1
    await settle()
    house.assert_nothing_is_held()
    [record] = house.records
    assert (record.outcome, record.status) == ("cancelled", 499)


async def test_during_a_drain_nobody_is_waited_for(scene: Scene) -> None:
    house = scene.house
    first = await house.begun(hints=FIRST_TRY)
    house.service.begin_drain()
    await leave(first)
    house.assert_nothing_is_held()


async def test_a_drain_waits_for_what_goes_on_and_no_longer_than_for_that(scene: Scene) -> None:
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    house.service.begin_drain()
    drained = asyncio.create_task(house.service.wait_idle())
    await settle()
    assert not drained.done()
    await house.clock.advance(PATIENCE_S)
    assert drained.done()


async def test_a_client_that_leaves_the_queue_leaves_nothing_behind(scene: Scene) -> None:
    house = scene.house
    running = await house.begun()
    waiting = await house.begun(request(stream=True), hints=FIRST_TRY)
    assert house.queue.qsize() == 1
    await leave(waiting)
    assert house.queue.qsize() == 0
    assert house.records[0].phase == "queued"
    scene.go_on.set()
    assert await running == ALL
    assert scene.engine.opened == 1


async def test_going_on_for_nobody_is_charged_to_who_asked(scene: Scene) -> None:
    """Its share of the slots pays for the time, or leaving would be a way round it."""
    house = scene.house
    await leave(await house.begun(hints=FIRST_TRY))
    await house.clock.advance(PATIENCE_S)
    [record] = house.records
    assert math.isclose(record.service_s, PATIENCE_S)


@pytest.mark.parametrize("fault", [UpstreamFailed("x"), UpstreamDisconnected("x")])
async def test_what_breaks_for_nobody_is_told_of_the_upstream_alone(
    houses: Build, fault: GatewayError
) -> None:
    breaks = asyncio.Event()
    engine = ScriptedEngine([[TextDelta("oh ")], breaks, fault])
    house = houses(upstream(engine=engine), scheduling=RULES)
    await leave(await house.begun(hints=FIRST_TRY))
    breaks.set()
    await settle()
    [record] = house.records
    assert (record.outcome, record.status) == ("cancelled", 499)
    assert len(house.broken) == 1
    house.assert_nothing_is_held()
