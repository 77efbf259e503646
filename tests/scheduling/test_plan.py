from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.base import Probe
from gateway.core.models import ModelInfo
from gateway.core.ticket import Priority, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.lane import Lane
from gateway.scheduling.plan import NAMES_MAX, Plan
from tests.engines import ScriptedEngine, pool_of, upstream
from tests.scheduling.plans import due


def offering(name: str, *models: str, slots: int = 1) -> Upstream:
    return upstream(name, slots=slots, engine=ScriptedEngine(models=models))


def change(pool: Pool, plan: Plan, upstream: Upstream, *models: str) -> None:
    """From now on it has these models; without any it is as good as down."""
    upstream.found(Probe(models=tuple([ModelInfo(id=model) for model in models])))
    plan.rebuild()


def told(plan: Plan, pool: Pool, models: Sequence[str]) -> Mapping[str, object]:
    """All that anybody may ask of it."""
    lanes: dict[str, Lane] = {model: plan.lane(due(0, 1.0, model=model)) for model in models}
    return {
        model: (
            [upstream.name for upstream in lane.upstreams],
            [entry.number for entry in lane.agenda],
            pytest.approx(lane.agenda.work_s),
            pytest.approx(lane.agenda.variance_s2),
            [pytest.approx(lane.work_s(priority)) for priority in Priority],
            [lane.count(priority) for priority in Priority],
            {flow: pytest.approx(lane.flow_work_s(flow)) for flow in "xyz"},
            sorted(lane.models),
            sorted((part, beside.slots) for beside, part in plan.lanes_beside(lane)),
        )
        for model, lane in lanes.items()
    }


# --- Who waits ------------------------------------------------------------------


def test_a_ticket_waits_until_it_is_taken_out() -> None:
    plan = Plan(pool_of(upstream()))
    ticket = due(0, 60.0)
    assert ticket not in plan
    plan.add(ticket)
    assert ticket in plan
    assert len(plan) == 1
    assert plan.remove(ticket)
    assert not plan.remove(ticket)
    assert len(plan) == 0
    assert len(plan.lane(ticket).agenda) == 0


def test_upstreams_with_different_models_share_no_lane() -> None:
    plan = Plan(pool_of(offering("one", "a"), offering("two", "b")))
    plan.add(due(0, 60.0, model="a"))
    other = plan.lane(due(1, 60.0, model="b"))
    assert len(other.agenda) == 0
    assert [beside for beside, _ in plan.lanes_beside(other)] == [other]


def test_work_for_two_upstreams_falls_to_each_in_part() -> None:
    plan = Plan(pool_of(offering("one", "a", "both"), offering("two", "both", slots=3)))
    one = plan.lane(due(0, 60.0, model="a"))
    plan.add(due(1, 60.0, 8.0, model="both"))
    plan.add(due(2, 60.0, 1.0, model="a"))
    assert one.agenda.work_s == 3.0
    assert plan.lane(due(3, 60.0, model="both")).agenda.work_s == 9.0


def test_a_lane_that_is_new_knows_who_waits_already() -> None:
    plan = Plan(pool_of(offering("one", "a", "both"), offering("two", "both")))
    plan.add(due(0, 60.0, 8.0, model="both"))
    assert plan.lane(due(1, 60.0, model="a")).agenda.work_s == 4.0


def test_its_own_lane_is_the_first_of_those_beside_it() -> None:
    plan = Plan(pool_of(offering("one", "a", "both"), offering("two", "both")))
    plan.lane(due(0, 60.0, model="both"))
    own = plan.lane(due(1, 60.0, model="a"))
    assert plan.lanes_beside(own)[0] == (own, 1.0)


def test_any_number_of_spellings_is_one_lane() -> None:
    """Callers make them up; an engine that was never reached may have any model."""
    plan = Plan(pool_of(upstream(up=False)))
    lanes = {plan.lane(due(0, 60.0, model=f"m{number}")) for number in range(2 * NAMES_MAX)}
    assert len(lanes) == len(plan.lanes) == 1


# --- Prompts --------------------------------------------------------------------

SYSTEM = (100, 1)


def test_what_is_common_is_the_beginning_of_every_prompt_that_waits() -> None:
    plan = Plan(pool_of(upstream()))
    chains = ((SYSTEM, (150, 2)), (SYSTEM, (150, 2), (170, 4)), (SYSTEM, (180, 3)))
    shared = []
    for number, chain in enumerate(chains):
        waiting = due(number, 60.0)
        waiting.chain = chain
        plan.add(waiting)
        shared.append(plan.common_chars("m", (SYSTEM, (150, 2), (170, 4))))
    assert shared == [150, 150, 100]


def test_nothing_is_common_with_nobody_or_with_one_who_begins_otherwise() -> None:
    plan = Plan(pool_of(upstream()))
    assert plan.common_chars("m", (SYSTEM,)) == 0
    one, other = due(0, 60.0), due(1, 60.0)
    one.chain, other.chain = (SYSTEM,), ((90, 7),)
    plan.add(one)
    assert plan.common_chars("other", (SYSTEM,)) == 0
    plan.add(other)
    assert plan.common_chars("m", (SYSTEM,)) == 0
    plan.remove(other)
    assert plan.common_chars("m", (SYSTEM,)) == 100


# --- Upstreams that come and go -------------------------------------------------


def test_an_upstream_that_comes_takes_its_part_of_what_waits() -> None:
    one, two = offering("one", "a", "both"), offering("two", "x")
    pool = pool_of(one, two)
    plan = Plan(pool)
    plan.add(due(0, 60.0, 8.0, model="both"))
    plan.add(due(1, 60.0, 1.0, model="a"))
    change(pool, plan, two, "x", "both")
    assert plan.lane(due(2, 60.0, model="x")).agenda.work_s == 4.0
    assert plan.lane(due(3, 60.0, model="a")).agenda.work_s == 5.0
    assert plan.lane(due(4, 60.0, model="both")).agenda.work_s == 9.0


MODELS = ("a", "b", "c", "nowhere")
SETS = (("a", "b", "c"), ("a",), ("b", "c"), ("c",), ())
MOVES = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from(MODELS), st.integers(1, 8)),
    st.tuples(st.just("leave"), st.just(""), st.integers(0, 20)),
    st.tuples(st.just("look"), st.sampled_from(MODELS), st.just(0)),
    st.tuples(st.sampled_from(("one", "two")), st.just(""), st.integers(0, len(SETS) - 1)),
)


@pytest.mark.slow
@given(st.lists(MOVES, max_size=25), st.integers(1, 3))
def test_after_any_history_it_is_as_a_plan_that_was_made_just_now(
    moves: list[tuple[str, str, int]], slots: int
) -> None:
    one, two = offering("one", "a", "b"), offering("two", "b", "c", slots=slots)
    pool = pool_of(one, two)
    plan = Plan(pool)
    waiting: list[Ticket] = []
    for number, (move, model, count) in enumerate(moves):
        match move:
            case "enter":
                ticket = due(
                    number,
                    float(count),
                    count / 4,
                    spread_s=count / 8,
                    model=model,
                    flow="xyz"[count % 3],
                    priority=Priority(count % 3),
                )
                ticket.chain = ((10, count % 2), (20, number + 100))
                plan.add(ticket)
                waiting.append(ticket)
            case "leave" if waiting:
                assert plan.remove(waiting.pop(count % len(waiting)))
            case "look":
                plan.lane(due(number, 1.0, model=model))
            case "one" | "two":
                change(pool, plan, one if move == "one" else two, *SETS[count])
        assert len(plan) == len(waiting)
    fresh = Plan(pool)
    for ticket in waiting:
        fresh.add(ticket)
    # Lanes come about as they are asked for: have all of them in both.
    told(plan, pool, MODELS)
    told(fresh, pool, MODELS)
    assert told(plan, pool, MODELS) == told(fresh, pool, MODELS)
    for ticket in waiting:
        common = plan.common_chars(ticket.model, ticket.chain)
        assert common == fresh.common_chars(ticket.model, ticket.chain)
    for ticket in waiting:
        assert plan.remove(ticket)
    assert all(not len(lane.agenda) for lane in plan.lanes)
    assert all(not plan.common_chars(model, ((10, 0), (10, 1))) for model in MODELS)
