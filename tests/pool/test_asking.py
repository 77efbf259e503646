import asyncio

import pytest

from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    ModelNotFound,
    NotSupported,
    Overloaded,
    RequestTimeout,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamUnreachable,
)
from gateway.pool.asking import ASKED_MAX, AT_ONCE_MAX, TIMEOUT_S, Asker
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from tests.engines import ScriptedEngine, settle, upstream
from tests.fakes import ManualClock


class Ward:
    """Three upstreams with a model each of them has, and who asks them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pool = Pool([upstream(name) for name in ("one", "two", "three")])
        self.asker = Asker(pool=self.pool, clock=self.clock, refresh_models=self.refresh)
        self.refreshed = 0
        self.asked: list[str] = []
        self.says: dict[str, GatewayError] = {}
        self.installed: list[Upstream] = []

    async def refresh(self) -> None:
        self.refreshed += 1
        self.pool.upstreams = [*self.pool.upstreams, *self.installed]

    async def question(self, asked: Upstream) -> str:
        self.asked.append(asked.name)
        if asked.name in self.says:
            raise self.says[asked.name]
        return asked.name


@pytest.fixture
def ward() -> Ward:
    return Ward()


async def test_the_least_busy_is_asked(ward: Ward) -> None:
    one, two, _ = ward.pool.upstreams
    one.take()
    assert await ward.asker.ask("m", ward.question) == "two"
    two.take()
    assert await ward.asker.ask("m", ward.question) == "three"
    assert ward.asked == ["two", "three"]


@pytest.mark.parametrize(
    "error", [UpstreamUnreachable("x"), UpstreamFailed("x"), UpstreamBusy("x"), NotSupported("x")]
)
async def test_where_one_fails_the_next_is_asked(ward: Ward, error: GatewayError) -> None:
    ward.says = {"one": error, "two": error}
    assert await ward.asker.ask("m", ward.question) == "three"
    assert ward.asked == ["one", "two", "three"]


async def test_a_connection_that_had_grown_stale_is_no_failure(ward: Ward) -> None:
    stale: list[GatewayError] = [UpstreamDisconnected("x", untouched=True)]

    async def question(asked: Upstream) -> str:
        if stale:
            raise stale.pop()
        return await ward.question(asked)

    assert await ward.asker.ask("m", question) == "one"
    ward.says = {"one": UpstreamDisconnected("x", untouched=True)}
    assert await ward.asker.ask("m", ward.question) == "two"
    assert ward.asked == ["one", "one", "one", "two"]


async def test_what_a_caller_has_done_wrong_is_told_at_once(ward: Ward) -> None:
    ward.says = {"one": BackendRefusedRequest("x")}
    with pytest.raises(BackendRefusedRequest):
        await ward.asker.ask("m", ward.question)
    assert ward.asked == ["one"]


async def test_where_all_fail_one_that_broke_is_told_of_before_one_that_can_not(
    ward: Ward,
) -> None:
    broken = UpstreamFailed("x")
    ward.says = {"one": NotSupported("x"), "two": broken, "three": NotSupported("x")}
    with pytest.raises(UpstreamFailed):
        await ward.asker.ask("m", ward.question)
    ward.says["two"] = NotSupported("x")
    with pytest.raises(NotSupported):
        await ward.asker.ask("m", ward.question)


async def test_one_that_is_down_is_not_asked(ward: Ward) -> None:
    ward.pool.upstreams[0].breaker.failed(0.0)
    ward.pool.upstreams[0].models = None
    assert await ward.asker.ask("m", ward.question) == "two"


async def test_a_model_may_have_been_installed_meanwhile(ward: Ward) -> None:
    ward.installed = [upstream("new", engine=ScriptedEngine(models=["fresh"]))]
    assert await ward.asker.ask("fresh", ward.question) == "new"
    assert ward.refreshed == 1


async def test_a_model_that_nobody_has_is_not_found(ward: Ward) -> None:
    with pytest.raises(ModelNotFound):
        await ward.asker.ask("other", ward.question)
    assert ward.refreshed == 1
    assert ward.asked == []


async def test_few_are_asked_at_once_some_wait_and_no_more_are_let_in(ward: Ward) -> None:
    gate = asyncio.Event()
    running = most = 0

    async def slow(asked: Upstream) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return asked.name

    asking = [asyncio.create_task(ward.asker.ask("m", slow)) for _ in range(ASKED_MAX)]
    await settle()
    assert running == AT_ONCE_MAX
    with pytest.raises(Overloaded) as caught:
        await ward.asker.ask("m", slow)
    assert caught.value.retry_after_s
    gate.set()
    assert await asyncio.gather(*asking) == ["one"] * ASKED_MAX
    assert most == AT_ONCE_MAX
    assert await ward.asker.ask("m", ward.question) == "one"


async def test_who_leaves_makes_room(ward: Ward) -> None:
    async def never(asked: Upstream) -> str:
        await asyncio.Event().wait()
        return asked.name

    asking = [asyncio.create_task(ward.asker.ask("m", never)) for _ in range(ASKED_MAX)]
    await settle()
    for task in asking:
        task.cancel()
    await settle()
    assert await ward.asker.ask("m", ward.question) == "one"


async def test_waiting_is_part_of_the_time(ward: Ward) -> None:
    async def never(asked: Upstream) -> str:
        await asyncio.Event().wait()
        return asked.name

    asking = [asyncio.create_task(ward.asker.ask("m", never)) for _ in range(AT_ONCE_MAX + 1)]
    await ward.clock.advance(TIMEOUT_S - 1.0)
    assert not any(task.done() for task in asking)
    await ward.clock.advance(1.0)
    for task in asking:
        with pytest.raises(RequestTimeout):
            await task
    assert await ward.asker.ask("m", ward.question) == "one"
