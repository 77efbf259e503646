"""The waist, over scripted engines and a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest

from gateway.config.schema import ModelOptions, ModelSettings
from gateway.core.errors import (
    GatewayError,
    ModelNotFound,
    QueueFull,
    RequestTimeout,
    ShuttingDown,
    UnsupportedParameter,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamUnreachable,
)
from gateway.core.messages import Finished, FinishReason, TextDelta, Usage
from gateway.core.ticket import ANONYMOUS
from gateway.story import Answer
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.service_house import Build, open_houses, read_all

STALE = UpstreamDisconnected("gone", untouched=True)


@pytest.fixture
async def houses() -> AsyncIterator[Build]:
    async with open_houses() as build:
        yield build


async def test_an_answer_is_told_once_with_its_numbers(houses: Build) -> None:
    house = houses(upstream())
    assert await house.run() == list(HELLO)
    [record] = house.records
    assert (record.outcome, record.status, record.reason) == ("completed", 200, "")
    assert (record.usage.prompt, record.usage.completion) == (3, 2)
    assert record.upstream == "one"
    assert record.attempts == 1
    assert record.first_token_s is not None


async def test_a_refusal_is_told_too_and_touches_no_backend(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    with pytest.raises(ModelNotFound):
        await house.run(request("nobody-has-this"))
    [record] = house.records
    assert (record.outcome, record.status, record.reason) == ("refused", 404, "model_not_found")
    assert engine.opened == 0


async def test_a_model_installed_since_the_last_look_is_found(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    engine.models.append("new")
    assert await house.run(request("new")) == list(HELLO)


async def test_the_model_name_default_stands_for_the_default_model(houses: Build) -> None:
    engine = ScriptedEngine()
    house = houses(upstream(engine=engine))
    await house.run(request("default"))
    assert engine.requests[0].model == "m"
    assert house.records[0].model == "m"


async def test_an_alias_runs_its_model_as_it_is_configured(houses: Build) -> None:
    engine = ScriptedEngine()
    models = {"gpt-4o": ModelSettings(target="default", max_tokens=5, system="Be brief.")}
    house = houses(upstream(engine=engine), models=models)
    await house.run(request("gpt-4o"))
    [asked] = engine.requests
    assert (asked.model, asked.max_tokens) == ("m", 5)
    assert asked.messages[0].text == "Be brief."
    assert house.records[0].model == "m"
    assert house.service.model_named("gpt-4o") == "gpt-4o"
    assert house.service.model_named("default") == "m"


async def test_a_forecast_is_of_what_an_alias_would_run(houses: Build) -> None:
    models = {"gpt-4o": ModelSettings(target="m", max_tokens=5)}
    house = houses(upstream(), models=models)
    short = house.forecast(attrs.evolve(request("gpt-4o"), max_tokens=2000))
    long = house.forecast(attrs.evolve(request("m"), max_tokens=2000))
    assert short.service_s < long.service_s


async def test_what_only_the_configuration_asks_for_is_no_ignored_parameter(houses: Build) -> None:
    models = {"m": ModelSettings(options=ModelOptions(mirostat=2))}
    house = houses(upstream(engine=ScriptedEngine()), models=models, strict_params=True)
    assert await house.run() == list(HELLO)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(houses: Build) -> None:
    hold = asyncio.Event()
    house = houses(upstream(engine=ScriptedEngine([hold, HELLO])), bound=1)
    running, queued = house.begin(), house.begin()
    await settle()
    with pytest.raises(QueueFull) as caught:
        await house.run()
    assert caught.value.retry_after_s is not None
    assert 1 <= caught.value.retry_after_s <= 120
    hold.set()
    await asyncio.gather(running, queued)
    outcomes = sorted(record.outcome for record in house.records)
    assert outcomes == ["completed", "completed", "refused"]


async def test_a_connection_closed_before_one_byte_is_tried_once_more_on_the_same_upstream(
    houses: Build,
) -> None:
    engine = ScriptedEngine([STALE], [HELLO])
    house = houses(upstream(engine=engine))
    assert await house.run() == list(HELLO)
    assert engine.opened == 2
    assert house.records[0].attempts == 2


async def test_the_same_upstream_is_not_tried_for_ever(houses: Build) -> None:
    engine = ScriptedEngine([STALE])
    house = houses(upstream(engine=engine))
    with pytest.raises(UpstreamDisconnected):
        await house.run()
    assert engine.opened == 2
    assert house.records[0].outcome == "failed"


@pytest.mark.parametrize(
    "fault",
    [UpstreamUnreachable("x"), UpstreamFailed("x"), UpstreamBusy("x"), UpstreamDisconnected("x")],
)
async def test_before_the_first_event_another_upstream_takes_over(
    houses: Build, fault: GatewayError
) -> None:
    first, second = ScriptedEngine([fault]), ScriptedEngine([HELLO])
    house = houses(upstream("first", engine=first), upstream("second", engine=second))
    assert await house.run() == list(HELLO)
    assert (first.opened, second.opened) == (1, 1)
    assert house.records[0].upstream == "second"


async def test_after_the_first_event_nobody_takes_over(houses: Build) -> None:
    broken = ScriptedEngine([[TextDelta("hal")], UpstreamDisconnected("x")])
    spare = ScriptedEngine([HELLO])
    house = houses(upstream("broken", engine=broken), upstream("spare", engine=spare))
    with pytest.raises(UpstreamDisconnected):
        await house.run()
    assert spare.opened == 0
    [record] = house.records
    assert (record.outcome, record.status, record.reason) == ("failed", 502, "backend_error")


async def test_a_busy_backend_alone_is_not_asked_again(houses: Build) -> None:
    engine = ScriptedEngine([UpstreamBusy("x", retry_after_s=1.0)])
    house = houses(upstream(engine=engine))
    with pytest.raises(UpstreamBusy):
        await house.run()
    assert engine.opened == 1


async def test_five_refused_connections_open_the_breaker_and_then_nobody_is_asked(
    houses: Build,
) -> None:
    engine = ScriptedEngine([UpstreamUnreachable("x")])
    house = houses(upstream(engine=engine))
    for _ in range(8):
        with pytest.raises(UpstreamUnreachable):
            await house.run()
    assert engine.opened == 5


async def test_a_whole_answer_that_takes_too_long_is_a_timeout(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([[TextDelta("a")], asyncio.Event()])))
    running = house.begin()
    await settle()
    await house.clock.advance(61.0)
    with pytest.raises(RequestTimeout):
        await running
    [record] = house.records
    assert (record.outcome, record.status, record.reason) == ("failed", 504, "timeout")


async def test_a_stream_may_go_on_after_its_first_event_until_its_own_bound(houses: Build) -> None:
    go_on = asyncio.Event()
    engine = ScriptedEngine([[TextDelta("a")], go_on, HELLO], [[TextDelta("a")], asyncio.Event()])
    house = houses(upstream(engine=engine))
    running = house.begin(request(stream=True))
    await settle()
    await house.clock.advance(300.0)
    go_on.set()
    assert len(await running) == 4
    endless = house.begin(request(stream=True))
    await settle()
    await house.clock.advance(601.0)
    with pytest.raises(RequestTimeout):
        await endless


async def test_a_stream_without_a_first_event_in_time_is_a_timeout(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([asyncio.Event()])))
    running = house.begin(request(stream=True))
    await settle()
    await house.clock.advance(61.0)
    with pytest.raises(RequestTimeout):
        await running


@pytest.mark.parametrize("phase", ["queued", "waiting", "streaming"])
async def test_a_caller_who_leaves_is_noticed_in_every_phase(houses: Build, phase: str) -> None:
    hold = asyncio.Event()
    scripts: dict[str, list[object]] = {
        "queued": [hold, HELLO],
        "waiting": [hold],
        "streaming": [[TextDelta("a")], hold],
    }
    engine = ScriptedEngine(scripts[phase])
    house = houses(upstream(engine=engine))
    ahead = house.begin() if phase == "queued" else None
    await settle()
    leaver = house.begin(request(stream=True))
    await settle()
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    record = house.records[0]
    assert (record.outcome, record.status, record.phase) == ("cancelled", 499, phase)
    hold.set()
    if ahead is not None:
        await ahead
        assert engine.opened == 1


async def test_who_leaves_with_the_whole_answer_has_not_left_too_early(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([HELLO])))
    written = asyncio.Event()

    async def consume(answer: Answer) -> None:
        while not answer.whole:
            await answer.read()
        answer.delivered = True
        written.set()
        await asyncio.Event().wait()  # Its connection is being tidied up.

    running = asyncio.ensure_future(
        house.service.run(request(stream=True), consume, caller=ANONYMOUS, request_id="r")
    )
    await written.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (record,) = house.records
    assert (record.outcome, record.status) == ("completed", 200)


async def test_a_reader_who_stops_reading_early_has_left(houses: Build) -> None:
    engine = ScriptedEngine([[TextDelta("a")], [TextDelta("b")], HELLO])
    house = houses(upstream(engine=engine))

    async def read_a_little(answer: Answer) -> None:
        await answer.read()

    await house.service.run(request(), read_a_little, caller=ANONYMOUS, request_id="r")
    assert house.records[0].outcome == "cancelled"
    assert engine.running == 0


async def test_n_answers_come_one_after_the_other_in_one_slot(houses: Build) -> None:
    engine = ScriptedEngine([HELLO])
    one = upstream(slots=1, engine=engine)
    house = houses(one)
    events = await house.run(request(n=3))
    assert sum(isinstance(event, Finished) for event in events) == 3
    assert engine.opened == 3
    [record] = house.records
    assert (record.usage.prompt, record.usage.completion) == (3, 6)
    assert record.outcome == "completed"


async def test_a_seed_draws_n_different_answers(houses: Build) -> None:
    engine = ScriptedEngine([HELLO])
    house = houses(upstream(engine=engine))
    asked = request(n=3)
    sampling = attrs.evolve(asked.sampling, seed=7)
    await house.run(attrs.evolve(asked, sampling=sampling))
    assert [sent.sampling.seed for sent in engine.requests] == [7, 8, 9]


async def test_a_later_answer_that_breaks_fails_the_request(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([HELLO], [UpstreamFailed("x")])))
    with pytest.raises(UpstreamFailed):
        await house.run(request(n=2))
    assert house.records[0].outcome == "failed"


async def test_strict_mode_refuses_what_nobody_honours(houses: Build) -> None:
    deaf = ScriptedEngine()
    deaf.dishonoured = ("logit_bias",)
    house = houses(upstream(engine=deaf), strict_params=True)
    with pytest.raises(UnsupportedParameter, match="logit_bias"):
        await house.run()
    assert house.records[0].outcome == "refused"


async def test_what_the_chosen_upstream_ignores_is_named(houses: Build) -> None:
    deaf = ScriptedEngine()
    deaf.dishonoured = ("logit_bias",)
    house = houses(upstream(engine=deaf))
    named: list[tuple[str, ...]] = []

    async def consume(answer: Answer) -> None:
        named.append(answer.ignored)
        await read_all(answer)

    await house.service.run(
        request(), consume, caller=ANONYMOUS, request_id="r", ignored=("store",)
    )
    assert named == [("store", "logit_bias")]


async def test_while_draining_nothing_new_starts_and_what_was_accepted_ends(houses: Build) -> None:
    hold = asyncio.Event()
    house = houses(upstream(slots=1, engine=ScriptedEngine([hold, HELLO])))
    running, queued = house.begin(), house.begin()
    await settle()
    house.service.begin_drain()
    with pytest.raises(ShuttingDown):
        await house.run()
    drained = asyncio.create_task(house.service.wait_idle())
    await settle()
    assert not drained.done()
    hold.set()
    await drained
    assert await running == await queued == list(HELLO)


async def test_when_the_grace_is_over_everybody_is_told_so(houses: Build) -> None:
    house = houses(upstream(slots=1, engine=ScriptedEngine([asyncio.Event()])))
    running, queued = house.begin(), house.begin()
    await settle()
    assert house.service.abort(ShuttingDown("bye")) == 2
    for task in (running, queued):
        with pytest.raises(ShuttingDown):
            await task
    assert [record.reason for record in house.records] == ["shutting_down", "shutting_down"]


async def test_an_unforeseen_failure_is_ours_and_loses_no_slot(houses: Build) -> None:
    house = houses(upstream())

    async def broken(_: Answer) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await house.service.run(request(), broken, caller=ANONYMOUS, request_id="r")
    [record] = house.records
    assert (record.outcome, record.status) == ("failed", 500)


async def test_an_answer_that_is_cut_short_by_its_length_is_whole(houses: Build) -> None:
    cut = [TextDelta("a"), Finished(FinishReason.LENGTH, Usage(prompt=1, completion=1))]
    house = houses(upstream(engine=ScriptedEngine([cut])))
    assert await house.run() == cut
    assert house.records[0].outcome == "completed"


async def test_every_attempt_that_an_upstream_broke_is_told_by_its_kind(houses: Build) -> None:
    first = ScriptedEngine([UpstreamUnreachable("no")])
    second = ScriptedEngine([[TextDelta("hel")], UpstreamDisconnected("cut")])
    house = houses(upstream("one", engine=first), upstream("two", engine=second))
    with pytest.raises(UpstreamDisconnected):
        await house.run()
    assert house.broken == ["connect", "disconnect"]


async def test_what_no_upstream_broke_is_not_held_against_one(houses: Build) -> None:
    house = houses(upstream(engine=ScriptedEngine([asyncio.Event()])))
    running, waiting = house.begin(), house.begin()
    await settle()
    house.service.abort(ShuttingDown("bye"))
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown, ShuttingDown]
    assert house.broken == []
