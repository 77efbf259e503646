"""What is promised is kept: who is refused is told when to come back and is then served, and
who was let in has an answer by the end of its time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final

import openai
import pytest

from gateway.config.schema import Auth, Queue, Timeouts
from tests.backends.fake_engine import HANG, Pause, chunk, head
from tests.e2e.house import Answer, House, http_chat, opened, say, short, until
from tests.e2e.ollama import HELLO, ScriptedOllama, done, line
from tests.e2e.ollama import answer as answer_of
from tests.e2e.test_openai_python import HI, client_of
from tests.web.raw import HANG_S

FULL: Final = Queue(max_queue_size=0)
"""Nobody may wait."""

PARTLY: Final = head() + chunk(line("hel")) + chunk(line("lo"))


@asynccontextmanager
async def busy(
    engine: ScriptedOllama, *, queue: Queue = FULL
) -> AsyncIterator[tuple[House, Pause]]:
    """The only slot is taken until the pause is over."""
    hold = Pause()
    engine.play(hold, HELLO)
    async with opened(engine, queue=queue) as house, asyncio.timeout(HANG_S):
        running = await house.send(http_chat(short("running")))
        await engine.wait_asked(1)
        try:
            yield house, hold
        finally:
            hold.go.set()
            await running.some()


async def refused(house: House, text: str = "hi", **headers: str) -> Answer:
    answer = await house.chat(short(text), headers)
    assert answer.status == 503
    return answer


# --- Refusals -----------------------------------------------------------------


async def test_who_is_refused_is_told_all_that_is_known_of_its_turn(
    engine: ScriptedOllama,
) -> None:
    async with busy(engine) as (house, _):
        answer = await refused(house)
    assert answer.error["code"] == "queue_full"
    assert answer.error["queue_position"] == 0
    assert 0 < answer.error["estimated_wait_ms"] < 5000
    exact_ms = int(answer.headers["retry-after-ms"])
    assert 50 <= exact_ms < 5000
    assert int(answer.headers["Retry-After"]) == -(-exact_ms // 1000)
    assert answer.headers["x-should-retry"] == "true"
    assert len(answer.headers["x-gateway-place"]) >= 12
    assert engine.chats == 1


async def test_each_is_told_a_moment_and_a_place_of_its_own(engine: ScriptedOllama) -> None:
    async with busy(engine) as (house, _):
        first_try = {"x-stainless-retry-count": "0"}
        answers = [await refused(house, f"hi {number}", **first_try) for number in range(20)]
        assert house.daemon.admission.places_held == 20
    assert len({answer.headers["x-gateway-place"] for answer in answers}) == 20
    told_ms = [int(answer.headers["retry-after-ms"]) for answer in answers]
    # Each was told from a moment of its own on, a few milliseconds after the one before.
    assert all(after > before - 100 for before, after in pairwise(told_ms))
    # And not all of them are expected back.
    assert len(set(told_ms)) > 15
    positions = [answer.error["queue_position"] for answer in answers]
    assert positions == sorted(positions)


async def test_who_comes_back_with_its_place_is_served(engine: ScriptedOllama) -> None:
    async with busy(engine) as (house, hold):
        first = await refused(house)
        place = first.headers["x-gateway-place"]
        again = await refused(house, "hi, in other words", **{"x-gateway-place": place})
        assert again.headers["x-gateway-place"] != place
        assert house.daemon.admission.places_held == 1
        hold.go.set()
        await house.told.wait(3)
        place = again.headers["x-gateway-place"]
        answer = await house.chat(short("hi"), {"x-gateway-place": place})
        assert answer.text == "hello"
        assert house.daemon.admission.places_held == 0


async def test_who_sends_the_same_again_as_sdks_do_is_known_by_that(
    engine: ScriptedOllama,
) -> None:
    async with busy(engine) as (house, hold):
        await refused(house, **{"x-stainless-retry-count": "0"})
        await refused(house, **{"x-stainless-retry-count": "1"})
        assert house.daemon.admission.places_held == 1
        await refused(house, **{"x-stainless-retry-count": "0"})
        await refused(house, "something else", **{"x-stainless-retry-count": "2"})
        assert house.daemon.admission.places_held == 3
        hold.go.set()
        await house.told.wait(5)
        answer = await house.chat(short("hi"), {"x-stainless-retry-count": "2"})
        assert answer.text == "hello"
        # The two others have theirs as long as they may still come in time.
        assert house.daemon.admission.places_held <= 2


async def test_whose_turn_it_is_goes_before_who_comes_only_now(engine: ScriptedOllama) -> None:
    hurry = {"x-request-timeout-ms": "2000"}
    second = Pause()
    async with busy(engine, queue=Queue()) as (house, hold):
        engine.play(second, HELLO)
        waiting = []
        while (await house.forecast(short("hi"), hurry))["accepted"]:
            waiting.append(asyncio.create_task(house.chat(short("hi"), hurry)))
            await until(lambda: house.daemon.queue.qsize() == len(waiting))
        first_try = {**hurry, "x-stainless-retry-count": "0"}
        first, _ = [await refused(house, f"hi {number}", **first_try) for number in range(2)]
        assert first.error["code"] == "deadline_unmeetable"

        hold.go.set()
        await engine.wait_asked(2)
        returner = {**hurry, "x-gateway-place": first.headers["x-gateway-place"]}
        assert not (await house.forecast(short("hi"), hurry))["accepted"]
        assert (await house.forecast(short("hi"), returner))["accepted"]
        waiting.append(asyncio.create_task(house.chat(short("hi"), returner)))
        await until(lambda: house.daemon.queue.qsize() == len(waiting) - 1)
        second.go.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}


async def test_a_place_is_of_no_use_to_another_key(engine: ScriptedOllama) -> None:
    keys = {"me": "sk-mine-0123456789abcdef", "somebody": "sk-other-0123456789abcdef"}
    mine, other = [{"Authorization": f"Bearer {key}"} for key in keys.values()]
    hold = Pause()
    engine.play(hold, HELLO)
    async with opened(engine, queue=FULL, auth=Auth(keys=keys)) as house, asyncio.timeout(HANG_S):
        running = asyncio.create_task(house.chat(short("running"), mine))
        await engine.wait_asked(1)
        place = (await refused(house, **mine)).headers["x-gateway-place"]
        await refused(house, **other, **{"x-gateway-place": place})
        assert house.daemon.admission.places_held == 2
        hold.go.set()
        assert (await running).status == 200


@pytest.mark.slow
async def test_openai_python_comes_back_when_it_was_told_to_and_is_served(
    engine: ScriptedOllama,
) -> None:
    async with busy(engine) as (house, hold), client_of(house, max_retries=1) as client:
        asking = asyncio.create_task(
            client.chat.completions.create(model="m", messages=HI, max_tokens=2)
        )
        await house.told.wait(1)
        assert house.daemon.admission.places_held == 1
        hold.go.set()
        reply = await asking
        assert house.daemon.admission.places_held == 0
    assert reply.choices[0].message.content == "hello"


async def test_what_can_not_be_done_in_its_time_is_not_to_be_sent_again(
    engine: ScriptedOllama,
) -> None:
    """Once the engine is known, which takes a few answers."""
    counts = {"prompt_eval_count": 100, "eval_count": 40}
    spent = {"prompt_eval_duration": 50_000_000, "eval_duration": 40_000_000}
    engine.by_default = (answer_of(line("hello"), done(**counts, **spent)),)
    async with opened(engine) as house, client_of(house, max_retries=2) as client:
        for _ in range(6):
            await house.chat(say("tell me " * 50))
        with pytest.raises(openai.InternalServerError) as refusal:
            await client.chat.completions.create(
                model="m",
                messages=say("tell me " * 5000)["messages"],
                extra_headers={"x-request-timeout-ms": "100"},
            )
    assert refusal.value.code == "deadline_unmeetable"
    assert refusal.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refusal.value.response.headers
    assert len(house.told.exchanges) == 7


# --- Deadlines ----------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"x-request-timeout-ms": "200"},
        {"x-stainless-read-timeout": "0.2"},
        {"x-request-timeout-ms": "200", "x-stainless-timeout": "60"},
    ],
)
async def test_an_answer_that_is_not_whole_in_its_clients_time_comes_as_far_as_it_is(
    engine: ScriptedOllama, headers: dict[str, str]
) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        answer = await house.chat(short("hi"), headers)
        await engine.gone.wait()
        house.assert_at_rest()
        (exchange,) = await house.told.wait(1)
        ended = await house.get(f"/v1/requests/{answer.headers['x-request-id']}")
    assert (answer.status, answer.text) == (200, "hello")
    assert answer.headers["x-gateway-truncated"] == "deadline"
    assert answer.document["choices"][0]["finish_reason"] == "length"
    usage = answer.document["usage"]
    assert usage["completion_tokens"] == 2
    assert usage["total_tokens"] == usage["prompt_tokens"] + 2
    assert exchange.record is not None
    assert (exchange.record.outcome, exchange.record.truncated) == ("completed", True)
    assert ended.document["truncated"]


async def test_openai_python_states_its_timeout_and_gets_what_there_is_before_it(
    engine: ScriptedOllama,
) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine) as house, client_of(house, timeout=0.5) as client:
        reply = await client.chat.completions.with_raw_response.create(
            model="m", messages=HI, max_tokens=2
        )
        choice = reply.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("hello", "length")
    assert reply.headers["x-gateway-truncated"] == "deadline"
    assert engine.chats == 1


async def test_an_answer_that_was_whole_in_time_is_not_called_cut(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        answer = await house.chat(short("hi"))
    assert "x-gateway-truncated" not in answer.headers
    assert "x-gateway-rejoined" not in answer.headers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_where_nothing_came_in_time_it_is_a_timeout_and_not_to_be_sent_again(
    engine: ScriptedOllama, stream: bool
) -> None:
    engine.play(HANG)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        answer = await house.chat(short("hi", stream=stream), {"x-request-timeout-ms": "200"})
        await engine.gone.wait()
    assert (answer.status, answer.error["code"]) == (504, "request_timeout")
    assert answer.headers["x-should-retry"] == "false"


async def test_json_that_is_cut_is_no_json(engine: ScriptedOllama) -> None:
    engine.play(PARTLY, HANG)
    body = short("hi", response_format={"type": "json_object"})
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        answer = await house.chat(body, {"x-request-timeout-ms": "200"})
    assert (answer.status, answer.error["code"]) == (504, "request_timeout")
    assert answer.headers["x-should-retry"] == "false"


async def test_no_client_has_more_time_than_is_configured(engine: ScriptedOllama) -> None:
    timeouts = Timeouts(request_timeout_seconds=5.0)
    async with opened(engine, timeouts=timeouts) as house:
        forecast = await house.forecast(short("hi"), {"x-request-timeout-ms": "60000"})
    assert forecast["deadline_ms"] == 5000
