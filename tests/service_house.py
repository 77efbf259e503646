"""A whole service over scripted engines and a clock that the test moves, with its worker running.

async with open_houses() as build:
    house = build(upstream(), scheduling=Scheduling())
    assert await house.run() == list(HELLO)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import attrs

from gateway.config.schema import Scheduling
from gateway.core.messages import Event, GenerateRequest
from gateway.core.ticket import (
    ANONYMOUS,
    NO_HINTS,
    Caller,
    Forecast,
    Hints,
    Progress,
    RequestRecord,
)
from gateway.pool.upstream import Upstream
from gateway.scheduling.queue import RequestQueue
from gateway.service import Service
from gateway.story import Answer
from tests.engines import ScriptedEngine, request, settle
from tests.fakes import ManualClock
from tests.waist import ARRIVAL_ALONE, Waist, waist

FIRST_TRY: Final = Hints(retry_count=0, fingerprint=b"of a body")
SECOND_TRY: Final = attrs.evolve(FIRST_TRY, retry_count=1)
"""Of a client that retries by itself, as OpenAI's SDKs do."""


async def read_all(answer: Answer) -> list[Event]:
    events: list[Event] = []
    while batch := await answer.read():
        events += batch
    return events


@attrs.define(eq=False)
class House:
    """The service, and what it has told."""

    made: Waist
    upstreams: Sequence[Upstream]
    clock: ManualClock
    granting: "asyncio.Task[None]"

    @property
    def service(self) -> Service:
        return self.made.service

    @property
    def queue(self) -> RequestQueue:
        return self.made.queue

    @property
    def records(self) -> list[RequestRecord]:
        return self.made.records

    @property
    def broken(self) -> list[str]:
        return self.made.broken

    async def run(
        self,
        asked: GenerateRequest | None = None,
        *,
        caller: Caller = ANONYMOUS,
        hints: Hints = NO_HINTS,
        request_id: str = "r",
    ) -> list[Event]:
        """All of the answer."""
        return await self.service.run(
            asked or request(), read_all, caller=caller, request_id=request_id, hints=hints
        )

    def begin(
        self, asked: GenerateRequest | None = None, **options: Any
    ) -> "asyncio.Task[list[Event]]":
        """As `run`, in a task."""
        return asyncio.create_task(self.run(asked, **options))

    async def begun(
        self, asked: GenerateRequest | None = None, **options: Any
    ) -> "asyncio.Task[list[Event]]":
        """As `begin`; it has come as far as it comes by itself."""
        task = self.begin(asked, **options)
        await settle()
        return task

    def progress(self, request_id: str = "r", caller: Caller = ANONYMOUS) -> Progress:
        """Of a request that is known."""
        progress = self.service.progress(request_id, caller)
        assert progress is not None
        return progress

    def forecast(self, asked: GenerateRequest | None = None) -> Forecast:
        return self.service.forecast(asked or request(), caller=ANONYMOUS)

    def assert_nothing_is_held(self) -> None:
        assert self.service.active == 0
        assert self.queue.qsize() == 0
        for one in self.upstreams:
            assert one.in_flight == 0
            assert isinstance(one.backend, ScriptedEngine)
            assert one.backend.running == 0


async def leave(client: "asyncio.Task[Any]") -> None:
    """The client goes; its task goes as far as it goes by itself."""
    client.cancel()
    await settle()


class Build(Protocol):
    def __call__(
        self, *upstreams: Upstream, scheduling: Scheduling = ARRIVAL_ALONE, **options: Any
    ) -> House: ...


@asynccontextmanager
async def open_houses() -> AsyncIterator[Build]:
    """Builds houses, whose options are those of `waist`; in the end nothing may be left in them."""
    built: list[House] = []

    def build(
        *upstreams: Upstream, scheduling: Scheduling = ARRIVAL_ALONE, **options: Any
    ) -> House:
        clock = ManualClock()
        made = waist(upstreams, clock, scheduling=scheduling, **options)
        house = House(made, upstreams, clock, asyncio.create_task(made.worker.run()))
        built.append(house)
        return house

    yield build
    for house in built:
        house.assert_nothing_is_held()
        for record in house.records:
            assert (record.outcome == "completed") == (record.status == 200)
        house.granting.cancel()
        await asyncio.gather(house.granting, return_exceptions=True)
        await house.made.loads.close()
