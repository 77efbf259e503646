from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.base import Probe
from gateway.config.schema import Scheduling
from gateway.core.messages import (
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Prompt,
    Role,
    Timings,
    Tool,
    Usage,
)
from gateway.core.models import ModelInfo
from gateway.core.ticket import Caller, Priority, Ticket
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import CostModel
from gateway.scheduling.order import FirstComeFirstServed, Policy
from gateway.scheduling.prospects import STALE_S, Outlook
from gateway.scheduling.rules.scene import Scene
from gateway.scheduling.scheduler import Scheduler
from tests.engines import ScriptedEngine, pool_of, upstream
from tests.scheduling.plain_costs import LOAD_S, PlainCosts, asks

DEFAULTS = Scheduling()
DEADLINES_ALONE = Scheduling(
    safety=0.0, priorities=False, fairness=False, model_affinity=False, prefix_affinity=False
)


class Newest:
    """A policy that has no idea of promises: the newest goes first."""

    def choose(self, tickets: Sequence[Ticket], scene: Scene) -> Ticket:
        return tickets[-1]

    def granted(self, ticket: Ticket, *, now: float, load_s: float, cached_chars: int) -> None:
        pass


class Stage:
    """A scheduler over some upstreams, and what happens to it; time stands in `now`."""

    def __init__(
        self,
        *upstreams: Upstream,
        settings: Scheduling = DEADLINES_ALONE,
        costs: CostModel | None = None,
        newcomers: bool = False,
        order: Policy | None = None,
    ) -> None:
        self.pool = pool_of(*upstreams)
        self.scheduler = Scheduler(
            pool=self.pool,
            costs=costs or PlainCosts(),
            settings=settings,
            max_tokens=100,
            newcomers=newcomers,
            order=order,
        )
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.holds: dict[Ticket, Upstream] = {}
        self._number = 0

    def ticket(
        self,
        request: GenerateRequest | None = None,
        *,
        within_s: float = 60.0,
        flow: str = "one",
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        """One that has its price and nothing else."""
        self._number += 1
        made = Ticket(
            request_id=f"r{self._number}",
            number=self._number,
            caller=Caller(flow),
            request=request or asks(),
            arrived_at=self.now,
            deadline_at=self.now + within_s,
            flow=flow,
            priority=priority,
        )
        self.scheduler.price(made)
        return made

    def outlook(self, ticket: Ticket, *, held_s: float = 0.0) -> Outlook:
        return self.scheduler.outlook(ticket, self.now, held_s=held_s, held=bool(held_s))

    def waits(
        self,
        request: GenerateRequest | None = None,
        *,
        within_s: float = 60.0,
        flow: str = "one",
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        made = self.ticket(request, within_s=within_s, flow=flow, priority=priority)
        self.scheduler.wait(made, self.now)
        self.waiting.append(made)
        return made

    def start(self, ticket: Ticket) -> Upstream:
        """Where it has got its slot."""
        found = self.pool.free_for(ticket.model, ticket.tried)
        assert found is not None
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        found.take()
        self.scheduler.started(ticket, found, self.now)
        self.holds[ticket] = found
        return found

    def runs(self, request: GenerateRequest | None = None, *, flow: str = "one") -> Ticket:
        made = self.ticket(request, flow=flow)
        self.start(made)
        return made

    def leave(self, ticket: Ticket) -> None:
        self.waiting.remove(ticket)
        self.scheduler.left(ticket, self.now)

    def end(self, ticket: Ticket) -> None:
        self.holds.pop(ticket).release()
        self.scheduler.ended(ticket, self.now)

    def choose(self) -> Ticket:
        return self.scheduler.choose(self.waiting, self.now)


def offering(name: str, *models: str, slots: int = 1) -> Upstream:
    return upstream(name, slots=slots, engine=ScriptedEngine(models=models))


def cold(*models: str, slots: int = 1) -> Upstream:
    """One that offers these models, of which the first is in memory."""
    engine = ScriptedEngine(models=models)
    engine.resident = {models[0]}
    return upstream(slots=slots, engine=engine)


# --- Prices ---------------------------------------------------------------------

LONG = "x" * 1000
"""Ten seconds to read."""


def test_a_price_is_what_is_read_and_what_is_written() -> None:
    ticket = Stage(upstream()).ticket(asks(7, LONG))
    assert ticket.cost.prefill_s == pytest.approx(10.0)
    assert ticket.cost.decode_s == 7.0


def test_a_prompt_that_a_slot_holds_costs_nothing_to_read() -> None:
    stage = Stage(upstream())
    stage.end(stage.runs(asks(7, LONG)))
    assert stage.ticket(asks(7, LONG, "y" * 100)).cost.prefill_s == pytest.approx(1.0)
    assert stage.ticket(asks(7, "z" * 1000)).cost.prefill_s == pytest.approx(10.0)


def test_what_a_slot_holds_will_be_gone_where_others_wait_who_begin_otherwise() -> None:
    stage = Stage(upstream())
    stage.end(stage.runs(asks(7, LONG)))
    alike = stage.waits(asks(7, LONG, "y" * 50))
    assert stage.ticket(asks(7, LONG, "z" * 100)).cost.prefill_s == pytest.approx(1.0)
    stage.waits(asks(7, "other"))
    assert stage.ticket(asks(7, LONG, "z" * 100)).cost.prefill_s == pytest.approx(11.0)
    assert alike.cost.prefill_s == pytest.approx(0.5), "its own price was told already"


def test_what_waits_is_not_held_yet() -> None:
    stage = Stage(upstream())
    stage.waits(asks(7, LONG))
    assert stage.ticket(asks(7, LONG)).cost.prefill_s == pytest.approx(10.0)


def test_what_the_best_of_several_upstreams_holds_counts() -> None:
    one, two = upstream("one"), upstream("two")
    stage = Stage(one, two)
    one.take()
    stage.end(stage.runs(asks(7, LONG)))
    one.release()
    assert stage.ticket(asks(7, LONG)).cost.prefill_s == 0.0


def test_an_upstream_that_was_gone_holds_nothing() -> None:
    one = upstream()
    stage = Stage(one)
    stage.end(stage.runs(asks(7, LONG)))
    one.breaker.probed(False, 0.0)
    stage.pool.changed()
    one.breaker.may_probe(10.0)
    one.breaker.probed(True, 10.0)
    stage.pool.changed()
    assert stage.ticket(asks(7, LONG)).cost.prefill_s == pytest.approx(10.0)


def test_without_a_limit_an_answer_is_as_long_as_is_configured() -> None:
    request = attrs.evolve(asks(), max_tokens=None)
    assert Stage(upstream()).ticket(request).cost.decode_s == 100.0


def test_a_stream_is_due_with_its_first_token_and_may_write_on() -> None:
    stage = Stage(upstream())
    assert stage.ticket(asks(10), within_s=20.0).due_at == 20.0
    assert stage.ticket(asks(10, stream=True), within_s=20.0).due_at == 30.0


# --- Who is alone ---------------------------------------------------------------


def test_on_an_idle_box_anybody_fits() -> None:
    outlook = Stage(upstream()).outlook(Stage(upstream()).ticket(asks(60)))
    assert outlook.fits
    assert outlook.ever
    assert (outlook.start_s, outlook.position) == (0.0, 0)


def test_what_could_never_be_in_time_fits_while_its_price_is_a_guess() -> None:
    stage = Stage(upstream(), costs=PlainCosts(sure=()))
    assert stage.outlook(stage.ticket(asks(61))).fits


def test_what_could_never_be_in_time_does_not_fit_once_its_price_is_known() -> None:
    stage = Stage(upstream())
    outlook = stage.outlook(stage.ticket(asks(61)))
    assert not outlook.fits
    assert not outlook.ever
    assert stage.outlook(stage.ticket(asks(61, stream=True))).ever, "its first token is in time"


def test_a_price_that_nothing_has_confirmed_for_long_says_never_no_more() -> None:
    stage = Stage(upstream())
    stage.scheduler._state.engine(stage.pool.upstreams[0]).observed_at = stage.now
    assert not stage.outlook(stage.ticket(asks(61))).ever
    stage.now += STALE_S + 1.0
    assert stage.outlook(stage.ticket(asks(61))).fits


def test_a_price_is_known_by_the_engines_spelling_of_the_model() -> None:
    class Tagged(ScriptedEngine):
        def canonical(self, model: str) -> str:
            return model if ":" in model else f"{model}:latest"

    stage = Stage(
        upstream(engine=Tagged(models=["m:latest"])), costs=PlainCosts(sure=("m:latest",))
    )
    assert not stage.outlook(stage.ticket(asks(61, model="m"))).ever


def test_a_free_slot_is_for_who_comes_first_whatever_is_held_for_others() -> None:
    stage = Stage(upstream())
    assert stage.outlook(stage.ticket(), held_s=1000.0).fits


def test_a_free_slot_harms_nobody_who_waits_and_could_not_use_it() -> None:
    stage = Stage(
        offering("one", "m", "both"), offering("two", "b", "both"), costs=PlainCosts(sure=())
    )
    stage.outlook(stage.ticket(asks(model="both")))  # Now there is a lane with both.
    stage.runs(asks(50, model="b"))
    stage.waits(asks(50, model="b"), within_s=110.0)
    assert stage.outlook(stage.ticket(asks(100, model="m"), within_s=60.0)).fits


# --- Who is not alone -----------------------------------------------------------


def test_what_runs_and_what_waits_comes_before() -> None:
    stage = Stage(upstream())
    stage.runs(asks(10))
    stage.waits(asks(5))
    stage.now = 4.0
    outlook = stage.outlook(stage.ticket(asks(10)))
    assert outlook.start_s == pytest.approx(11.0)
    assert outlook.needs_s == pytest.approx(21.0)
    assert outlook.position == 1


def test_several_slots_share_what_comes_before() -> None:
    stage = Stage(upstream(slots=2))
    stage.runs(asks(10))
    stage.runs(asks(10))
    stage.waits(asks(4))
    assert stage.outlook(stage.ticket()).start_s == pytest.approx(12.0)


@pytest.mark.parametrize(("tokens", "fits"), [(20, True), (21, False)])
def test_it_fits_as_long_as_it_is_done_by_its_deadline(tokens: int, fits: bool) -> None:
    stage = Stage(upstream())
    stage.runs(asks(40))
    assert stage.outlook(stage.ticket(asks(tokens))).fits == fits


@pytest.mark.parametrize(("chars", "fits"), [(2000, True), (2001, False)])
def test_of_a_stream_only_the_first_token_must_be_in_time(chars: int, fits: bool) -> None:
    stage = Stage(upstream())
    stage.runs(asks(40))
    assert stage.outlook(stage.ticket(asks(90, "x" * chars, stream=True))).fits == fits


def test_doubt_is_kept_free_before_the_deadline() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, safety=2.0)
    stage = Stage(upstream(), settings=settings, costs=PlainCosts(spread_s=3.0))
    stage.runs(asks(10))
    # Its own and that of what runs: the root of 18, twice.
    assert stage.outlook(stage.ticket(asks(10))).needs_s == pytest.approx(20.0 + 2.0 * 18.0**0.5)


def test_work_that_is_held_for_others_comes_before_too() -> None:
    stage = Stage(upstream())
    stage.runs(asks(10))
    ticket = stage.ticket(asks(45))
    assert stage.outlook(ticket).fits
    held = stage.outlook(ticket, held_s=6.0)
    assert not held.fits
    assert held.position == 1


def test_upstreams_with_different_models_do_not_count_each_others_work() -> None:
    stage = Stage(offering("one", "a"), offering("two", "b"))
    stage.runs(asks(50, model="a"))
    stage.waits(asks(50, model="a"), within_s=110.0)
    stage.runs(asks(3, model="b"))
    assert stage.outlook(stage.ticket(asks(10, model="b"))).start_s == pytest.approx(3.0)


@pytest.mark.parametrize(("tokens", "fits"), [(10, True), (11, False)])
def test_nobody_is_let_in_who_would_make_another_late(tokens: int, fits: bool) -> None:
    stage = Stage(upstream(), settings=attrs.evolve(DEADLINES_ALONE, fairness=True))
    stage.runs(asks(10))
    stage.waits(asks(40), within_s=60.0)
    outlook = stage.outlook(stage.ticket(asks(tokens), within_s=55.0, flow="other"))
    assert outlook.needs_s == 10.0 + tokens, "it would be in time itself"
    assert outlook.fits == fits


def test_who_goes_first_by_the_rules_is_not_let_in_if_it_may_have_to_give_way() -> None:
    """What is due before may leave no room: then the rules' order does not help it."""
    settings = attrs.evolve(DEADLINES_ALONE, priorities=True)
    stage = Stage(upstream(), settings=settings)
    stage.runs(asks(10))
    stage.waits(asks(40), within_s=51.0)
    urgent = stage.ticket(asks(15), within_s=60.0, priority=Priority.INTERACTIVE)
    outlook = stage.outlook(urgent)
    assert outlook.start_s == pytest.approx(10.0), "by the rules it is next"
    assert not outlook.fits
    assert outlook.needs_s == pytest.approx(65.0), "and so it is told to come back later"


def test_without_deadlines_everybody_fits() -> None:
    stage = Stage(upstream(), settings=attrs.evolve(DEADLINES_ALONE, deadlines=False))
    stage.runs(asks(100))
    stage.waits(asks(100))
    outlook = stage.outlook(stage.ticket(asks(100)))
    assert outlook.fits
    assert outlook.ever


def test_another_flow_is_not_behind_all_that_one_has_waiting() -> None:
    stage = Stage(upstream(), settings=attrs.evolve(DEADLINES_ALONE, fairness=True))
    stage.runs(asks(2))
    for _ in range(5):
        stage.waits(asks(2), flow="flood")
    flood = stage.outlook(stage.ticket(asks(2), flow="flood"))
    light = stage.outlook(stage.ticket(asks(2), flow="light"))
    assert flood.start_s == pytest.approx(12.0)
    assert light.start_s == pytest.approx(2.0)


def test_a_flow_leaves_time_to_newcomers_where_there_can_be_some() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, fairness=True, newcomer_share=0.1)
    for newcomers, whole_s in ((True, 54.0), (False, 60.0)):
        stage = Stage(upstream(), settings=settings, newcomers=newcomers)
        stage.runs(asks(10))
        stage.waits(asks(10))
        assert stage.outlook(stage.ticket()).may_take_s == pytest.approx(whole_s)
        assert stage.outlook(stage.ticket(flow="other")).may_take_s == pytest.approx(60.0)


def test_batch_may_fill_its_part_of_the_time_and_no_more() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, priorities=True, batch_share=0.5)
    stage = Stage(upstream(), settings=settings)
    stage.runs(asks(20))
    assert stage.outlook(stage.ticket(asks(10), priority=Priority.BATCH)).fits
    assert not stage.outlook(stage.ticket(asks(11), priority=Priority.BATCH)).fits
    assert stage.outlook(stage.ticket(asks(11))).fits


# --- Models ---------------------------------------------------------------------


def test_a_model_that_is_not_in_memory_has_to_be_loaded_first() -> None:
    stage = Stage(cold("m", "other"))
    assert stage.outlook(stage.ticket(asks(10, model="other"))).needs_s == 10.0 + LOAD_S
    assert stage.outlook(stage.ticket(asks(10))).needs_s == 10.0


def test_those_who_wait_for_one_cold_model_wait_for_one_load() -> None:
    stage = Stage(cold("m", "other"))
    stage.runs(asks(10))
    stage.waits(asks(1, model="other"))
    outlook = stage.outlook(stage.ticket(asks(1, model="other")))
    assert outlook.needs_s == pytest.approx(10.0 + LOAD_S + 2.0)


def test_a_load_that_is_under_way_is_not_counted_again() -> None:
    stage = Stage(cold("m", "other"))
    stage.runs(asks(10, model="other"))
    stage.now = 2.0
    stage.waits(asks(1, model="other"))
    outlook = stage.outlook(stage.ticket(asks(1, model="other")))
    assert outlook.needs_s == pytest.approx(10.0 + LOAD_S - 2.0 + 2.0)


def test_whoever_joins_a_load_does_not_load() -> None:
    stage = Stage(cold("m", "other", slots=2))
    first, second = (stage.runs(asks(10, model="other")) for _ in range(2))
    loading, joining = stage.scheduler.running(first), stage.scheduler.running(second)
    assert loading is not None
    assert joining is not None
    assert (loading.swaps, joining.swaps) == (True, False)
    assert loading.expected_s - joining.expected_s == LOAD_S


def test_a_load_throws_out_the_prompts_that_were_held() -> None:
    stage = Stage(cold("m", "other"))
    stage.end(stage.runs(asks(1, LONG)))
    stage.end(stage.runs(asks(1, model="other")))
    assert stage.ticket(asks(1, LONG)).cost.prefill_s == pytest.approx(10.0)


def test_where_models_compete_time_is_left_for_each_to_have_its_turn() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, model_affinity=True, affinity_wait_max_seconds=15.0)
    stage = Stage(cold("m", "other"), settings=settings)
    stage.runs(asks(1))
    stage.waits(asks(1))
    assert stage.outlook(stage.ticket()).may_take_s == 60.0
    stage.waits(asks(1, model="other"))
    assert stage.outlook(stage.ticket()).may_take_s == 45.0
    assert stage.outlook(stage.ticket(within_s=30.0)).may_take_s == 20.0


def test_where_prompts_compete_time_is_left_for_each_to_have_its_turn() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, prefix_affinity=True, affinity_wait_max_seconds=15.0)
    stage = Stage(upstream(), settings=settings)
    stage.runs(asks(1))
    stage.waits(asks(1, LONG))
    assert stage.outlook(stage.ticket(asks(1, LONG))).may_take_s == 60.0
    assert stage.outlook(stage.ticket(asks(1, "y" * 1000))).may_take_s == 45.0
    assert stage.outlook(stage.ticket(asks(1, "short"))).may_take_s == 60.0


# --- The choice -----------------------------------------------------------------


def test_the_only_one_goes() -> None:
    stage = Stage(upstream())
    only = stage.waits()
    assert stage.choose() is only


def test_the_rules_choose_while_there_is_time() -> None:
    stage = Stage(upstream(), order=Newest())
    stage.waits(asks(10), within_s=60.0)
    newest = stage.waits(asks(10), within_s=61.0)
    assert stage.choose() is newest


def test_the_rules_give_way_where_an_older_promise_would_break() -> None:
    stage = Stage(upstream(), order=Newest())
    older = stage.waits(asks(10), within_s=15.0)
    stage.waits(asks(10), within_s=60.0)
    assert stage.choose() is older


def test_a_load_of_the_chosen_model_counts_against_those_due_before() -> None:
    stage = Stage(cold("m", "other"), order=Newest())
    older = stage.waits(asks(10), within_s=24.0)
    stage.waits(asks(10, model="other"), within_s=60.0)
    assert stage.choose() is older


def test_who_could_go_now_is_not_given_up_for_a_load_that_another_needs() -> None:
    stage = Stage(cold("m", "other"), order=Newest())
    tight = stage.waits(asks(10), within_s=12.0)
    stage.waits(asks(10, model="other"), within_s=60.0)
    assert stage.choose() is tight


def test_of_those_due_at_once_the_older_goes() -> None:
    stage = Stage(upstream(), order=Newest())
    older = stage.waits(asks(10), within_s=15.0)
    stage.waits(asks(10), within_s=15.0)
    stage.waits(asks(10), within_s=60.0)
    assert stage.choose() is older


def test_one_that_cannot_be_in_time_any_more_holds_up_nobody() -> None:
    stage = Stage(upstream(), order=Newest())
    stage.waits(asks(10), within_s=5.0)
    newest = stage.waits(asks(10), within_s=60.0)
    assert stage.choose() is newest


def test_without_deadlines_the_rules_never_give_way() -> None:
    settings = attrs.evolve(DEADLINES_ALONE, deadlines=False)
    stage = Stage(upstream(), settings=settings, order=Newest())
    stage.waits(asks(10), within_s=15.0)
    newest = stage.waits(asks(10), within_s=60.0)
    assert stage.choose() is newest


def test_the_rules_see_what_the_free_slots_hold() -> None:
    seen: list[tuple[float, int]] = []

    class Looks(FirstComeFirstServed):
        def choose(self, tickets: Sequence[Ticket], scene: Scene) -> Ticket:
            seen.extend((scene.swap_s(one), scene.cached_chars(one)) for one in tickets)
            return tickets[0]

    one, two = cold("m", "other"), offering("two", "m", "else")
    stage = Stage(one, two, order=Looks())
    stage.end(stage.runs(asks(1, LONG)))
    stage.waits(asks(1, LONG))
    stage.waits(asks(1, model="other"))
    stage.waits(asks(1, model="else"))
    stage.waits(asks(1, LONG)).tried.add(one.name)
    stage.choose()
    assert seen == [(0.0, 1000), (LOAD_S, 0), (0.0, 0), (0.0, 0)]
    seen.clear()
    one.take()
    stage.choose()
    assert seen[0] == (0.0, 0), "a slot that is not free does not count"


@pytest.mark.parametrize(
    ("after_s", "late"), [(9.0, False), (15.0, False), (15.1, True), (20.0, True)]
)
def test_what_could_not_even_be_read_in_time_is_too_late(after_s: float, late: bool) -> None:
    stage = Stage(upstream())
    ticket = stage.waits(asks(1, LONG), within_s=20.0)
    assert stage.scheduler.too_late(ticket, after_s) == late


# --- In the slot ----------------------------------------------------------------


def test_what_is_left_of_what_runs_falls_first_its_load_then_its_work() -> None:
    stage = Stage(cold("m", "other"))
    stage.runs(asks(10, model="other"))
    waiting = stage.waits(asks(1, model="other"))
    starts = [stage.scheduler.turn(waiting, now).start_s for now in (0.0, 4.0, 5.0, 8.0, 99.0)]
    assert starts == [LOAD_S + 10.0, LOAD_S + 6.0, 10.0, 7.0, 0.0]


def test_an_answer_that_is_longer_than_was_thought_is_not_about_to_end() -> None:
    stage = Stage(upstream(), costs=CostModel())
    expected = stage.scheduler.running(stage.runs(asks(2000)))
    assert expected is not None
    waiting = stage.waits(asks(1))
    overdue_at = 2.0 * expected.expected_s
    assert stage.scheduler.turn(waiting, overdue_at).start_s > expected.expected_s


def test_who_has_ended_runs_no_more() -> None:
    stage = Stage(upstream())
    ticket = stage.runs()
    stage.end(ticket)
    assert stage.scheduler.running(ticket) is None
    assert stage.outlook(stage.ticket()).start_s == 0.0


def test_a_flow_is_charged_what_was_measured() -> None:
    stage = Stage(upstream())
    other = stage.waits(flow="other")  # Or all would be level again.
    ticket = stage.runs(asks(10), flow="one")
    assert stage.scheduler.accounts.lead_s("one", 0.0) == 10.0
    stage.now = 3.0
    stage.end(ticket)
    assert stage.scheduler.accounts.lead_s("one", 0.0) == pytest.approx(3.0)
    stage.leave(other)


def test_an_answer_is_learned_from() -> None:
    seen: list[tuple[str, str, int, bool, float]] = []

    class Notes(PlainCosts):
        def observe(self, upstream: str, model: str, *args: object, **told: object) -> None:
            usage, seen_s = told["usage"], told["seen_s"]
            assert isinstance(usage, Usage)
            assert isinstance(seen_s, float)
            seen.append((upstream, model, usage.completion, bool(told["capped"]), seen_s))

    stage = Stage(upstream("one"), costs=Notes())
    ticket = stage.runs(asks(10))
    stage.now = 8.0
    ends = [
        Finished(FinishReason.STOP, Usage(prompt=1, completion=3)),
        Finished(FinishReason.LENGTH, Usage(prompt=1, completion=4)),
    ]
    stage.scheduler.answered(ticket, ends, stage.now)
    assert seen == [("one", "m", 7, True, 8.0)]


def test_a_load_that_the_engine_tells_of_put_the_model_in_memory() -> None:
    one = cold("m", "other")
    stage = Stage(one)
    ticket = stage.runs(asks(1, model="other"))
    end = Finished(FinishReason.STOP, Usage(prompt=1, completion=1), Timings(load_s=3.0))
    stage.scheduler.answered(ticket, [end], 4.0)
    assert one.holds("other")
    assert not one.holds("m")


# --- Where one stands -----------------------------------------------------------


def test_a_turn_is_behind_what_runs_and_what_is_due_before() -> None:
    stage = Stage(upstream())
    stage.runs(asks(10))
    last = stage.waits(asks(5), within_s=60.0)
    first = stage.waits(asks(7), within_s=30.0)
    stage.now = 4.0
    turns = [stage.scheduler.turn(ticket, stage.now) for ticket in (first, last)]
    assert [turn.position for turn in turns] == [0, 1]
    assert [turn.start_s for turn in turns] == [pytest.approx(6.0), pytest.approx(13.0)]
    assert {turn.why for turn in turns} == {"a slot"}


def test_a_turn_comes_nearer_as_others_go() -> None:
    stage = Stage(upstream())
    running = stage.runs(asks(10))
    first, second = stage.waits(asks(5)), stage.waits(asks(5), within_s=61.0)
    assert stage.scheduler.turn(second, 0.0).start_s == pytest.approx(15.0)
    stage.leave(first)
    assert stage.scheduler.turn(second, 0.0).start_s == pytest.approx(10.0)
    stage.end(running)
    turn = stage.scheduler.turn(second, 0.0)
    assert (turn.position, turn.start_s) == (0, 0.0)


def test_a_turn_says_that_a_model_has_to_be_loaded() -> None:
    stage = Stage(cold("m", "other"))
    stage.runs()
    turn = stage.scheduler.turn(stage.waits(asks(1, model="other")), 0.0)
    assert "load" in turn.why


# --- Slots that are found out ---------------------------------------------------


def test_one_more_slot_is_tried_while_requests_wait_and_have_time() -> None:
    one = upstream()
    one.slots_max = 2
    stage = Stage(one)
    for _ in range(40):
        ticket = stage.runs(asks(1))
        stage.now += 1.0
        timings = Timings(total_s=1.0, prefill_s=0.1, decode_s=0.9)
        end = Finished(FinishReason.STOP, Usage(prompt=10, completion=10), timings)
        stage.scheduler.answered(ticket, [end], stage.now)
        stage.end(ticket)
    assert one.slots == 1, "nobody waited"
    stage.runs(asks(1))
    stage.waits(asks(1))
    assert one.slots == 2
    assert one.sure_slots == 1


# --- Whatever happens -----------------------------------------------------------


def test_waiting_twice_is_waiting_once() -> None:
    stage = Stage(upstream())
    stage.runs(asks(10))
    ticket = stage.waits(asks(5))
    stage.scheduler.wait(ticket, 0.0)
    assert stage.outlook(stage.ticket()).start_s == pytest.approx(15.0)


def test_when_an_upstream_goes_down_the_others_have_all_the_work() -> None:
    one, two = upstream("one"), upstream("two")
    stage = Stage(one, two)
    stage.runs(asks(10))
    stage.runs(asks(10))
    stage.waits(asks(4))
    assert stage.outlook(stage.ticket()).start_s == pytest.approx(12.0)
    two.breaker.probed(False, 0.0)
    stage.pool.changed()
    assert stage.outlook(stage.ticket()).start_s == pytest.approx(14.0)


MODELS = ("m", "other", "both")
SETS = (MODELS, ("m", "both"), ("both",), ())
MOVES = st.tuples(
    st.sampled_from(("enter", "enter", "leave", "grant", "grant", "end", "pool", "later")),
    st.integers(0, 11),
)


@pytest.mark.slow
@given(st.lists(MOVES, max_size=40))
def test_no_history_leaves_anything_behind(moves: list[tuple[str, int]]) -> None:
    one, two = offering("one", *MODELS), offering("two", "both", slots=2)
    stage = Stage(one, two, settings=DEFAULTS, costs=PlainCosts(sure=()), newcomers=True)
    for move, number in moves:
        match move:
            case "enter":
                request = asks(number, "x" * number, model=MODELS[number % 3])
                priority = Priority(number // 4)
                stage.waits(request, flow="xy"[number % 2], priority=priority)
            case "leave" if stage.waiting:
                stage.leave(stage.waiting[number % len(stage.waiting)])
            case "grant":
                able = [one for one in stage.waiting if stage.pool.free_for(one.model)]
                if able:
                    stage.start(stage.scheduler.choose(able, stage.now))
            case "end" if stage.holds:
                stage.end(list(stage.holds)[number % len(stage.holds)])
            case "pool":
                models = tuple([ModelInfo(id=model) for model in SETS[number % 4]])
                (one, two)[number // 6].found(Probe(models=models))
                stage.pool.changed()
            case "later":
                stage.now += number
        fresh = Stage(one, two, settings=DEFAULTS, costs=PlainCosts(sure=()))
        for ticket in stage.waiting:
            fresh.scheduler.wait(ticket, stage.now)
        for ticket in stage.waiting:
            known, new = (each.scheduler.turn(ticket, stage.now) for each in (stage, fresh))
            assert known.position == new.position
    for ticket in list(stage.holds):
        stage.end(ticket)
    for ticket in list(stage.waiting):
        stage.leave(ticket)
    for upstream_ in (one, two):
        upstream_.found(Probe(models=tuple([ModelInfo(id=model) for model in MODELS])))
    stage.pool.changed()
    for model in MODELS:
        outlook = stage.outlook(stage.ticket(asks(1, model=model), flow="x"))
        assert (outlook.start_s, outlook.position, outlook.fits) == (0.0, 0, True)
    accounts = stage.scheduler.accounts
    assert accounts.virtual_s("x") <= accounts.virtual_s("z"), "who is idle starts level"


def test_what_makes_a_prompt_long_makes_its_estimate_long() -> None:
    stage = Stage(upstream(), costs=CostModel())
    where = stage.pool.upstreams[0]

    def tokens(request: GenerateRequest) -> int:
        return stage.scheduler.prompt_tokens(request, where)

    turn = Message(Role.USER, "x" * 400)
    chat = GenerateRequest(model="m", messages=(turn,))
    assert 90 <= tokens(chat) <= 110
    assert tokens(attrs.evolve(chat, messages=(turn, turn))) >= 2 * tokens(chat) - 1
    tool = Tool("f", description="y" * 400)
    assert tokens(attrs.evolve(chat, tools=(tool,))) > tokens(chat) + 90
    assert tokens(GenerateRequest(model="m", prompts=(Prompt("x" * 400),))) == tokens(chat)


# --- A reload -----------------------------------------------------------------------


def test_one_that_takes_the_place_of_another_holds_nothing_of_it() -> None:
    old, new = offering("one", "m", slots=2), offering("one", "m", slots=2)
    stage = Stage(old)
    long = asks(10, "word " * 200)
    running = stage.runs(long)
    assert stage.scheduler.cached_chars(old, running) > 0
    stage.pool.change([new], stage.pool.catalogue)
    assert stage.scheduler.cached_chars(new, running) == 0
    other = stage.runs(long)
    assert stage.holds[other] is new
    stage.end(running)
    stage.end(other)
    assert (old.in_flight, new.in_flight) == (0, 0)


def test_what_runs_where_an_upstream_was_is_not_work_before_those_who_wait() -> None:
    old, new = offering("one", "m"), offering("one", "m")
    stage = Stage(old)
    running = stage.runs()
    assert stage.outlook(stage.ticket()).start_s > 0.0
    stage.pool.change([new], stage.pool.catalogue)
    assert stage.outlook(stage.ticket()).start_s == 0.0
    stage.end(running)


def test_of_an_upstream_that_is_gone_and_idle_nothing_is_kept() -> None:
    old, new = offering("one", "m"), offering("one", "m")
    stage = Stage(old)
    running = stage.runs()
    engines = stage.scheduler._state.engines
    stage.pool.change([new], stage.pool.catalogue)
    assert old in engines, "something runs there"
    stage.end(running)
    stage.pool.changed()
    assert old not in engines


def test_other_rules_hold_for_those_who_wait_already() -> None:
    stage = Stage(offering("one", "m"), settings=DEADLINES_ALONE)
    stage.runs()
    batch, urgent = (stage.waits(priority=each) for each in (Priority.BATCH, Priority.INTERACTIVE))
    assert stage.choose() is batch
    stage.scheduler.change(DEFAULTS, max_tokens=100, newcomers=False)
    assert stage.choose() is urgent


def test_another_longest_answer_is_counted_with_at_once() -> None:
    stage = Stage(offering("one", "m"))
    unbounded = attrs.evolve(asks(), max_tokens=None)
    assert stage.ticket(unbounded).cost.decode_s == 100.0
    stage.scheduler.change(DEADLINES_ALONE, max_tokens=7, newcomers=False)
    assert stage.ticket(unbounded).cost.decode_s == 7.0
