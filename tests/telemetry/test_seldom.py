from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.seldom import Seldom


def test_the_first_five_in_a_second_get_through() -> None:
    seldom = Seldom()
    answers = [seldom.admit("x", 0.1 * number) for number in range(9)]
    assert answers == [0, 0, 0, 0, 0, None, None, None, None]


def test_the_next_one_after_a_second_tells_how_many_were_kept_quiet() -> None:
    seldom = Seldom()
    for _ in range(9):
        seldom.admit("x", 0.0)
    assert seldom.admit("x", 1.0) == 4
    assert seldom.admit("x", 1.0) == 0


def test_kinds_do_not_disturb_each_other() -> None:
    seldom = Seldom(burst=1)
    assert [seldom.admit(kind, 0.0) for kind in ("x", "y", "x")] == [0, 0, None]


def test_what_is_remembered_is_bounded() -> None:
    seldom = Seldom(burst=1, kinds_max=2)
    answers = [seldom.admit(kind, 0.0) for kind in ("x", "y", "z", "y", "x")]
    assert answers == [0, 0, 0, None, 0]


@given(gaps=st.lists(st.floats(0.0, 0.5), max_size=100))
def test_each_one_is_let_through_or_counted(gaps: list[float]) -> None:
    seldom, now, through, counted = Seldom(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        answer = seldom.admit("x", now)
        if answer is not None:
            through, counted = through + 1, counted + answer
    told = seldom.admit("x", now + 1.0)
    assert told is not None
    assert through + counted + told == len(gaps)
