"""Embeddings through the waist: the same queue, and one call for those who wait together."""

import asyncio
import random
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import Scheduling
from gateway.core.errors import (
    BackendRefusedRequest,
    RequestTimeout,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import Embeddings, EmbedRequest
from gateway.core.ticket import ANONYMOUS, NO_HINTS, Caller
from gateway.scheduling.microbatch import BatchBounds
from gateway.story import Answer
from tests.engines import ScriptedEngine, request, settle, upstream
from tests.service_house import Build, House, leave, open_houses


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


async def take(answer: Answer) -> Embeddings:
    await answer.read()
    return answer.embeddings


async def embed(
    house: House, *texts: str, caller: Caller = ANONYMOUS, model: str = "m"
) -> Embeddings:
    request = EmbedRequest(model=model, inputs=texts)
    return await house.service.run(request, take, caller=caller, request_id=texts[0])


async def begun(
    house: House, *texts: str, caller: Caller = ANONYMOUS
) -> "asyncio.Task[Embeddings]":
    task = asyncio.create_task(embed(house, *texts, caller=caller))
    await settle()
    return task


def vectors(task: "asyncio.Task[Embeddings]") -> list[list[float]]:
    return [list(vector) for vector in task.result().vectors]


def forecast_s(house: House, text: str) -> float:
    request = EmbedRequest(model="m", inputs=(text,))
    return house.service.forecast(request, caller=ANONYMOUS).service_s


async def nothing_is_held(house: House) -> None:
    await settle()  # The slot is free when the call's own task has ended.
    house.assert_nothing_is_held()


async def held(houses: Build) -> tuple[House, ScriptedEngine, asyncio.Event]:
    """A house whose one slot is taken by a call that ends when the event is set."""
    engine = ScriptedEngine()
    gate = asyncio.Event()
    engine.embed_steps = [gate]
    house = houses(upstream(engine=engine))
    return house, engine, gate


async def test_a_lone_request_is_computed_at_once_and_told(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    found = await embed(house, "one", "three")
    assert [list(vector) for vector in found.vectors] == [[3.0], [5.0]]
    assert found.prompt_tokens == 8
    [record] = house.records
    assert (record.outcome, record.usage.prompt, record.prompt_chars) == ("completed", 8, 8)
    await nothing_is_held(house)


async def test_those_who_wait_share_one_call_and_each_gets_its_own(houses: Build) -> None:
    house, engine, gate = await held(houses)
    first = await begun(house, "a")
    others = [await begun(house, "b" * size, "c") for size in (2, 3, 4)]
    assert house.queue.qsize() == 3
    gate.set()
    await asyncio.gather(first, *others)
    assert engine.calls == [("a",), ("bb", "c", "bbb", "c", "bbbb", "c")]
    assert [vectors(task) for task in others] == [[[2.0], [1.0]], [[3.0], [1.0]], [[4.0], [1.0]]]
    assert [task.result().prompt_tokens for task in others] == [3, 4, 5]
    assert [record.outcome for record in house.records] == ["completed"] * 4
    await nothing_is_held(house)


async def test_a_bad_input_fails_its_own_caller_alone(houses: Build) -> None:
    house, engine, gate = await held(houses)
    first = await begun(house, "a")
    good, bad, fine = [await begun(house, text) for text in ("good", "bad", "fine")]
    gate.set()
    await asyncio.wait((first, good, bad, fine))
    assert engine.calls[1:] == [("good", "bad", "fine"), ("good",), ("bad",), ("fine",)]
    assert (vectors(good), vectors(fine)) == ([[4.0]], [[4.0]])
    assert isinstance(bad.exception(), BackendRefusedRequest)
    await nothing_is_held(house)


async def test_who_leaves_takes_nobody_along(houses: Build) -> None:
    house, engine, gate = await held(houses)
    inner = asyncio.Event()
    engine.embed_steps.append(inner)
    first = await begun(house, "a")
    # The one whose turn it was leaves while the call runs, and so does another.
    lead, other, last = [await begun(house, text) for text in ("lead", "other", "last")]
    gate.set()
    await settle()
    assert engine.calls[-1] == ("lead", "other", "last")
    await leave(lead)
    await leave(other)
    assert house.upstreams[0].in_flight == 1
    inner.set()
    assert [list(vector) for vector in (await last).vectors] == [[4.0]]
    await first
    assert engine.calls_broken_off == 0
    await nothing_is_held(house)


async def test_when_all_have_left_the_call_is_broken_off_and_the_slot_is_free(
    houses: Build,
) -> None:
    house, engine, gate = await held(houses)
    engine.embed_steps.append(asyncio.Event())
    first = await begun(house, "a")
    both = [await begun(house, text) for text in ("one", "two")]
    gate.set()
    await first
    for task in both:
        await leave(task)
    assert engine.calls_broken_off == 1
    await nothing_is_held(house)
    assert [record.outcome for record in house.records] == ["completed", "cancelled", "cancelled"]


async def test_who_leaves_before_the_call_is_not_computed(houses: Build) -> None:
    house, engine, gate = await held(houses)
    first = await begun(house, "a")
    stays = await begun(house, "stays")
    goes = await begun(house, "goes")
    await leave(goes)
    gate.set()
    await asyncio.gather(first, stays)
    assert engine.calls == [("a",), ("stays",)]
    await nothing_is_held(house)


async def test_a_call_that_breaks_counts_once_and_another_engine_takes_over(
    houses: Build,
) -> None:
    broken, other = ScriptedEngine(), ScriptedEngine()
    gates = asyncio.Event(), asyncio.Event()
    broken.embed_steps = [gates[0], UpstreamDisconnected("gone")]
    other.embed_steps = [gates[1]]
    house = houses(upstream("first", engine=broken), upstream("second", engine=other))
    running = [await begun(house, text) for text in ("a", "b")]
    waiting = [await begun(house, text) for text in ("one", "three", "seven")]
    gates[0].set()
    await settle()
    gates[1].set()
    await asyncio.gather(*running, *waiting)
    assert broken.calls[1] == ("one", "three", "seven")
    assert other.calls[1] == ("one", "three", "seven")
    assert [vectors(task) for task in waiting] == [[[3.0]], [[5.0]], [[5.0]]]
    assert house.broken == ["disconnect"]
    await nothing_is_held(house)


async def test_its_deadline_ends_a_member_and_not_the_call(houses: Build) -> None:
    house, engine, gate = await held(houses)
    inner = asyncio.Event()
    engine.embed_steps.append(inner)
    first = await begun(house, "a")
    await house.clock.advance(10.0)
    early = await begun(house, "early")
    await house.clock.advance(20.0)
    late = await begun(house, "late")
    gate.set()
    await first
    await settle()
    await house.clock.advance(45.0)
    await settle()
    assert isinstance(early.exception(), RequestTimeout)
    inner.set()
    assert [list(vector) for vector in (await late).vectors] == [[4.0]]
    await nothing_is_held(house)


async def test_with_one_item_to_a_call_nothing_is_joined(houses: Build) -> None:
    engine = ScriptedEngine()
    gate = asyncio.Event()
    engine.embed_steps = [gate]
    house = houses(upstream(engine=engine), batch_bounds=BatchBounds(items_max=1, chars_max=100))
    tasks = [await begun(house, text) for text in ("a", "b", "c")]
    gate.set()
    await asyncio.gather(*tasks)
    assert engine.calls == [("a",), ("b",), ("c",)]


async def test_each_is_charged_for_its_part_of_the_slot(houses: Build) -> None:
    house, engine, gate = await held(houses)
    inner = asyncio.Event()
    engine.embed_steps.append(inner)
    ann, bob = Caller(name="ann"), Caller(name="bob")
    first = await begun(house, "a")
    large = await begun(house, "x" * 900, caller=ann)
    small = await begun(house, "x" * 100, caller=bob)
    gate.set()
    await first
    await settle()
    await house.clock.advance(10.0)
    inner.set()
    await asyncio.gather(large, small)
    accounts = house.made.scheduler.accounts
    anns, bobs = accounts.virtual_s("ann"), accounts.virtual_s("bob")
    assert anns + bobs == pytest.approx(10.0, abs=0.2)
    assert anns > 5 * bobs


async def test_what_it_took_is_learned(houses: Build) -> None:
    house, _, gate = await held(houses)
    before = forecast_s(house, "x" * 1000)
    first = await begun(house, "x" * 1000)
    await house.clock.advance(100.0 / 4)
    gate.set()
    await first
    after = forecast_s(house, "x" * 1000)
    assert after > 1.5 * before


async def test_a_drain_that_is_over_ends_those_in_a_call(houses: Build) -> None:
    house, engine, _ = await held(houses)
    first = await begun(house, "a")
    error = RequestTimeout("over")
    house.service.abort(error)
    await settle()
    assert attrs.asdict(house.records[0])["outcome"] == "failed"
    assert first.exception() is not None
    assert engine.calls_broken_off == 1
    await nothing_is_held(house)


async def test_a_retry_beside_its_own_ending_call_loses_no_slot(houses: Build) -> None:
    # The other engine is free: the next call begins in the turn in which the first one ends.
    broken = ScriptedEngine()
    broken.embed_steps = [UpstreamFailed("gone")]
    house = houses(upstream("first", engine=broken), upstream("second"))
    found = await embed(house, "one")
    assert [list(vector) for vector in found.vectors] == [[3.0]]
    await nothing_is_held(house)


async def test_a_stale_connection_is_tried_again_in_another_slot(houses: Build) -> None:
    engine = ScriptedEngine()
    engine.embed_steps = [UpstreamDisconnected("gone", untouched=True)]
    house = houses(upstream(engine=engine, slots=2))
    assert (await embed(house, "one")).prompt_tokens == 3
    await nothing_is_held(house)


@pytest.mark.parametrize("seed", range(12))
async def test_no_history_of_calls_loses_a_slot(houses: Build, seed: int) -> None:
    dice = random.Random(seed)
    engines = [ScriptedEngine(), ScriptedEngine()]
    house = houses(*(upstream(str(number), engine=one) for number, one in enumerate(engines)))
    gates: list[asyncio.Event] = []
    tasks: list[asyncio.Task[Embeddings]] = []
    for _ in range(60):
        match dice.randrange(5):
            case 0 | 1:
                texts = [dice.choice(["a", "bb", "bad"]) for _ in range(dice.randint(1, 3))]
                tasks.append(asyncio.create_task(embed(house, *texts)))
            case 2:
                gate = asyncio.Event()
                gates.append(gate)
                error = dice.choice([UpstreamFailed("x"), UpstreamDisconnected("x"), None])
                dice.choice(engines).embed_steps.append(error or gate)
            case 3 if gates:
                dice.choice(gates).set()
            case _ if tasks:
                dice.choice(tasks).cancel()
        await settle(dice.randint(0, 3))
    for engine in engines:
        engine.embed_steps.clear()
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await nothing_is_held(house)
    assert {record.outcome for record in house.records} >= {"completed", "failed"}


async def test_who_comes_along_makes_nobody_else_late(houses: Build) -> None:
    engine = ScriptedEngine()
    gate = asyncio.Event()
    engine.embed_steps = [gate]
    house = houses(upstream(engine=engine), scheduling=Scheduling())
    first = await begun(house, "a")
    lead = await begun(house, "b" * 200)
    hasty = attrs.evolve(NO_HINTS, timeout_s=10.0)
    chat = await house.begun(attrs.evolve(request(stream=True), max_tokens=4), hints=hasty)
    riders = [await begun(house, "c" * 720) for _ in range(8)]
    inner = asyncio.Event()
    engine.embed_steps = [inner]
    gate.set()
    await settle()
    # All nine would be expected to take 25 s.
    assert 1 < len(engine.calls[1]) < 5
    await house.clock.advance(5.0)
    inner.set()
    await asyncio.gather(first, lead, *riders, chat)


async def test_loading_a_model_is_not_learned_as_reading(houses: Build) -> None:
    engine = ScriptedEngine()
    engine.resident = set()
    load = asyncio.Event()
    engine.load_steps = [load]
    house = houses(upstream(engine=engine))
    text = "x" * 900
    before = forecast_s(house, text)
    task = await begun(house, text)
    await house.clock.advance(40.0)
    load.set()
    await task
    # Thirty seconds and more, had the load counted.
    assert forecast_s(house, text) < 4 * before


async def test_seconds_of_the_slot_are_told_once_for_a_call(houses: Build) -> None:
    house, engine, gate = await held(houses)
    inner = asyncio.Event()
    engine.embed_steps.append(inner)
    tasks = [await begun(house, text) for text in ("a", "one", "two", "six", "ten")]
    gate.set()
    await settle()
    await house.clock.advance(8.0)
    inner.set()
    await asyncio.gather(*tasks)
    assert sum(record.service_s for record in house.records) == pytest.approx(8.0)
    assert all(record.expected_s > 0.0 for record in house.records)
