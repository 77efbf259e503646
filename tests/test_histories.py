"""Random histories of the whole waist: whatever happens in whatever order, nothing is lost.

Each history is a list of moves on one service with one or two small upstreams.
After every move the bounds are checked, at the end the books.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.admission import Admission
from gateway.config.schema import Queue, Timeouts
from gateway.core.errors import (
    GatewayError,
    ShuttingDown,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamUnreachable,
)
from gateway.core.messages import TextDelta
from gateway.core.ticket import ANONYMOUS, RequestRecord
from gateway.pool.breaker import State
from gateway.pool.health import HealthMonitor
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import ServiceTime
from gateway.scheduling.policy import FirstComeFirstServed
from gateway.scheduling.queue import RequestQueue
from gateway.scheduling.worker import BatchingWorker
from gateway.service import Answer, Service
from tests.engines import HELLO, ScriptedEngine, pool_of, request, settle, upstream
from tests.fakes import ManualClock

BOUND = 3

FAULTS: Sequence[GatewayError] = (
    UpstreamUnreachable("x"),
    UpstreamDisconnected("x", untouched=True),
    UpstreamFailed("x"),
    UpstreamBusy("x"),
)


async def _read_all(answer: Answer) -> None:
    while await answer.read():
        pass


class History:
    """A service that is put through moves, and keeps its books."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.clock = ManualClock()
        # Each request runs until `self.hold` is set; then a new hold begins.
        self.hold = asyncio.Event()
        self.engines = [ScriptedEngine() for _ in slots]
        self.upstreams: list[Upstream] = [
            upstream(f"u{number}", slots=count, engine=engine)
            for number, (count, engine) in enumerate(zip(slots, self.engines, strict=True))
        ]
        self._script()
        self.pool = pool_of(*self.upstreams)
        self.queue = RequestQueue(bound=BOUND, policy=FirstComeFirstServed(), pool=self.pool)
        self.worker = BatchingWorker(
            queue=self.queue, pool=self.pool, clock=self.clock, batch_max_size=2, batch_wait_s=0.1
        )
        service_time = ServiceTime()
        self.records: list[RequestRecord] = []
        self.service = Service(
            admission=Admission(
                pool=self.pool,
                queue=self.queue,
                service_time=service_time,
                settings=Queue(max_queue_size=BOUND),
                timeouts=Timeouts(request_timeout_seconds=60.0),
                strict_params=False,
            ),
            worker=self.worker,
            pool=self.pool,
            clock=self.clock,
            service_time=service_time,
            default_model="m",
            stream_timeout_s=600.0,
            refresh_models=HealthMonitor(pool=self.pool, clock=self.clock).refresh,
            tell=self.records.append,
            attempt_failed=lambda kind: None,
        )
        self.granting = asyncio.create_task(self.worker.run())
        self.tasks: list[asyncio.Task[None]] = []
        self.asked = 0

    def _script(self, fault: GatewayError | None = None) -> None:
        """What requests from now on will meet."""
        for engine in self.engines:
            start: list[object] = [fault] if fault else [[TextDelta("a")], self.hold, HELLO]
            engine.scripts = [start]

    async def _ask(self, stream: bool) -> None:
        self.asked += 1
        with suppress(GatewayError):
            await self.service.run(
                request(stream=stream), _read_all, caller=ANONYMOUS, request_id="r"
            )

    async def move(self, name: str, number: int) -> None:
        match name:
            case "arrive":
                self.tasks.append(asyncio.create_task(self._ask(stream=bool(number % 2))))
            case "burst":
                for _ in range(number % 9):
                    self.tasks.append(asyncio.create_task(self._ask(stream=False)))
            case "cancel" if self.tasks:
                self.tasks[number % len(self.tasks)].cancel()
            case "finish":
                self.hold.set()
                await settle()
                self.hold = asyncio.Event()
                self._script()
            case "fail":
                self._script(FAULTS[number % len(FAULTS)])
            case "recover":
                self._script()
            case "down":
                self.upstreams[number % len(self.upstreams)].breaker.state = State.OPEN
                self.pool.changed()
            case "up":
                one = self.upstreams[number % len(self.upstreams)]
                one.breaker.may_probe(self.clock.now() + 1e6)
                one.breaker.probed(True, self.clock.now())
                self.pool.changed()
            case "pass_time":
                await self.clock.advance(number % 90)
            case "drain":
                self.service.begin_drain()
            case "abort":
                self.service.abort(ShuttingDown("x"))
            case "settle":
                await settle()
            case _:
                pass
        self.check()

    def check(self) -> None:
        assert self.queue.qsize() <= BOUND
        for one, engine in zip(self.upstreams, self.engines, strict=True):
            assert 0 <= engine.running <= one.in_flight <= one.slots

    async def check_work_conserving(self) -> None:
        """Once all is still, nobody waits beside a free slot that could run it."""
        await settle()
        assert self.queue.empty()

    async def end(self) -> None:
        self.hold.set()
        await self.clock.advance(2000.0)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.granting.cancel()
        await asyncio.gather(self.granting, return_exceptions=True)
        assert self.queue.qsize() == 0
        assert self.service.active == 0
        for one, engine in zip(self.upstreams, self.engines, strict=True):
            assert one.in_flight == 0
            assert engine.running == 0
        assert len(self.records) == self.asked
        assert all(
            (record.outcome == "completed") == (record.status == 200) for record in self.records
        )


MOVES = st.sampled_from(
    [
        "arrive", "arrive", "arrive", "burst", "cancel", "cancel", "finish", "finish",
        "fail", "recover", "down", "up", "pass_time", "settle", "settle", "drain", "abort",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    slots=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    moves=st.lists(st.tuples(MOVES, st.integers(0, 1000)), max_size=60),
)
def test_no_history_loses_a_slot_a_ticket_or_the_bound(
    slots: list[int], moves: list[tuple[str, int]]
) -> None:
    async def live() -> None:
        history = History(slots)
        for name, number in moves:
            await history.move(name, number)
            if name == "settle":
                await history.check_work_conserving()
        await history.end()

    asyncio.run(live())
