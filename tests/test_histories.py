"""Random histories of the whole waist: whatever happens in whatever order, nothing is lost.

Each history is a list of moves on one service with one or two small upstreams,
once with the mechanics alone and once with every rule. After every move the
bounds are checked, at the end the books.
"""

import asyncio
import random
from collections.abc import Sequence

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.base import Probe
from gateway.config.schema import Scheduling
from gateway.core.errors import (
    GatewayError,
    Overloaded,
    ShuttingDown,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamUnreachable,
)
from gateway.core.messages import GenerateRequest, Message, Role, TextDelta
from gateway.core.ticket import ANONYMOUS, NO_HINTS, Caller, CallerLimits, Hints, Priority
from gateway.pool.breaker import State
from gateway.pool.upstream import Upstream
from gateway.story import Answer
from tests.engines import HELLO, ScriptedEngine, request, settle, upstream
from tests.fakes import ManualClock
from tests.waist import ARRIVAL_ALONE, waist

BOUND = 3
PLACES = 4
BYTES = 2000

EVERY_RULE = Scheduling(reservations_max=PLACES, rejoin_bytes_max=BYTES, rejoin_seconds=7.0)

MODELS = ("m", "n")

LIMITS = CallerLimits(
    requests_per_minute=20, tokens_per_minute=2000, tokens_per_day=50_000, requests_at_once=2
)

CALLERS = (
    ANONYMOUS,
    Caller(name="heavy", weight=3.0, priority_max=Priority.INTERACTIVE),
    Caller(name="humble", priority=Priority.BATCH, user_header="x-user"),
    Caller(name="limited", limits=LIMITS),
)

FAULTS: Sequence[GatewayError] = (
    UpstreamUnreachable("x"),
    UpstreamDisconnected("x", untouched=True),
    UpstreamFailed("x"),
    UpstreamBusy("x"),
)


async def _read_all(answer: Answer) -> None:
    while await answer.read():
        pass


@attrs.frozen
class Client:
    """Who asks for what, and what it says beside that."""

    caller: Caller
    asked: GenerateRequest
    hints: Hints


def plain(number: int) -> Client:
    """A client that says nothing of itself."""
    return Client(ANONYMOUS, request(stream=bool(number % 2)), NO_HINTS)


def talkative(number: int, places: Sequence[str]) -> Client:
    """A client of any kind; the same one for the same number."""
    dice = random.Random(number)
    text = dice.choice(("hi", "tell me " * 100, "tell me " * 99 + "more", "### Task: a title"))
    asked = attrs.evolve(
        request(dice.choice(MODELS), stream=dice.random() < 0.5, n=dice.choice((1, 1, 2))),
        messages=(Message(role=Role.USER, content=text),),
        max_tokens=dice.choice((None, 5, 40)),
    )
    hints = Hints(
        timeout_s=dice.choice((None, None, 0.2, 10.0, 90.0)),
        priority=dice.choice((None, *Priority)),
        user=dice.choice(("", "one", "two")),
        session=dice.choice(("", "chat")),
        retry_count=dice.choice((None, 0, 0, 1, 2)),
        place=dice.choice(("", *places)),
        # Few bodies, so that many of them are the same.
        fingerprint=dice.choice((b"", b"a", b"b")),
    )
    return Client(dice.choice(CALLERS), asked, hints)


class History:
    """A service that is put through moves, and keeps its books."""

    def __init__(self, slots: Sequence[int], scheduling: Scheduling) -> None:
        self.ruled = scheduling is not ARRIVAL_ALONE
        self.clock = ManualClock()
        # Each request runs until `self.hold` is set; then a new hold begins.
        self.hold = asyncio.Event()
        self.engines = [ScriptedEngine(models=MODELS) for _ in slots]
        if self.ruled:
            self.engines[0].resident = {"n"}
        self.upstreams: list[Upstream] = [
            upstream(f"u{number}", slots=count, engine=engine)
            for number, (count, engine) in enumerate(zip(slots, self.engines, strict=True))
        ]
        self._script()
        made = waist(
            self.upstreams,
            self.clock,
            bound=BOUND,
            batch_max_size=2,
            scheduling=scheduling,
            newcomers=self.ruled,
        )
        self.made = made
        self.pool, self.queue, self.worker = made.pool, made.queue, made.worker
        self.service, self.records = made.service, made.records
        self.granting = asyncio.create_task(self.worker.run())
        self.places: list[str] = []
        self.told_s: list[float | None] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.asked = 0

    def _script(self, fault: GatewayError | None = None) -> None:
        """What requests from now on will meet."""
        for engine in self.engines:
            start: list[object] = [fault] if fault else [[TextDelta("a")], self.hold, HELLO]
            engine.scripts = [start]

    def arrive(self, number: int) -> None:
        client = talkative(number, self.places[-PLACES:]) if self.ruled else plain(number)
        self.tasks.append(asyncio.create_task(self._ask(client)))

    async def _ask(self, client: Client) -> None:
        self.asked += 1
        try:
            await self.service.run(
                client.asked,
                _read_all,
                caller=client.caller,
                request_id=f"r{self.asked}",
                hints=client.hints,
            )
        except Overloaded as error:
            self.told_s.append(error.retry_after_s)
            if error.promise is not None:
                self.places.append(error.promise.place)
        except GatewayError:
            pass

    async def move(self, name: str, number: int) -> None:
        match name:
            case "arrive":
                self.arrive(number)
            case "burst":
                for each in range(number % 9):
                    self.arrive(2 * (number + each))
            case "ask":
                self.ask_about(number)
            case "unload":
                self.unload(number)
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

    def ask_about(self, number: int) -> None:
        """What callers may ask has an answer at any time, and changes nothing."""
        caller = CALLERS[number % len(CALLERS)]
        progress = self.service.progress(f"r{number % (self.asked + 1)}", caller)
        assert progress is None or progress.wait_s >= 0.0
        client = talkative(number, self.places[-PLACES:])
        try:
            forecast = self.service.forecast(client.asked, caller=client.caller, hints=client.hints)
        except GatewayError:
            return
        assert forecast.wait_s >= 0.0
        assert bool(forecast.refused) or forecast.retry_after_s is None

    def unload(self, number: int) -> None:
        """An engine has put its models out of memory, and a health check has seen it."""
        place = number % len(self.engines)
        self.engines[place].resident = set()
        self.upstreams[place].found(Probe(models=self.engines[place].listing()))

    def check(self) -> None:
        assert self.queue.qsize() <= BOUND
        assert self.made.admission.places_held <= (PLACES if self.ruled else 0)
        assert self.made.service._rejoin.bytes <= BYTES
        for one, engine in zip(self.upstreams, self.engines, strict=True):
            assert 0 <= engine.running <= one.in_flight <= one.slots
        self.check_limits()

    def check_limits(self) -> None:
        """A caller holds its share of what is at once for what runs and waits, and no more."""
        limited = CALLERS[-1]
        held = [
            story
            for story in self.service._accepted
            if story.caller is limited and story.ticket is not None
        ]
        standing = self.made.limits.standing(limited, self.clock.now())
        assert standing["requests_at_once"].left == LIMITS.requests_at_once - len(held)

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
        await self.made.loads.close()
        assert self.queue.qsize() == 0
        assert self.service.active == 0
        assert len(self.made.scheduler._state.plan) == 0
        assert not self.made.scheduler._state.running
        self.check_limits()
        charged = [record.charged for record in self.records if record.caller == "limited"]
        used = sum(each.prompt + each.completion for each in charged)
        standing = self.made.limits.standing(CALLERS[-1], self.clock.now())
        assert standing["tokens_per_day"].left == max(0, LIMITS.tokens_per_day - used)
        assert standing["requests_per_minute"].left == LIMITS.requests_per_minute
        for one, engine in zip(self.upstreams, self.engines, strict=True):
            assert one.in_flight == 0
            assert engine.running == 0
        failed = [task for task in self.tasks if not task.cancelled() and task.exception()]
        assert failed == []
        assert all(told_s is None or told_s > 0.0 for told_s in self.told_s)
        assert len(self.records) == self.asked
        for record in self.records:
            assert (record.outcome == "completed") == (record.status == 200)
            assert not record.truncated or record.outcome == "completed"
            assert record.queue_s <= record.total_s


MOVES = st.sampled_from(
    [
        "arrive", "arrive", "arrive", "burst", "cancel", "cancel", "finish", "finish",
        "fail", "recover", "down", "up", "pass_time", "settle", "settle", "drain", "abort",
        "ask", "unload",
    ]
)  # fmt: skip

SLOTS = st.lists(st.integers(1, 3), min_size=1, max_size=2)
HISTORY = st.lists(st.tuples(MOVES, st.integers(0, 1000)), max_size=60)


async def live(slots: list[int], moves: list[tuple[str, int]], scheduling: Scheduling) -> None:
    history = History(slots, scheduling)
    for name, number in moves:
        await history.move(name, number)
        if name == "settle":
            await history.check_work_conserving()
    await history.end()


@settings(max_examples=300, deadline=None)
@given(slots=SLOTS, moves=HISTORY)
def test_no_history_loses_a_slot_a_ticket_or_the_bound(
    slots: list[int], moves: list[tuple[str, int]]
) -> None:
    asyncio.run(live(slots, moves, ARRIVAL_ALONE))


@settings(max_examples=300, deadline=None)
@given(slots=SLOTS, moves=HISTORY)
def test_no_history_does_so_with_every_rule_on(
    slots: list[int], moves: list[tuple[str, int]]
) -> None:
    asyncio.run(live(slots, moves, EVERY_RULE))
