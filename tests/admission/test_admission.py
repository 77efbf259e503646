import asyncio

import attrs
import pytest

from gateway.config.schema import Scheduling, Timeouts
from gateway.core.errors import (
    DeadlineUnmeetable,
    ModelNotFound,
    Overloaded,
    QueueFull,
    ShuttingDown,
    UnsupportedParameter,
    UpstreamUnreachable,
)
from gateway.core.messages import GenerateRequest
from gateway.core.ticket import ANONYMOUS, NO_HINTS, Caller, Forecast, Hints, Priority, Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import CostModel
from gateway.scheduling.queue import Waiting
from tests.engines import ScriptedEngine, upstream
from tests.fakes import ManualClock
from tests.scheduling.plain_costs import PlainCosts, asks
from tests.waist import ARRIVAL_ALONE, waist

DEADLINES = attrs.evolve(ARRIVAL_ALONE, deadlines=True, reservations=True, safety=0.0)
FIRST_TRY = Hints(retry_count=0, fingerprint=b"body")
RETRY_AFTER_MAX_S = 120.0


class Door:
    """An admission, and behind it slots and a queue in which those stand who were let in.

    Nobody there ends by itself. Time stands in `now`.
    """

    def __init__(
        self,
        *upstreams: Upstream,
        bound: int = 1000,
        scheduling: Scheduling = DEADLINES,
        costs: CostModel | None = None,
        newcomers: bool = False,
        strict_params: bool = False,
        retry_after_max_s: float = RETRY_AFTER_MAX_S,
    ) -> None:
        made = waist(
            upstreams or [upstream()],
            ManualClock(),
            bound=bound,
            retry_after_max_s=retry_after_max_s,
            scheduling=scheduling,
            timeouts=Timeouts(request_timeout_seconds=60.0),
            costs=costs or PlainCosts(),
            newcomers=newcomers,
            strict_params=strict_params,
        )
        self.queue = made.queue
        self.admission = made.admission
        self.now = 100.0
        self._pool, self._scheduler = made.pool, made.scheduler
        self._running: dict[Ticket, Upstream] = {}

    def knock(
        self,
        request: GenerateRequest | None = None,
        *,
        caller: Caller = ANONYMOUS,
        hints: Hints = NO_HINTS,
        ignored: tuple[str, ...] = (),
    ) -> Ticket:
        """Ask, and leave it at that."""
        return self.admission.admit(
            request or asks(),
            caller=caller,
            hints=hints,
            request_id="r",
            ignored=ignored,
            now=self.now,
        )

    def enter(
        self,
        request: GenerateRequest | None = None,
        *,
        caller: Caller = ANONYMOUS,
        hints: Hints = NO_HINTS,
    ) -> Ticket:
        """Ask, and take a slot or wait for one."""
        ticket = self.knock(request, caller=caller, hints=hints)
        free = self._pool.free_for(ticket.model)
        if free is None:
            self.queue.put_nowait(Waiting(ticket, asyncio.get_running_loop().create_future()))
            self._scheduler.wait(ticket, self.now)
        else:
            free.take()
            self._scheduler.started(ticket, free, self.now)
            self._running[ticket] = free
        return ticket

    def refused(
        self,
        request: GenerateRequest | None = None,
        *,
        caller: Caller = ANONYMOUS,
        hints: Hints = FIRST_TRY,
    ) -> Overloaded:
        with pytest.raises(Overloaded) as caught:
            self.knock(request, caller=caller, hints=hints)
        return caught.value

    def forecast(
        self,
        request: GenerateRequest | None = None,
        *,
        caller: Caller = ANONYMOUS,
        hints: Hints = FIRST_TRY,
    ) -> Forecast:
        return self.admission.forecast(
            request or asks(), caller=caller, hints=hints, ignored=(), now=self.now
        )

    def end(self, ticket: Ticket) -> None:
        """It has its answer. Nobody takes its slot for now."""
        self._running.pop(ticket).release()
        self._scheduler.ended(ticket, self.now)

    def next(self) -> Ticket:
        """Give the free slot to who is next."""
        assert not self.queue.empty()
        ticket = self.queue.get_nowait().ticket
        free = self._pool.free_for(ticket.model)
        assert free is not None
        free.take()
        self._scheduler.started(ticket, free, self.now)
        self._running[ticket] = free
        return ticket


def retry_of(refusal: Overloaded, *, count: int = 1, fingerprint: bytes = b"body") -> Hints:
    """What an SDK sends that tries again: it knows nothing of places."""
    assert refusal.promise is not None
    return Hints(retry_count=count, fingerprint=fingerprint)


async def busy(door: Door, *tokens: int, caller: Caller = ANONYMOUS) -> list[Ticket]:
    return [door.enter(asks(count), caller=caller) for count in tokens]


# --- Who gets a ticket ----------------------------------------------------------


async def test_a_ticket_has_its_deadline_and_its_place_in_the_order() -> None:
    door = Door()
    first, second = door.knock(), door.knock()
    assert first.deadline_at == 160.0
    assert first.number < second.number


async def test_a_ticket_says_what_was_expected() -> None:
    door = Door()
    await busy(door, 10, 5)
    door.now += 2.0
    ticket = door.knock(asks(7))
    assert ticket.expected_wait_s == pytest.approx(13.0)
    assert ticket.cost.service_s == 7.0


@pytest.mark.parametrize(("said_s", "deadline_at"), [(None, 160.0), (5.0, 105.0), (600.0, 160.0)])
async def test_the_deadline_is_the_least_of_what_is_configured_and_what_the_client_says(
    said_s: float | None, deadline_at: float
) -> None:
    assert Door().knock(asks(1), hints=Hints(timeout_s=said_s)).deadline_at == deadline_at


async def test_a_ticket_has_its_class_its_flow_and_its_session() -> None:
    caller = Caller("chat", priority=Priority.INTERACTIVE)
    ticket = Door().knock(caller=caller, hints=Hints(user="ann", session="s"))
    assert (ticket.priority, ticket.flow, ticket.session) == (
        Priority.INTERACTIVE,
        "chat/ann",
        "s",
    )


async def test_an_idle_box_lets_anybody_in_before_anything_is_known_of_it() -> None:
    door = Door(costs=CostModel())
    door.enter(asks(8192), hints=Hints(timeout_s=1.0))


async def test_while_draining_everybody_is_refused() -> None:
    door = Door()
    door.admission.draining = True
    with pytest.raises(ShuttingDown) as caught:
        door.knock()
    assert caught.value.retry_after_s is not None


async def test_a_model_nobody_has_is_refused() -> None:
    with pytest.raises(ModelNotFound):
        Door().knock(asks(model="x"))


async def test_a_model_whose_upstream_is_down_is_refused() -> None:
    with pytest.raises(UpstreamUnreachable):
        Door(upstream(up=False)).knock()


async def test_in_strict_mode_somebody_must_honour_every_parameter() -> None:
    one, other = ScriptedEngine(), ScriptedEngine()
    one.dishonoured = ("top_k", "seed")
    other.dishonoured = ("min_p",)
    door = Door(upstream(engine=one), upstream("two", engine=other), strict_params=True)
    with pytest.raises(UnsupportedParameter) as caught:
        door.knock(ignored=("user",))
    assert caught.value.param == "user"
    with pytest.raises(UnsupportedParameter, match=r"here: min_p\."):
        door.knock()
    other.dishonoured = ()
    door.knock()


# --- The queue's bound ----------------------------------------------------------


async def test_a_full_queue_refuses_and_the_time_to_come_back_is_bounded() -> None:
    door = Door(bound=2, scheduling=ARRIVAL_ALONE, retry_after_max_s=15.0)
    await busy(door, 10, 10, 10)
    refusal = door.refused()
    assert isinstance(refusal, QueueFull)
    assert 0.0 < (refusal.retry_after_s or 0.0) <= 15.0


async def test_a_full_queue_of_one_model_does_not_refuse_a_free_slot_of_another() -> None:
    engines = [ScriptedEngine(models=[model]) for model in ("m", "else")]
    door = Door(upstream(engine=engines[0]), upstream("two", engine=engines[1]), bound=1)
    await busy(door, 10, 10)
    assert isinstance(door.refused(), QueueFull)
    door.knock(asks(model="else"))


async def test_without_a_queue_a_free_slot_is_still_for_who_comes() -> None:
    door = Door(bound=0)
    door.enter()
    assert isinstance(door.refused(), QueueFull)


async def test_a_full_queue_is_come_back_to_when_there_is_room() -> None:
    door = Door(bound=2)
    await busy(door, 10, 10, 10)
    assert (door.refused(asks(4)).retry_after_s or 0.0) >= 4.0, "no room is made in less"


# --- What would be late ---------------------------------------------------------


async def test_what_would_not_be_done_in_time_is_refused_at_once_with_a_promise() -> None:
    door = Door()
    await busy(door, 30, 25)
    refusal = door.refused(asks(10))
    assert isinstance(refusal, DeadlineUnmeetable)
    assert refusal.promise is not None
    assert refusal.promise.place
    assert refusal.promise.wait_s == pytest.approx(55.0)
    assert refusal.promise.position == 1
    assert (refusal.retry_after_s or 0.0) >= 5.0, "before that it would be refused again"


async def test_who_waits_less_is_refused_earlier() -> None:
    door = Door()
    await busy(door, 30)
    door.knock(asks(10))
    assert isinstance(door.refused(asks(10), hints=Hints(timeout_s=39.0)), DeadlineUnmeetable)


async def test_without_deadlines_only_the_queue_refuses() -> None:
    door = Door(scheduling=attrs.evolve(DEADLINES, deadlines=False))
    await busy(door, 1000, 1000, 1000)


async def test_what_could_never_be_in_time_is_not_told_to_come_back() -> None:
    door = Door()
    refusal = door.refused(asks(61))
    assert isinstance(refusal, DeadlineUnmeetable)
    assert refusal.retry_after_s is None
    assert refusal.promise is None
    assert door.admission.places_held == 0


async def test_what_could_never_be_in_time_is_told_to_come_back_while_that_is_a_guess() -> None:
    door = Door(costs=PlainCosts(sure=()))
    door.enter(asks(61))
    assert door.refused(asks(61)).retry_after_s is not None


async def test_without_reservations_no_place_is_held_but_a_time_is_told() -> None:
    door = Door(scheduling=attrs.evolve(DEADLINES, reservations=False))
    await busy(door, 55)
    refusal = door.refused(asks(10))
    assert refusal.retry_after_s is not None
    assert refusal.promise is not None
    assert refusal.promise.place == ""
    assert door.admission.places_held == 0


async def test_where_others_would_be_late_it_comes_back_when_as_much_has_been_done() -> None:
    """It would be in time itself, so by its own time it could come back at once."""
    door = Door(scheduling=attrs.evolve(DEADLINES, fairness=True))
    flood, light = Caller("flood"), Caller("light")
    await busy(door, *[8] * 7, caller=flood)
    refusal = door.refused(asks(12), caller=light, hints=Hints(timeout_s=50.0, retry_count=0))
    assert (refusal.retry_after_s or 0.0) >= 5.0


# --- When to come back ----------------------------------------------------------


async def test_each_is_told_a_moment_of_its_own_and_never_later_than_may_be() -> None:
    door = Door()
    await busy(door, 30, 25)
    told = [
        door.refused(asks(10), hints=Hints(retry_count=0, fingerprint=bytes([number])))
        for number in range(100)
    ]
    moments = [refusal.retry_after_s or 0.0 for refusal in told]
    assert len({round(moment, 3) for moment in moments}) == 100
    assert max(moments) <= RETRY_AFTER_MAX_S
    places = {refusal.promise.place for refusal in told if refusal.promise}
    assert len(places) == 100


async def test_who_comes_later_is_promised_a_later_turn() -> None:
    door = Door()
    await busy(door, 30, 25)
    first, second = (
        door.refused(asks(10), hints=Hints(retry_count=0, fingerprint=body))
        for body in (b"1", b"2")
    )
    assert first.promise is not None
    assert second.promise is not None
    assert first.promise.wait_s < second.promise.wait_s


async def test_a_turn_beyond_the_longest_step_takes_several() -> None:
    door = Door(retry_after_max_s=5.0)
    await busy(door, 30, 25)
    for number in range(20):
        hints = Hints(fingerprint=bytes([number]))
        assert 0.0 < (door.refused(asks(10), hints=hints).retry_after_s or 0.0) <= 5.0


# --- Who comes back -------------------------------------------------------------


async def full_but_for_one() -> tuple[Door, Ticket, Overloaded]:
    """A door before which one was refused, and behind which there is room for just that one."""
    door = Door()
    running, _ = await busy(door, 30, 25)
    refusal = door.refused(asks(10))
    door.now += 20.0
    return door, running, refusal


async def test_a_returner_is_let_in_while_a_newcomer_is_refused() -> None:
    door, _, refusal = await full_but_for_one()
    newcomer = Hints(retry_count=0, fingerprint=b"new")
    assert isinstance(door.refused(asks(20), hints=newcomer), DeadlineUnmeetable)
    door.enter(asks(10), hints=retry_of(refusal))
    assert door.admission.places_held == 1, "the newcomer's"


async def test_without_the_place_that_is_held_the_newcomer_would_be_let_in() -> None:
    door, _, refusal = await full_but_for_one()
    door.enter(asks(10), hints=retry_of(refusal))
    assert door.admission.places_held == 0
    door.knock(asks(15), hints=Hints(retry_count=0, fingerprint=b"new"))


async def test_a_returner_is_known_by_the_place_it_shows_too() -> None:
    door, _, refusal = await full_but_for_one()
    assert refusal.promise is not None
    door.enter(asks(10), hints=Hints(place=refusal.promise.place, fingerprint=b"other"))
    assert door.admission.places_held == 0


async def test_another_callers_place_is_of_no_use() -> None:
    door, _, refusal = await full_but_for_one()
    assert refusal.promise is not None
    hints = Hints(place=refusal.promise.place, retry_count=1, fingerprint=b"body")
    door.knock(asks(1), caller=Caller("thief"), hints=hints)
    assert door.admission.places_held == 1


async def test_a_first_try_uses_no_place_even_if_it_asks_the_same() -> None:
    door, _, _ = await full_but_for_one()
    door.knock(asks(1), hints=FIRST_TRY)
    assert door.admission.places_held == 1


async def test_one_that_is_refused_again_keeps_its_place_in_the_line() -> None:
    door = Door()
    await busy(door, 30, 25)
    first = door.refused(asks(10), hints=Hints(retry_count=0, fingerprint=b"1"))
    second = door.refused(asks(10), hints=Hints(retry_count=0, fingerprint=b"2"))
    again = door.refused(asks(10), hints=retry_of(first, fingerprint=b"1"))
    assert again.promise is not None
    assert second.promise is not None
    assert again.promise.wait_s < second.promise.wait_s
    assert door.admission.places_held == 2


async def test_who_stays_away_costs_nobody_anything_for_long() -> None:
    door, _, _ = await full_but_for_one()
    door.now += 25.0
    assert door.admission.places(door.now).lost == 1
    assert door.forecast(asks(10)).position == 1, "only who waits"


# --- Shares ---------------------------------------------------------------------


async def test_batch_fills_its_part_of_the_time_and_no_more() -> None:
    door = Door(scheduling=attrs.evolve(DEADLINES, priorities=True, batch_share=0.5))
    batch = Caller("nightly", priority=Priority.BATCH)
    await busy(door, 10, 10, 10, caller=batch)
    assert isinstance(door.refused(asks(10), caller=batch), DeadlineUnmeetable)
    door.knock(asks(10))


async def test_a_flow_that_is_new_gets_in_beside_a_flood() -> None:
    scheduling = attrs.evolve(DEADLINES, fairness=True, newcomer_share=0.1)
    door = Door(scheduling=scheduling, newcomers=True)
    flood, light = Caller("flood"), Caller("light")
    let_in = 0
    while door.forecast(asks(2), caller=flood).refused == "":
        door.enter(asks(2), caller=flood)
        let_in += 1
    assert let_in == 27, "a tenth of the time is left"
    assert isinstance(door.refused(asks(2), caller=flood), DeadlineUnmeetable)
    assert door.enter(asks(2), caller=light).expected_wait_s == pytest.approx(2.0)


# --- What would happen ----------------------------------------------------------


async def test_a_forecast_holds_no_place_and_says_what_admit_does() -> None:
    door = Door(bound=3)
    for tokens in (10, 10, 40, 10, 5, 5, 61):
        request = asks(tokens)
        foretold = door.forecast(request)
        assert door.forecast(request) == foretold
        places = door.admission.places_held
        if foretold.refused:
            refusal = door.refused(request)
            assert foretold.refused == refusal.code
            assert foretold.retry_after_s == pytest.approx(refusal.retry_after_s, abs=0.01)
            assert door.admission.places_held - places == (refusal.retry_after_s is not None)
        else:
            ticket = door.enter(request, hints=FIRST_TRY)
            assert foretold.retry_after_s is None
            assert foretold.wait_s == ticket.expected_wait_s
            assert foretold.service_s == ticket.cost.service_s


async def test_what_could_never_be_in_time_is_foretold_so_beside_a_full_queue_too() -> None:
    door = Door(bound=1)
    await busy(door, 10, 10)
    assert door.forecast(asks(5)).refused == QueueFull.code
    foretold = door.forecast(asks(61))
    assert foretold.refused == door.refused(asks(61)).code == DeadlineUnmeetable.code
    assert foretold.retry_after_s is None


async def test_a_forecast_does_not_use_up_a_place() -> None:
    door, _, refusal = await full_but_for_one()
    foretold = door.forecast(asks(10), hints=retry_of(refusal))
    assert foretold.refused == ""
    assert door.admission.places_held == 1


async def test_a_forecast_tells_how_long_it_may_take() -> None:
    assert Door().forecast(hints=Hints(timeout_s=7.0)).deadline_s == pytest.approx(7.0)


async def test_a_forecast_of_what_nobody_could_run_fails_as_the_request_would() -> None:
    with pytest.raises(ModelNotFound):
        Door().forecast(asks(model="x"))


# --- In the end -----------------------------------------------------------------


async def test_when_all_is_done_anybody_is_let_in() -> None:
    door = Door(bound=3)
    running = (await busy(door, 10, 10, 10))[0]
    door.refused(asks(50))
    for _ in range(2):
        door.end(running)
        running = door.next()
    door.end(running)
    assert door.forecast(asks(60)).wait_s == 0.0
    door.enter(asks(60))
