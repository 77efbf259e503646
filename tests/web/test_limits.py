import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import Limits
from gateway.web.limits import Admission, ConnectionTable, Verdict

HEAD_TIMEOUT_S = 10.0


def table(*, most: int = 2, reserved: int = 1, per_address: int = 64) -> ConnectionTable[str]:
    limits = Limits(
        connections_max=most,
        connections_reserved=reserved,
        connections_per_address_max=per_address,
    )
    return ConnectionTable(limits, HEAD_TIMEOUT_S)


def busy(connections: ConnectionTable[str], *names: str) -> None:
    """Connections that have sent a request."""
    for name in names:
        connections.admit(name, "127.0.0.1", 0.0)
        connections.head_complete(name)


def test_when_all_are_taken_the_oldest_without_a_head_gives_way() -> None:
    connections = table(most=3)
    connections.admit("a", "127.0.0.1", 0.0)
    busy(connections, "b")
    connections.admit("c", "127.0.0.1", 1.0)
    assert connections.admit("d", "127.0.0.1", 2.0) == Admission(Verdict.SERVED, "a")
    assert len(connections) == 3


def test_when_all_are_busy_the_reserve_answers_health() -> None:
    connections = table()
    busy(connections, "a", "b")
    assert connections.admit("c", "127.0.0.1", 0.0) == Admission(Verdict.HEALTH_ONLY)


def test_in_a_full_reserve_too_the_oldest_without_a_head_gives_way() -> None:
    connections = table()
    busy(connections, "a", "b")
    connections.admit("c", "127.0.0.1", 0.0)
    assert connections.admit("d", "127.0.0.1", 1.0) == Admission(Verdict.HEALTH_ONLY, "c")


def test_beyond_the_reserve_is_refused_and_not_counted() -> None:
    connections = table()
    busy(connections, "a", "b", "c")
    assert connections.admit("d", "127.0.0.1", 0.0) == Admission(Verdict.REFUSED)
    assert "d" not in connections
    connections.forget("d")
    assert len(connections) == 3


def test_a_connection_that_ends_makes_room() -> None:
    connections = table(reserved=0)
    busy(connections, "a", "b")
    connections.forget("a")
    assert connections.admit("c", "127.0.0.1", 0.0) == Admission(Verdict.SERVED)


@pytest.mark.parametrize(
    ("one", "other", "third"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("fe80::1%eth0", "fe80::2%eth0", "10.0.0.2"),
    ],
)
def test_an_address_holds_so_many_and_no_more(one: str, other: str, third: str) -> None:
    connections = table(most=10, per_address=1)
    assert connections.admit("a", one, 0.0).verdict is Verdict.SERVED
    assert connections.admit("b", other, 0.0) == Admission(Verdict.ADDRESS_REFUSED)
    assert connections.admit("c", third, 0.0).verdict is Verdict.SERVED
    connections.forget("a")
    assert connections.admit("d", other, 0.0).verdict is Verdict.SERVED


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_loopback_is_exempt(address: str) -> None:
    connections = table(most=10, per_address=1)
    for name in "abc":
        assert connections.admit(name, address, 0.0).verdict is Verdict.SERVED


def test_who_sends_no_head_in_time_is_given_out_once_oldest_first() -> None:
    connections = table(most=10)
    connections.admit("a", "", 0.0)
    connections.admit("b", "", 1.0)
    connections.admit("c", "", 2.0)
    busy(connections, "d")
    assert connections.next_deadline_at == 10.0
    assert connections.take_overdue(9.9) == []
    assert connections.take_overdue(11.0) == ["a", "b"]
    assert connections.take_overdue(11.0) == []
    assert connections.next_deadline_at == 12.0
    assert len(connections) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "head", "forget", "overdue"]),
            st.integers(0, 9),
            st.sampled_from(["127.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1"]),
        )
    )
)
def test_no_sequence_breaks_a_bound_or_loses_count(
    moves: list[tuple[str, int, str]],
) -> None:
    connections = table(most=3, reserved=2, per_address=2)
    held: dict[str, str] = {}
    for now, (move, number, address) in enumerate(moves):
        name = f"{now}" if move == "admit" else next(iter(held), "")
        if len(held) > number:
            name = name if move == "admit" else list(held)[number]
        match move:
            case "admit":
                admission = connections.admit(name, address, float(now))
                if admission.evicted is not None:
                    del held[admission.evicted]
                if admission.verdict not in (Verdict.REFUSED, Verdict.ADDRESS_REFUSED):
                    held[name] = address
            case "head":
                connections.head_complete(name)
            case "forget":
                connections.forget(name)
                held.pop(name, None)
            case "overdue":
                for overdue in connections.take_overdue(float(now)):
                    assert overdue in held
        assert len(connections) == len(held) <= 5
        for remote in ("10.0.0.1", "10.0.0.2", "2001:db8::1"):
            assert list(held.values()).count(remote) <= 2
    for name in held:
        connections.forget(name)
    assert len(connections) == 0
    assert not connections._per_address
    assert not connections._reserve
    assert not connections._deadlines
