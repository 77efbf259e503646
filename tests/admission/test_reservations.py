import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.reservations import (
    LATE_PART,
    LATE_S,
    NOTHING_HELD,
    RETURNING,
    RETURNING_UNKNOWN,
    Held,
    Place,
    Reservations,
)
from gateway.core.ticket import Priority

KEY = ("one", b"body")


@attrs.define
class Line:
    """Reservations, with what a test doesn't care about filled in."""

    held: Reservations = attrs.field(factory=lambda: Reservations(places_max=1000))
    number: int = 0

    def hold(
        self,
        *,
        key: tuple[str, bytes] | None = None,
        flow: str = "one",
        priority: Priority = Priority.NORMAL,
        work_s: float = 10.0,
        retry_count: int | None = 0,
        after_s: float = 20.0,
        former: Place | None = None,
        now: float = 0.0,
    ) -> Place:
        place = self.try_hold(
            key=key,
            flow=flow,
            priority=priority,
            work_s=work_s,
            retry_count=retry_count,
            after_s=after_s,
            former=former,
            now=now,
        )
        assert place is not None
        return place

    def try_hold(
        self,
        *,
        key: tuple[str, bytes] | None = None,
        flow: str = "one",
        priority: Priority = Priority.NORMAL,
        work_s: float = 10.0,
        retry_count: int | None = 0,
        after_s: float = 20.0,
        former: Place | None = None,
        now: float = 0.0,
    ) -> Place | None:
        self.number += 1
        return self.held.hold(
            id=f"place-{self.number}",
            key=key or (flow, str(self.number).encode()),
            flow=flow,
            priority=priority,
            work_s=work_s,
            retry_count=retry_count,
            after_s=after_s,
            former=former,
            now=now,
        )

    def newcomer(
        self, flow: str = "new", priority: Priority = Priority.BATCH, now: float = 0.0
    ) -> Held:
        """What is before one who comes without a place."""
        return self.held.before(flow, priority, None, now)


@pytest.fixture
def line() -> Line:
    return Line()


# --- Moments --------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(0.05, 120.0)), max_size=20),
    st.integers(1, 5),
)
def test_no_two_are_told_the_same_moment(told: list[tuple[float, float]], times: int) -> None:
    line = Line()
    moments = set()
    for now, after_s in sorted(told):
        for _ in range(times):
            place = line.hold(now=now, after_s=after_s)
            moments.add(place.moment)
            assert place.returns_at - (now + after_s) <= 0.001 * line.number + 1e-6
            assert place.returns_at >= now + after_s - 1e-6
    assert len(moments) == line.number


def test_a_moment_is_free_again_when_its_place_is_gone(line: Line) -> None:
    """Not every number of milliseconds is the same again after it was seconds: 1.009 is not."""
    for after_s in (1.009, 1.009, 1.023, 2.01):
        place = line.hold(after_s=after_s)
        line.held.came(place)
        assert line.hold(after_s=after_s).moment == place.moment
        line.held = Reservations(places_max=1000)


# --- Who comes back -------------------------------------------------------------


def test_a_returner_is_known_by_its_request(line: Line) -> None:
    place = line.hold(key=KEY)
    assert line.held.find(KEY, "", 20.0) is place


def test_a_returner_is_known_by_its_place_whatever_it_sends(line: Line) -> None:
    place = line.hold(key=KEY)
    line.hold(key=("one", b"other"))
    assert line.held.find(("one", b"other"), place.id, 20.0) is place


def test_nobody_gets_the_place_of_another_caller(line: Line) -> None:
    place = line.hold(key=KEY)
    assert line.held.find(("two", b"body"), "", 20.0) is None
    assert line.held.find(("two", b"body"), place.id, 20.0) is None


def test_an_id_that_was_made_up_is_as_none(line: Line) -> None:
    place = line.hold(key=KEY)
    assert line.held.find(KEY, "made-up", 20.0) is place
    assert line.held.find(("one", b"other"), "made-up", 20.0) is None


def test_of_equal_requests_it_is_the_one_whose_moment_it_is(line: Line) -> None:
    places = [line.hold(key=KEY, after_s=after_s) for after_s in (20.0, 30.0, 40.0)]
    for now in (19.0, 21.9):
        assert line.held.find(KEY, "", now) is places[0]
    assert line.held.find(KEY, "", 29.0) is places[1]
    line.held.came(places[1])
    assert line.held.find(KEY, "", 31.0) is places[2]


def test_a_place_is_used_once(line: Line) -> None:
    place = line.hold(key=KEY)
    line.held.came(place)
    assert line.held.find(KEY, place.id, 20.0) is None
    assert len(line.held) == 0


@pytest.mark.parametrize("after_s", [1.0, 100.0])
def test_who_stays_away_loses_the_place_a_little_after_its_moment(
    line: Line, after_s: float
) -> None:
    place = line.hold(key=KEY, after_s=after_s)
    lost_at = place.returns_at + max(LATE_S, LATE_PART * after_s)
    assert line.held.find(KEY, "", lost_at - 0.01) is place
    assert line.held.find(KEY, place.id, lost_at + 0.01) is None
    assert line.newcomer(now=lost_at + 0.01) == NOTHING_HELD


# --- What is before whom --------------------------------------------------------


def test_nothing_is_before_anybody_while_no_place_is_held(line: Line) -> None:
    assert line.newcomer() == NOTHING_HELD


def test_held_work_counts_by_the_part_that_comes_back(line: Line) -> None:
    for retry_count in (0, 1, 2, 7, None):
        line.hold(retry_count=retry_count, work_s=10.0)
    rates = (*RETURNING, RETURNING[-1], RETURNING_UNKNOWN)
    held = line.newcomer()
    assert held.work_s == pytest.approx(10.0 * sum(rates))
    assert held.count == pytest.approx(sum(rates))


def test_before_a_newcomer_is_all_of_its_class_and_more_urgent(line: Line) -> None:
    for priority in Priority:
        line.hold(priority=priority, work_s=10.0 ** int(priority))
    works = [line.newcomer(priority=priority).work_s / RETURNING[0] for priority in Priority]
    assert works == pytest.approx([1.0, 11.0, 111.0])


def test_before_a_returner_are_only_those_who_were_refused_earlier(line: Line) -> None:
    places = [line.hold(work_s=10.0**number) for number in range(3)]
    before = [
        line.held.before("one", Priority.NORMAL, place, 0.0).work_s / RETURNING[0]
        for place in places
    ]
    assert before == pytest.approx([0.0, 1.0, 11.0])


def test_before_a_returner_are_none_who_are_less_urgent(line: Line) -> None:
    line.hold(priority=Priority.BATCH)
    place = line.hold()
    assert line.held.before("one", Priority.NORMAL, place, 0.0).work_s == 0.0


def test_seniority_is_kept_however_often_it_is_refused(line: Line) -> None:
    first = line.hold()
    line.hold()
    for _ in range(3):
        first = line.hold(former=first)
        assert line.held.before("one", Priority.NORMAL, first, 0.0) == Held()
    assert len(line.held) == 2


def test_its_own_flow_is_told_apart(line: Line) -> None:
    line.hold(flow="mine", work_s=1.0)
    line.hold(flow="other", work_s=10.0)
    held = line.newcomer(flow="mine")
    assert held.work_s == pytest.approx(11.0 * RETURNING[0])
    assert held.flow_work_s == pytest.approx(1.0 * RETURNING[0])


# --- How many come back ---------------------------------------------------------


def test_the_rate_of_return_learns_from_who_came(line: Line) -> None:
    for _ in range(100):
        line.held.came(line.hold(retry_count=2))
    line.hold(retry_count=2, work_s=1.0)
    assert RETURNING[2] < 0.9 < line.newcomer().work_s <= 1.0


def test_the_rate_of_return_learns_from_who_stayed_away(line: Line) -> None:
    for number in range(100):
        line.hold(now=100.0 * number)
    line.held.forget_late(1e6)
    line.hold(now=1e6, work_s=1.0)
    assert 0.0 <= line.newcomer(now=1e6).work_s < 0.1


def test_each_number_of_tries_has_its_own_rate(line: Line) -> None:
    for _ in range(100):
        line.held.came(line.hold(retry_count=None))
    line.hold(retry_count=0, work_s=1.0)
    assert line.newcomer().work_s == RETURNING[0]


def test_who_came_and_who_stayed_away_are_counted(line: Line) -> None:
    first = line.hold()
    line.hold()
    line.held.came(first)
    line.held.forget_late(1000.0)
    assert (line.held.returned, line.held.lost) == (1, 1)


# --- Bounds ---------------------------------------------------------------------


def test_no_more_places_are_held_than_may_be() -> None:
    line = Line(Reservations(places_max=2))
    first = line.hold()
    line.hold()
    assert line.try_hold() is None
    assert line.try_hold(former=first) is not None, "it has had one"
    assert len(line.held) == 2


def test_where_none_may_be_held_none_is() -> None:
    assert Line(Reservations(places_max=0)).try_hold() is None


def test_who_comes_back_at_once_again_and_again_does_not_fill_the_memory(line: Line) -> None:
    place = line.hold(after_s=120.0)
    for _ in range(10_000):
        place = line.hold(former=place, after_s=120.0)
    assert len(line.held) == 1
    assert len(line.held._lost) < 1000


MOVES = st.tuples(
    st.sampled_from(("refuse", "refuse", "return", "refuse again", "later")), st.integers(0, 59)
)


@given(st.lists(MOVES, max_size=60), st.integers(0, 8))
def test_after_any_history_the_sums_are_those_of_the_places(
    moves: list[tuple[str, int]], places_max: int
) -> None:
    line = Line(Reservations(places_max=places_max))
    now = 0.0
    known: list[Place] = []
    for move, number in moves:
        flow, priority, work_s = "xyz"[number % 3], Priority(number % 3), number / 7
        match move:
            case "refuse":
                place = line.try_hold(
                    flow=flow,
                    priority=priority,
                    work_s=work_s,
                    retry_count=(None, 0, 1, 5)[number % 4],
                    after_s=1.0 + number,
                    now=now,
                )
                known += [place] if place else []
            case "return" if known:
                line.held.came(known.pop(number % len(known)))
            case "refuse again" if known:
                former = known.pop(number % len(known))
                known.append(line.hold(flow=former.flow, former=former, after_s=5.0, now=now))
                assert known[-1].seniority == former.seniority
            case "later":
                now += number
                line.held.forget_late(now)
                known = [place for place in known if not place.gone]
        assert len(line.held) == len(known) <= places_max
        assert len({place.moment for place in known}) == len(known)
        for priority in Priority:
            # Younger than all: the long way must come to what the sums say.
            youngest = attrs.evolve(known[0], seniority=10**6) if known else None
            whole = line.held.before("x", priority, None, now)
            each = line.held.before("x", priority, youngest, now)
            assert attrs.astuple(whole) == pytest.approx(attrs.astuple(each), abs=1e-9)
    for place in known:
        assert line.held.find(place.key, place.id, now) is place
    line.held.forget_late(now + 1e6)
    assert line.newcomer(now=now + 1e6) == NOTHING_HELD
