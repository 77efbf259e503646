"""More than there is time for: who is let in is answered in time, the others are told when to
come back, nobody takes another's share (O1 to O5)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from bench.asking import Client
from bench.box import Box
from bench.box import Settings as BoxSettings
from bench.load import Burst, OpenLoop, Plan, run
from bench.machine import Hardware
from bench.results import Outcome, Summary, summarise
from bench.retries import Retries
from gateway.config.schema import Auth, Backend, CallerSettings, Queue, Timeouts
from tests.backends.fake_engine import Pause
from tests.e2e.house import Answer, House, opened, short, until
from tests.e2e.ollama import HELLO, ScriptedOllama
from tests.web.raw import HANG_S

SCALE: Final = 40.0
"""How many times as fast as the real box; a second here is one of its 40 seconds."""

DEADLINE_S: Final = 60.0 / SCALE
ANSWER_S: Final = (20 / 7.5 + 25 / 60) / SCALE
"""What a request of the load takes of the slot, on average."""

PER_S: Final = 1.0 / ANSWER_S
"""The capacity."""


@asynccontextmanager
async def box_behind() -> AsyncIterator[tuple[House, Box]]:
    """The box, its gateway, and a gateway that has served a few requests already."""
    box = Box(BoxSettings(hardware=Hardware(scale=SCALE)))
    async with box.serve() as url:
        backend = Backend(kind="ollama", url=url, slots=1)
        timeouts = Timeouts(request_timeout_seconds=DEADLINE_S)
        # SDKs come back within 120 s, if at all.
        queue = Queue(retry_after_max_seconds=120.0 / SCALE)
        async with opened(backend=backend, timeouts=timeouts, queue=queue) as house:
            for number in range(6):
                await run(house.url, Burst(1), client(seed=1000 + number))
            box.machine.totals = type(box.machine.totals)()
            yield house, box


def client(*, retries: int = 0, seed: int = 1) -> Client:
    return Client(
        deadline_s=DEADLINE_S,
        retries=Retries(count_max=retries).scaled(SCALE),
        # What the test's own machine may add to an answer that was sent in time.
        timeout_s=10 * DEADLINE_S,
        seed=seed,
    )


async def load(house: House, plan: Plan, asking: Client) -> Summary:
    return summarise(await run(house.url, plan, asking), deadline_s=2 * DEADLINE_S)


def assert_promises_are_kept(summary: Summary, box: Box) -> None:
    """Nobody who was let in timed out, and no work was done for nobody."""
    assert summary.timeouts == 0
    assert summary.outcomes[Outcome.FAILED] == 0
    assert set(summary.codes) <= {"deadline_unmeetable", "queue_full"}
    assert box.machine.totals.left == 0
    assert box.machine.totals.answered == summary.in_time + summary.outcomes[Outcome.LATE]
    assert box.machine.totals.waiting_max <= 1


@pytest.mark.slow
async def test_at_four_times_the_capacity_who_is_let_in_is_answered() -> None:
    """O1. What the slot could do is done, and all the others hear it at once."""
    async with box_behind() as (house, box):
        plan = OpenLoop(4 * PER_S, 4.0)
        summary = await load(house, plan, client())
        house.assert_at_rest()
    assert_promises_are_kept(summary, box)
    assert summary.outcomes[Outcome.REFUSED] + summary.in_time == summary.requests
    assert summary.in_time > 0.5 * plan.duration_s * PER_S
    assert summary.outcomes[Outcome.REFUSED] > summary.requests / 2


@pytest.mark.slow
async def test_who_retries_as_sdks_do_brings_nothing_down_and_is_answered() -> None:
    """O5. Many more at once than fit before the deadline; each comes back when it was told to."""
    crowd = 60
    assert crowd * ANSWER_S > 2 * DEADLINE_S
    async with box_behind() as (house, box):
        summary = await load(house, Burst(crowd), client(retries=2))
        house.assert_at_rest()
    assert_promises_are_kept(summary, box)
    assert summary.retries > 0
    assert summary.in_time > 0.9 * crowd


async def test_what_would_wait_too_long_is_refused_and_never_queued_to_die(
    engine: ScriptedOllama,
) -> None:
    """O2."""
    hold = Pause()
    engine.play(hold, HELLO)
    async with opened(engine) as house, asyncio.timeout(HANG_S):
        running = asyncio.create_task(house.chat(short("running")))
        await engine.wait_asked(1)
        refused = await house.chat(short("hi"), {"x-request-timeout-ms": "300"})
        assert house.daemon.queue.qsize() == 0
        metrics = await house.metrics()
        hold.go.set()
        await running
    assert (refused.status, refused.error["code"]) == (503, "deadline_unmeetable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert metrics['gateway_rejected_total{reason="deadline"}'] == 1
    assert engine.chats == 1


KEYS: Final = {
    "flood": "sk-flood-0123456789abcdef",
    "quiet": "sk-quiet-0123456789abcdef",
    "chat": "sk-chat-0123456789abcdefg",
}


class Line:
    """Requests of several callers that wait behind one that runs, and who is served when."""

    def __init__(self, house: House, engine: ScriptedOllama) -> None:
        self.house = house
        self.engine = engine
        self.answers: list[asyncio.Task[Answer]] = []

    async def join(self, name: str) -> None:
        headers = {"Authorization": f"Bearer {KEYS[name]}"}
        asked = short(f"{name} {len(self.answers)}")
        self.answers.append(asyncio.create_task(self.house.chat(asked, headers)))
        queue = self.house.daemon.queue
        await until(lambda: queue.qsize() + self.engine.chats == len(self.answers))

    def served(self) -> list[str]:
        """Who was sent to the engine, in order."""
        texts = [json.loads(one.body)["messages"][0]["content"] for one in self.engine.requests]
        return [text.split(" ")[0] for text in texts]


@asynccontextmanager
async def line(
    engine: ScriptedOllama, first: str, **callers: CallerSettings
) -> AsyncIterator[Line]:
    """The first one runs from the beginning, for as long as the block lasts."""
    hold = Pause()
    engine.play(hold, HELLO)
    async with (
        opened(engine, auth=Auth(keys=KEYS), callers=callers) as house,
        asyncio.timeout(HANG_S),
    ):
        made = Line(house, engine)
        await made.join(first)
        await engine.wait_asked(1)
        yield made
        hold.go.set()
        assert {answer.status for answer in await asyncio.gather(*made.answers)} == {200}
        house.assert_at_rest()


async def test_who_keeps_many_waiting_does_not_make_another_wait_for_them(
    engine: ScriptedOllama,
) -> None:
    """O3. Beside one running request, it waits for its share alone."""
    async with line(engine, "flood") as waiting:
        for _ in range(12):
            await waiting.join("flood")
        for _ in range(3):
            await waiting.join("quiet")
    served = waiting.served()
    assert served.count("flood") == 13
    assert "quiet" in served[1:3]
    assert served[1:8].count("quiet") == 3


async def test_batch_work_gives_way_after_the_request_that_runs(engine: ScriptedOllama) -> None:
    """O4."""
    async with line(engine, "flood", flood=CallerSettings(priority="batch")) as waiting:
        for _ in range(5):
            await waiting.join("flood")
        await waiting.join("chat")
        await waiting.join("chat")
    assert waiting.served() == ["flood", "chat", "chat", *["flood"] * 5]
