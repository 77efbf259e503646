from gateway.core.ticket import Ticket
from gateway.scheduling.rules.prefix_affinity import GAIN_CHARS, PrefixAffinity
from tests.scheduling.scenes import numbers, scene, waiting

HELD = 4 * GAIN_CHARS


def three(arrived_at: float = 0.0, session: str = "") -> list[Ticket]:
    return [waiting(n, arrived_at=arrived_at, session=session) for n in range(3)]


def test_the_one_goes_of_which_most_is_held() -> None:
    kept = PrefixAffinity(20.0).narrow(three(), scene(cached={0: 300, 1: HELD, 2: 600}))
    assert numbers(kept) == [1]


def test_a_small_gain_is_no_reason() -> None:
    kept = PrefixAffinity(20.0).narrow(three(), scene(cached={1: GAIN_CHARS - 1}))
    assert numbers(kept) == [0, 1, 2]
    kept = PrefixAffinity(20.0).narrow(three(), scene(cached={1: HELD, 2: HELD - GAIN_CHARS + 1}))
    assert numbers(kept) == [1, 2]


def test_with_nothing_held_all_stay() -> None:
    assert numbers(PrefixAffinity(20.0).narrow(three(), scene())) == [0, 1, 2]


def test_one_that_was_passed_over_too_long_goes() -> None:
    tickets = [waiting(0, arrived_at=0.0), waiting(1, arrived_at=0.0), waiting(2, arrived_at=15.0)]
    rule = PrefixAffinity(20.0)
    assert numbers(rule.narrow(tickets, scene(now=20.0, cached={1: HELD}))) == [1]
    assert numbers(rule.narrow(tickets, scene(now=20.1, cached={1: HELD}))) == [0]


def test_then_all_are_patient_again() -> None:
    rule = PrefixAffinity(20.0)
    tickets = three()
    late = rule.narrow(tickets, scene(now=100.0, cached={1: HELD}))
    assert numbers(late) == [0, 2]
    rule.granted(late[0], now=100.0, load_s=0.0, cached_chars=0)
    assert numbers(rule.narrow(tickets[1:], scene(now=119.0, cached={2: HELD}))) == [2]
    assert numbers(rule.narrow(tickets[1:], scene(now=121.0, cached={2: HELD}))) == [1]


def test_grants_of_what_is_held_take_no_patience() -> None:
    rule = PrefixAffinity(20.0)
    for number in range(10, 20):
        tickets = [waiting(0, arrived_at=0.0), waiting(number, arrived_at=0.0)]
        kept = rule.narrow(tickets, scene(now=number, cached={number: HELD}))
        assert numbers(kept) == [number]
        rule.granted(kept[0], now=number, load_s=0.0, cached_chars=0)
    assert numbers(rule.narrow(tickets, scene(now=20.1, cached={19: HELD}))) == [0]


def test_looking_changes_nothing() -> None:
    rule = PrefixAffinity(20.0)
    for _ in range(3):
        assert numbers(rule.narrow(three(), scene(now=30.0, cached={1: HELD}))) == [0, 2]


def test_a_session_breaks_a_tie_and_no_more() -> None:
    rule = PrefixAffinity(20.0)
    rule.granted(waiting(9, session="s"), now=0.0, load_s=0.0, cached_chars=0)
    tickets = [waiting(0, session="t"), waiting(1, session="s"), waiting(2)]
    assert numbers(rule.narrow(tickets, scene())) == [1]
    assert numbers(rule.narrow(tickets, scene(cached={0: HELD}))) == [0]
    assert numbers(rule.narrow(tickets, scene(cached={0: HELD, 1: HELD}))) == [1]


def test_a_session_is_not_preferred_for_ever() -> None:
    rule = PrefixAffinity(20.0)
    rule.granted(waiting(9, session="s"), now=0.0, load_s=0.0, cached_chars=0)
    tickets = [waiting(0, session="t"), waiting(1, session="s")]
    assert numbers(rule.narrow(tickets, scene(now=30.0))) == [0]


def test_no_session_is_no_session() -> None:
    rule = PrefixAffinity(20.0)
    rule.granted(waiting(9), now=0.0, load_s=0.0, cached_chars=0)
    tickets = [waiting(0, session="t"), waiting(1)]
    assert numbers(rule.narrow(tickets, scene())) == [0, 1]
