import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ticket import Priority
from gateway.scheduling.lane import Lane
from tests.engines import upstream
from tests.scheduling.plans import due

CLASSES = st.sampled_from(Priority)


def test_its_slots_are_those_of_the_upstreams_that_are_up() -> None:
    up, down = upstream("up", slots=3), upstream("down", slots=4, up=False)
    assert Lane([up, down]).slots == 3
    assert Lane([down]).slots == 1, "what waits is divided by it"


def test_a_slot_is_free_when_one_upstream_has_one() -> None:
    one, two = upstream("one"), upstream("two")
    lane = Lane([one, two])
    one.take()
    assert lane.free
    two.take()
    assert not lane.free


def test_a_slot_of_an_upstream_that_is_down_is_not_free() -> None:
    assert not Lane([upstream(up=False)]).free


def test_work_falls_to_upstreams_by_their_slots() -> None:
    one, two, other = upstream("one", slots=1), upstream("two", slots=3), upstream("other")
    assert Lane([one]).part_of([one, two]) == 0.25
    assert Lane([two]).part_of([one, two]) == 0.75
    assert Lane([one, two]).part_of([one]) == 1.0
    assert Lane([one, two]).part_of([other]) == 0.0
    assert Lane([one]).part_of([]) == 0.0


def test_more_urgent_work_is_before_and_less_urgent_work_is_not() -> None:
    lane = Lane([upstream()])
    for number, priority in enumerate(Priority):
        lane.add(due(number, 60.0, 10.0**number, priority=priority), 1.0)
    assert [lane.work_s(priority) for priority in Priority] == [1.0, 11.0, 111.0]
    assert [lane.count(priority) for priority in Priority] == [1, 2, 3]


def test_where_all_are_of_one_class_only_those_who_are_less_urgent_see_them() -> None:
    lane = Lane([upstream()])
    lane.add(due(0, 60.0, 5.0), 1.0)
    assert lane.work_s(Priority.INTERACTIVE) == 0.0
    assert lane.work_s(Priority.NORMAL) == lane.work_s(Priority.BATCH) == 5.0


def test_a_model_is_wanted_until_the_last_who_waits_for_it_has_gone() -> None:
    lane = Lane([upstream()])
    waiting = [due(0, 60.0, model="a"), due(1, 60.0, model="b"), due(2, 60.0, model="a")]
    for ticket in waiting:
        lane.add(ticket, 1.0)
    assert list(lane.models) == ["a", "b"]
    lane.remove(waiting[0], 1.0)
    assert lane.wants("a")
    lane.remove(waiting[2], 1.0)
    assert not lane.wants("a")
    assert list(lane.models) == ["b"]


def test_a_flow_that_waits_for_next_to_nothing_waits_no_longer_when_it_has_gone() -> None:
    """Sums of floats leave rests, large ones after large requests: they are not work."""
    lane = Lane([upstream()])
    long, short = due(0, 60.0, 1e12, flow="x"), due(1, 60.0, 0.1, flow="x")
    lane.add(long, 1.0)
    lane.add(short, 1.0)
    lane.remove(long, 1.0)
    lane.remove(short, 1.0)
    assert lane.flow_work_s("x") == 0.0


@given(
    st.lists(
        st.tuples(st.floats(1e-9, 1e9), CLASSES, st.sampled_from("xyz"), st.sampled_from("ab")),
        min_size=1,
        max_size=20,
    ),
    st.floats(0.01, 1.0),
    st.integers(),
)
def test_when_all_have_gone_nothing_is_left(
    waiting: list[tuple[float, Priority, str, str]], part: float, seed: int
) -> None:
    lane = Lane([upstream()])
    tickets = [
        due(number, 60.0, takes_s, priority=priority, flow=flow, model=model)
        for number, (takes_s, priority, flow, model) in enumerate(waiting)
    ]
    for ticket in tickets:
        lane.add(ticket, part)
    random.Random(seed).shuffle(tickets)
    for ticket in tickets:
        lane.remove(ticket, part)
    assert [lane.work_s(priority) for priority in Priority] == [0.0, 0.0, 0.0]
    assert [lane.count(priority) for priority in Priority] == [0, 0, 0]
    assert [lane.flow_work_s(flow) for flow in "xyz"] == [0.0, 0.0, 0.0]
    assert not list(lane.models)
