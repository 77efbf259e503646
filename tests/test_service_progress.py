"""What can be asked of the service while requests run: where one is, what one would meet; and
the loads that all of them share."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import Scheduling, Timeouts
from gateway.core.errors import DeadlineUnmeetable, ModelNotFound, ShuttingDown, UpstreamFailed
from gateway.core.messages import Finished, FinishReason, TextDelta, Usage
from gateway.core.ticket import ANONYMOUS, Caller, Hints
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import CONFIDENT_AFTER
from gateway.service import ENDED_KEPT
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import FIRST_TRY, SECOND_TRY, Build, House, leave, open_houses

RULES = Scheduling()
RULES_TIMEOUT_S = Timeouts().request_timeout_seconds
SHORT = attrs.evolve(request(), max_tokens=15)
"""Two seconds of writing, as long as nothing was learned."""


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


def holding(houses: Build, *before: object) -> tuple[House, asyncio.Event]:
    """One slot, whose requests wait for the event after what is said before."""
    go_on = asyncio.Event()
    engine = ScriptedEngine([*before, go_on, HELLO])
    return houses(upstream(engine=engine), scheduling=RULES), go_on


# --- Progress -----------------------------------------------------------------


async def test_it_is_told_of_from_the_queue_to_the_end(houses: Build) -> None:
    said = asyncio.Event()
    engine = ScriptedEngine([said, [TextDelta("a")], asyncio.Event()])
    engine.scripts.append([said, [TextDelta("a")], (end := asyncio.Event()), HELLO])
    house = houses(upstream(engine=engine), scheduling=RULES)
    ahead = await house.begun(SHORT, request_id="ahead")
    asked = await house.begun(SHORT, request_id="asked")

    queued = house.progress("asked")
    assert (queued.state, queued.position, queued.model) == ("queued", 0, "m")
    assert 1.0 < queued.wait_s < 3.0
    assert 1.0 < queued.service_s < 3.0
    assert queued.why == "a slot"
    assert house.progress("ahead").state == "prefill"

    await house.clock.advance(1.0)
    assert house.progress("asked").queue_s == 1.0
    await leave(ahead)
    await house.clock.advance(0.5)
    reading = house.progress("asked")
    assert (reading.state, reading.wait_s, reading.why) == ("prefill", 0.0, "")
    assert (reading.queue_s, reading.prefill_s, reading.decode_s) == (1.0, 0.5, 0.0)

    said.set()
    await settle()
    await house.clock.advance(0.25)
    writing = house.progress("asked")
    assert (writing.state, writing.prefill_s, writing.decode_s) == ("decode", 0.5, 0.25)

    end.set()
    await asked
    await house.clock.advance(10.0)
    ended = house.progress("asked")
    assert ended.state == "ended"
    assert ended.so_far_s == 1.75
    assert ended.record is not None
    assert (ended.record.outcome, ended.record.usage.completion) == ("completed", 2)


async def test_who_is_before_it_counts(houses: Build) -> None:
    house, go_on = holding(houses)
    tasks = []
    for number in range(4):
        tasks.append(await house.begun(SHORT, request_id=f"r{number}"))
        await house.clock.advance(0.1)
    waiting = [house.progress(f"r{number}") for number in range(1, 4)]
    assert [one.position for one in waiting] == [0, 1, 2]
    assert waiting[0].wait_s < waiting[1].wait_s < waiting[2].wait_s
    go_on.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("ended", [False, True])
async def test_it_is_its_own_callers_alone(houses: Build, ended: bool) -> None:
    house, go_on = holding(houses)
    mine, other = Caller(name="mine"), Caller(name="other")
    task = await house.begun(caller=mine)
    if ended:
        go_on.set()
        await task
    assert house.service.progress("r", mine) is not None
    assert house.service.progress("r", other) is None
    assert house.service.progress("q", mine) is None
    go_on.set()
    await task


async def test_two_callers_may_give_their_requests_the_same_name(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([HELLO], [UpstreamFailed("x")])))
    one, two = Caller(name="one"), Caller(name="two")
    await house.run(caller=one)
    with pytest.raises(UpstreamFailed):
        await house.run(caller=two)
    told = [house.progress(caller=caller).record for caller in (one, two)]
    assert [record and record.outcome for record in told] == ["completed", "failed"]


async def test_only_so_many_that_have_ended_are_remembered(houses: Build) -> None:
    house = houses(upstream())
    for number in range(ENDED_KEPT + 2):
        await house.run(request_id=f"r{number}")
    known = [
        number
        for number in range(ENDED_KEPT + 2)
        if house.service.progress(f"r{number}", ANONYMOUS) is not None
    ]
    assert known == list(range(2, ENDED_KEPT + 2))


async def test_of_what_was_refused_nothing_is_remembered(houses: Build) -> None:
    house = houses(upstream())
    with pytest.raises(ModelNotFound):
        await house.run(request("nobody-has-this"))
    assert house.service.progress("r", ANONYMOUS) is None


async def test_what_goes_on_for_a_client_that_left_is_told_of_to_its_next_try(
    houses: Build,
) -> None:
    house, go_on = holding(houses, [TextDelta("a")])
    await leave(await house.begun(hints=FIRST_TRY, request_id="first"))
    assert house.progress("first").state == "decode"
    retry = await house.begun(hints=SECOND_TRY, request_id="second")
    assert house.progress("second").state == "decode"
    go_on.set()
    await retry
    ended = house.progress("second").record
    assert ended is not None
    assert ended.rejoined


# --- Forecasts ----------------------------------------------------------------


async def test_a_forecast_touches_nothing(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine), scheduling=RULES)
    forecast = house.forecast(SHORT)
    assert (forecast.refused, forecast.wait_s, forecast.position) == ("", 0.0, 0)
    assert forecast.deadline_s == 60.0
    assert forecast.retry_after_s is None
    assert 1.0 < forecast.service_s < 3.0
    assert engine.opened == 0
    assert house.records == []
    house.assert_nothing_is_held()


async def test_a_forecast_is_what_then_happens(houses: Build) -> None:
    """Let in as long as it says so, and from then on refused with the time that it says."""
    house, go_on = holding(houses)
    tasks = []
    while not house.forecast(SHORT).refused:
        tasks.append(await house.begun(SHORT))
    assert len(tasks) > 10
    forecast = house.forecast(SHORT)
    assert forecast.refused == DeadlineUnmeetable.code
    assert forecast.position == len(tasks) - 1
    with pytest.raises(DeadlineUnmeetable) as refused:
        await house.run(SHORT)
    # Told to the millisecond, since no two are told the same.
    assert refused.value.retry_after_s == pytest.approx(forecast.retry_after_s, abs=0.002)
    assert refused.value.promise is not None
    assert refused.value.promise.wait_s == forecast.wait_s
    # The place that was held now counts for who comes later.
    assert house.forecast(SHORT).wait_s > forecast.wait_s
    go_on.set()
    await asyncio.gather(*tasks)


async def test_what_would_never_fit_is_not_told_to_come_back(houses: Build) -> None:
    answer = [TextDelta("a"), Finished(FinishReason.STOP, Usage(prompt=20, completion=15))]
    gates = [asyncio.Event() for _ in range(CONFIDENT_AFTER)]
    engine = ScriptedEngine(*([gate, answer] for gate in gates))
    house = houses(upstream(engine=engine), scheduling=RULES)
    for gate in gates:
        running = await house.begun()
        await house.clock.advance(3.0)
        gate.set()
        await running
    hurried = Hints(timeout_s=0.5)
    forecast = house.service.forecast(SHORT, caller=ANONYMOUS, hints=hurried)
    assert (forecast.refused, forecast.retry_after_s) == (DeadlineUnmeetable.code, None)
    with pytest.raises(DeadlineUnmeetable, match="even if nothing else ran") as refused:
        await house.run(SHORT, hints=hurried)
    assert refused.value.retry_after_s is None


async def test_a_forecast_fails_where_the_request_would(houses: Build) -> None:
    house = houses(upstream())
    with pytest.raises(ModelNotFound):
        house.forecast(request("nobody-has-this"))
    house.service.begin_drain()
    with pytest.raises(ShuttingDown):
        house.forecast()


async def test_the_name_default_stands_for_the_default_model_here_too(houses: Build) -> None:
    house = houses(upstream())
    assert house.forecast(request("default")).refused == ""


# --- Loads --------------------------------------------------------------------


def unloaded(slots: int = 2) -> tuple[Upstream, ScriptedEngine, asyncio.Event]:
    """An upstream whose engine has nothing in memory, and what its first load waits for."""
    engine = ScriptedEngine()
    engine.resident = set()
    loaded = asyncio.Event()
    engine.load_steps.append(loaded)
    return upstream(engine=engine, slots=slots), engine, loaded


async def test_two_who_want_a_model_wait_for_one_load(houses: Build) -> None:
    one, engine, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    first = await house.begun(SHORT, request_id="first")
    await house.clock.advance(1.0)
    second = await house.begun(SHORT, request_id="second")
    assert house.progress("first").state == house.progress("second").state == "loading"
    assert engine.opened == 0
    await house.clock.advance(2.0)
    loaded.set()
    assert await first == await second == list(HELLO)
    assert engine.loads == ["m"]
    told = [house.progress(name) for name in ("first", "second")]
    assert [progress.load_s for progress in told] == [3.0, 2.0]
    assert [progress.prefill_s for progress in told] == [0.0, 0.0]


async def test_a_client_that_leaves_does_not_end_the_load(houses: Build) -> None:
    one, engine, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    await leave(await house.begun(SHORT))
    house.assert_nothing_is_held()
    assert (engine.loads, engine.loads_broken_off) == (["m"], 0)
    [record] = house.records
    assert (record.outcome, record.phase) == ("cancelled", "waiting")
    second = await house.begun(SHORT)
    loaded.set()
    assert await second == list(HELLO)
    assert engine.loads == ["m"]


async def test_when_all_have_left_the_model_is_there_for_the_next(houses: Build) -> None:
    one, engine, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    await leave(await house.begun(SHORT))
    loaded.set()
    await settle()
    assert await house.run(SHORT) == list(HELLO)
    assert engine.loads == ["m"]


async def test_a_load_that_fails_is_told_to_all_who_waited_and_tried_again_by_the_next(
    houses: Build,
) -> None:
    engine = ScriptedEngine()
    engine.resident = set()
    engine.load_steps.append(UpstreamFailed("no memory"))
    house = houses(upstream(engine=engine, slots=2), scheduling=RULES)
    results = await asyncio.gather(house.run(SHORT), house.run(SHORT), return_exceptions=True)
    assert [type(result) for result in results] == [UpstreamFailed, UpstreamFailed]
    assert engine.opened == 0
    assert await house.run(SHORT) == list(HELLO)
    assert engine.loads == ["m", "m"]


async def test_a_load_takes_no_longer_than_its_client_has(houses: Build) -> None:
    one, engine, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    hurried = await house.begun(SHORT, hints=Hints(timeout_s=8.0), request_id="hurried")
    patient = await house.begun(SHORT, request_id="patient")
    await house.clock.advance(8.0)
    assert hurried.done()
    assert house.progress("hurried").record is not None
    assert house.records[0].status == 504
    loaded.set()
    assert await patient == list(HELLO)
    with pytest.raises(Exception, match="not there in time"):
        await hurried
    assert engine.loads_broken_off == 0


async def test_stopping_now_ends_who_waits_for_a_load(houses: Build) -> None:
    one, _, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    waiting = await house.begun(SHORT)
    house.service.abort(ShuttingDown("bye"))
    with pytest.raises(ShuttingDown):
        await waiting
    house.assert_nothing_is_held()
    loaded.set()


async def test_a_load_is_learned_and_told_of_as_a_swap(houses: Build) -> None:
    one, _, loaded = unloaded()
    house = houses(one, scheduling=RULES)
    running = await house.begun(SHORT)
    await house.clock.advance(20.0)
    loaded.set()
    await running
    assert house.records[0].swaps == 1
    assert house.made.costs.load_s("one", "m") > 6.0
    await house.run(SHORT)
    assert house.records[1].swaps == 0


# --- For the operator --------------------------------------------------------------


async def test_all_that_run_and_wait_are_told_in_their_order(houses: Build) -> None:
    house, go_on = holding(houses, [TextDelta("a")])
    ahead = await house.begun(SHORT, request_id="ahead")
    for number in range(3):
        await house.begun(SHORT, request_id=f"r{number}")
    await house.clock.advance(2.0)
    (running,) = house.service.running(9)
    assert (running.progress.request_id, running.progress.state) == ("ahead", "decode")
    assert (running.caller, running.upstream) == (ANONYMOUS.name, "one")
    waiting = house.service.waiting(9)
    assert [one.progress.request_id for one in waiting] == ["r0", "r1", "r2"]
    assert [one.progress.position for one in waiting] == [0, 1, 2]
    assert [one.progress.so_far_s for one in waiting] == [2.0] * 3
    assert 0.0 < waiting[0].deadline_s < RULES_TIMEOUT_S
    assert [one.progress.request_id for one in house.service.waiting(2)] == ["r0", "r1"]
    await leave(ahead)
    go_on.set()
    await settle()
    assert house.service.running(9) == house.service.waiting(9) == []
