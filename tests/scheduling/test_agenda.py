import heapq
import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ticket import Ticket
from gateway.scheduling.agenda import Agenda, Ahead
from tests.scheduling.plans import due

EIGHTHS = st.integers(0, 80).map(lambda count: count / 8)
"""Seconds that are exact in binary: a bound is met, or it is not."""

NO_TIME = Ahead()


@st.composite
def tickets(draw: st.DrawFn, most: int = 5) -> list[Ticket]:
    each = draw(st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=most))
    return [due(number, due_at, takes_s / 4) for number, (due_at, takes_s) in enumerate(each)]


def agenda_of(waiting: Sequence[Ticket], *, part: float = 1.0) -> Agenda:
    agenda = Agenda()
    for ticket in waiting:
        agenda.add(ticket, part=part)
    return agenda


def by_due_time(waiting: Sequence[Ticket]) -> list[Ticket]:
    return sorted(waiting, key=lambda ticket: (ticket.due_at, ticket.number))


def ends(order: Sequence[Ticket], busy_s: Sequence[float]) -> dict[Ticket, float]:
    """When each has ended if a slot that comes free takes the next of the list.

    Args:
        busy_s: One for each slot, until it is free.
    """
    free_at = list(busy_s)
    heapq.heapify(free_at)
    ended = {}
    for ticket in order:
        ended[ticket] = heapq.heappop(free_at) + ticket.cost.service_s
        heapq.heappush(free_at, ended[ticket])
    return ended


def in_time(order: Sequence[Ticket], busy_s: Sequence[float] = (0.0,)) -> bool:
    return all(end <= ticket.due_at for ticket, end in ends(order, busy_s).items())


def keeps(agenda: Agenda, extra_s: float = 0.0, due_at: float = -1.0, busy_s: float = 0.0) -> bool:
    return agenda.keeps(extra_s, due_at=due_at, slots=1, busy=Ahead(busy_s), safety=0.0, now=0.0)


# --- The order ------------------------------------------------------------------


@given(st.permutations([due(0, 5.0), due(1, 3.0), due(2, 5.0), due(3, 8.0)]))
def test_the_order_is_by_due_time_then_by_arrival(arriving: list[Ticket]) -> None:
    agenda = agenda_of(arriving)
    assert [entry.number for entry in agenda] == [1, 0, 2, 3]
    first = agenda.first()
    assert first is not None
    assert first.number == 1


def test_an_empty_agenda_has_promised_nothing() -> None:
    agenda = Agenda()
    assert agenda.first() is None
    assert agenda.ahead(1e9) == NO_TIME
    assert agenda.slack_s(slots=1, busy_s=5.0, now=0.0) == math.inf
    assert keeps(agenda, extra_s=1e9)


def test_who_does_not_wait_can_be_taken_out() -> None:
    waiting = due(0, 5.0)
    agenda = agenda_of([waiting])
    agenda.remove(due(0, 5.0))  # Another one that looks the same.
    agenda.remove(due(1, 6.0))
    assert agenda.first() is waiting


# --- Sums -----------------------------------------------------------------------


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), st.floats(0.01, 1.0), st.integers())
def test_sums_return_to_exactly_zero(takes_s: list[float], part: float, seed: int) -> None:
    waiting = [due(number, 1.0, each, spread_s=each / 3) for number, each in enumerate(takes_s)]
    agenda = agenda_of(waiting, part=part)
    random.Random(seed).shuffle(waiting)
    for ticket in waiting:
        agenda.remove(ticket)
        assert agenda.variance_s2 >= 0.0
    assert len(agenda) == 0
    assert (agenda.work_s, agenda.variance_s2) == (0.0, 0.0)


@given(tickets(most=12), EIGHTHS)
def test_ahead_is_all_that_is_due_no_later(waiting: list[Ticket], due_at: float) -> None:
    before = [ticket for ticket in waiting if ticket.due_at <= due_at]
    agenda = agenda_of(waiting)
    assert agenda.position(due_at) == len(before)
    assert agenda.ahead(due_at).work_s == sum(ticket.cost.service_s for ticket in before)


def test_variances_add_up() -> None:
    agenda = agenda_of([due(0, 1.0, spread_s=3.0), due(1, 2.0, spread_s=4.0)])
    assert agenda.variance_s2 == 25.0
    assert agenda.ahead(1.0).variance_s2 == 9.0


def test_only_a_part_of_the_work_falls_to_these_slots_but_a_request_is_long_as_a_whole() -> None:
    agenda = agenda_of([due(0, 10.0, 8.0, spread_s=2.0)], part=0.25)
    assert (agenda.work_s, agenda.variance_s2) == (2.0, 1.0)
    assert agenda.slack_s(slots=1, busy_s=0.0, now=0.0) == 2.0


# --- Whether one more fits ------------------------------------------------------


@given(tickets(), EIGHTHS)
def test_on_one_slot_all_is_kept_exactly_when_some_order_keeps_it(
    waiting: list[Ticket], busy_s: float
) -> None:
    """Against all orders (Jackson 1955)."""
    some = any(in_time(order, [busy_s]) for order in itertools.permutations(waiting))
    assert keeps(agenda_of(waiting), busy_s=busy_s) == some


@given(tickets(), EIGHTHS, EIGHTHS)
def test_one_more_harms_nobody_who_is_due_later(
    waiting: list[Ticket], due_at: float, extra_s: float
) -> None:
    newcomer = due(99, due_at, extra_s)
    ended = ends(by_due_time([*waiting, newcomer]), [0.0])
    later = [ticket for ticket in waiting if ticket.due_at > due_at]
    expected = all(ended[ticket] <= ticket.due_at for ticket in later)
    assert keeps(agenda_of(waiting), extra_s, due_at) == expected


@given(tickets(most=10), st.lists(EIGHTHS, min_size=1, max_size=4))
def test_what_is_kept_on_paper_is_kept_by_a_list_schedule_over_several_slots(
    waiting: list[Ticket], busy_s: list[float]
) -> None:
    """Graham 1966: until a request starts no slot is idle."""
    busy = Ahead(sum(busy_s))
    on_paper = agenda_of(waiting).keeps(
        0.0, due_at=-1.0, slots=len(busy_s), busy=busy, safety=0.0, now=0.0
    )
    if on_paper:
        assert in_time(by_due_time(waiting), busy_s)


@given(tickets(most=10), st.lists(EIGHTHS, min_size=1, max_size=4), EIGHTHS)
def test_no_list_schedule_is_later_than_the_slack_says(
    waiting: list[Ticket], busy_s: list[float], now: float
) -> None:
    slack_s = agenda_of(waiting).slack_s(slots=len(busy_s), busy_s=sum(busy_s), now=now)
    ended = ends(by_due_time(waiting), busy_s)
    assert slack_s <= min(ticket.due_at - now - end for ticket, end in ended.items()) + 1e-9


def test_safety_is_kept_free_for_all_that_comes_before_too() -> None:
    agenda = agenda_of([due(0, 7.0, 1.0, spread_s=3.0)])
    busy = Ahead(1.0, 16.0)
    for safety, kept in ((1.0, True), (1.1, False)):
        found = agenda.keeps(0.0, due_at=-1.0, slots=1, busy=busy, safety=safety, now=0.0)
        assert found == kept, "two and five deviations of the sum are seven"


def test_time_goes_by() -> None:
    agenda = agenda_of([due(0, 10.0, 4.0)])
    for now, kept in ((6.0, True), (6.5, False)):
        found = agenda.keeps(0.0, due_at=-1.0, slots=1, busy=NO_TIME, safety=0.0, now=now)
        assert found == kept


# --- Whether another order may be served ----------------------------------------


@given(tickets(), st.integers(0, 4), EIGHTHS, EIGHTHS)
def test_one_may_go_first_unless_another_is_late_by_it(
    waiting: list[Ticket], at: int, cost_s: float, busy_s: float
) -> None:
    order = by_due_time(waiting)
    chosen = order[at % len(order)]
    before = order[: order.index(chosen)]
    due_first = ends(before, [busy_s])
    second = ends(before, [busy_s + cost_s])
    harmed = [one for one in before if due_first[one] <= one.due_at < second[one]]
    allowed = agenda_of(waiting).may_go_first(chosen, cost_s, slots=1, busy_s=busy_s, now=0.0)
    assert allowed == (not harmed)


def test_one_that_cannot_be_saved_holds_up_nobody() -> None:
    lost, other = due(0, 1.0, 5.0), due(1, 60.0, 5.0)
    agenda = agenda_of([lost, other])
    assert agenda.may_go_first(other, 5.0, slots=1, busy_s=0.0, now=0.0)


def test_who_does_not_wait_may_go_first() -> None:
    agenda = agenda_of([due(0, 1.0, 1.0)])
    assert agenda.may_go_first(due(1, 60.0), 5.0, slots=1, busy_s=0.0, now=0.0)


@given(tickets(most=6))
def test_served_by_any_wish_that_is_allowed_all_that_could_be_kept_is_kept(
    waiting: list[Ticket],
) -> None:
    """Always wish for the one that is due last, and go by due times where that may not be."""
    agenda = agenda_of(waiting)
    if not keeps(agenda):
        return
    now = 0.0
    while (first := agenda.first()) is not None:
        wish = by_due_time([entry.ticket for entry in agenda])[-1]
        allowed = agenda.may_go_first(wish, wish.cost.service_s, slots=1, busy_s=0.0, now=now)
        served = wish if allowed else first
        agenda.remove(served)
        now += served.cost.service_s
        assert now <= served.due_at


@pytest.mark.parametrize("slots", [2, 3])
def test_over_several_slots_each_takes_its_part_of_what_goes_first(slots: int) -> None:
    tight, wish = due(0, 5.0, 1.0), due(1, 60.0, 1.0)
    agenda = agenda_of([tight, wish])
    assert agenda.may_go_first(wish, 4.0 * slots, slots=slots, busy_s=0.0, now=0.0)
    assert not agenda.may_go_first(wish, 4.5 * slots, slots=slots, busy_s=0.0, now=0.0)
