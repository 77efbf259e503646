import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.fairness import Accounts

QUANTUM_S = 5.0


def make(*, flows_max: int = 100, window_s: float = 60.0) -> Accounts:
    return Accounts(quantum_s=QUANTUM_S, window_s=window_s, flows_max=flows_max)


def run(accounts: Accounts, flow: str, seconds: float, now: float = 0.0) -> None:
    accounts.arrived(flow, 1.0, now)
    accounts.charge(flow, seconds)
    accounts.settle(flow, seconds, seconds)
    accounts.left(flow, now)


def test_a_flow_is_charged_what_is_expected_and_then_what_was_measured() -> None:
    accounts = make()
    accounts.arrived("a", 2.0, 0.0)
    accounts.charge("a", 10.0)
    assert accounts.virtual_s("a") == 5.0
    accounts.settle("a", 10.0, 4.0)
    assert accounts.virtual_s("a") == 2.0


def test_a_heavier_flow_is_less_far_for_the_same_seconds() -> None:
    accounts = make()
    for flow, weight in (("light", 1.0), ("heavy", 4.0)):
        accounts.arrived(flow, weight, 0.0)
        accounts.charge(flow, 8.0)
    assert accounts.standing("heavy") < accounts.standing("light")


def test_one_that_leaves_without_having_run_owes_nothing() -> None:
    accounts = make()
    accounts.arrived("a", 1.0, 0.0)
    accounts.left("a", 1.0)
    assert accounts.virtual_s("a") == 0.0


def test_of_equals_the_one_granted_least_recently_is_first() -> None:
    accounts = make()
    for flow in ("a", "b", "c"):
        accounts.arrived(flow, 1.0, 0.0)
    for flow in ("b", "a"):
        accounts.charge(flow, 1.0)
    accounts.settle("a", 1.0, 0.0)
    accounts.settle("b", 1.0, 0.0)
    assert sorted("abc", key=accounts.standing) == ["c", "b", "a"]


def test_the_lead_is_in_seconds_of_the_slot_whatever_the_weight() -> None:
    accounts = make()
    accounts.arrived("a", 4.0, 0.0)
    accounts.charge("a", 8.0)
    assert accounts.lead_s("a", 1.0) == 4.0
    assert accounts.lead_s("never seen", 0.0) == 0.0


def test_idleness_earns_a_quantum_at_the_most() -> None:
    accounts = make()
    accounts.arrived("idle", 1.0, 0.0)
    accounts.arrived("busy", 1.0, 0.0)
    accounts.left("idle", 0.0)
    for _ in range(10):
        accounts.charge("busy", 10.0)
    accounts.arrived("idle", 1.0, 1.0)
    # The last grant began at 90.
    assert accounts.virtual_s("idle") == 90.0 - QUANTUM_S


def test_a_newcomer_starts_where_an_idle_flow_does() -> None:
    accounts = make()
    accounts.arrived("busy", 1.0, 0.0)
    for _ in range(10):
        accounts.charge("busy", 10.0)
    accounts.arrived("new", 1.0, 1.0)
    assert accounts.virtual_s("new") == accounts.virtual_s("never seen") == 90.0 - QUANTUM_S


def test_coming_back_does_not_forgive_what_was_used() -> None:
    accounts = make()
    accounts.arrived("other", 1.0, 0.0)
    run(accounts, "a", 30.0)
    accounts.arrived("a", 1.0, 1.0)
    assert accounts.virtual_s("a") == 30.0


def test_a_flow_with_something_waiting_is_not_moved_by_its_next_request() -> None:
    accounts = make()
    accounts.arrived("slow", 1.0, 0.0)
    run(accounts, "busy", 50.0)
    run(accounts, "busy", 50.0)
    accounts.arrived("slow", 1.0, 1.0)
    assert accounts.virtual_s("slow") == 0.0


def test_when_all_have_left_all_are_level() -> None:
    accounts = make()
    run(accounts, "a", 50.0)
    for flow in ("a", "b"):
        accounts.arrived(flow, 1.0, 1.0)
    assert accounts.virtual_s("a") == accounts.virtual_s("b")


# --- Shares -----------------------------------------------------------------


def test_alone_a_flow_has_everything() -> None:
    accounts = make()
    assert accounts.share("a", 3.0, 0.0) == 1.0
    accounts.arrived("a", 3.0, 0.0)
    assert accounts.share("a", 3.0, 0.0) == 1.0


def test_a_share_is_by_weight_against_all_that_are_active() -> None:
    accounts = make()
    accounts.arrived("a", 1.0, 0.0)
    accounts.arrived("b", 3.0, 0.0)
    assert accounts.share("a", 1.0, 1000.0) == 0.25
    assert accounts.share("b", 3.0, 1000.0) == 0.75
    assert accounts.share("new", 4.0, 1000.0) == 0.5


def test_one_that_has_left_is_counted_for_a_window() -> None:
    accounts = make()
    accounts.arrived("a", 1.0, 0.0)
    run(accounts, "b", 1.0, now=10.0)
    assert accounts.share("a", 1.0, 69.0) == 0.5
    assert accounts.share("a", 1.0, 70.0) == 1.0


def test_a_changed_weight_counts_from_the_next_request_on() -> None:
    accounts = make()
    accounts.arrived("a", 1.0, 0.0)
    accounts.arrived("b", 1.0, 0.0)
    accounts.arrived("b", 3.0, 0.0)
    assert accounts.share("a", 1.0, 0.0) == 0.25


# --- Bounds -----------------------------------------------------------------


def test_idle_flows_without_debt_are_forgotten() -> None:
    accounts = make()
    accounts.arrived("busy", 1.0, 0.0)
    run(accounts, "a", 1.0)
    accounts.charge("busy", 10.0)
    accounts.charge("busy", 10.0)
    accounts.share("busy", 1.0, 59.0)
    assert len(accounts) == 2
    accounts.share("busy", 1.0, 60.0)
    assert len(accounts) == 1


def test_a_debt_is_remembered_beyond_the_window_but_takes_no_share() -> None:
    accounts = make()
    accounts.arrived("busy", 1.0, 0.0)
    run(accounts, "a", 100.0)
    assert accounts.share("busy", 1.0, 200.0) == 1.0
    accounts.arrived("a", 1.0, 200.0)
    assert accounts.virtual_s("a") == 100.0
    assert accounts.share("busy", 1.0, 200.0) == 0.5


def test_an_unending_stream_of_names_is_bounded() -> None:
    accounts = make(flows_max=10)
    accounts.arrived("busy", 1.0, 0.0)
    for number in range(100):
        run(accounts, f"user {number}", 1.0)
    assert len(accounts) == 11
    assert accounts.share("busy", 1.0, 0.0) == pytest.approx(1 / 11)


Step = tuple[str, str, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "grant", "end", "leave"]),
        st.sampled_from("abc"),
        st.floats(0.0, 30.0),
    ),
    max_size=60,
)


@given(steps)
def test_in_any_history_time_only_moves_on_and_shares_are_shares(history: list[Step]) -> None:
    accounts = make(flows_max=2, window_s=20.0)
    waiting: dict[str, int] = dict.fromkeys("abc", 0)
    running: dict[str, list[float]] = {flow: [] for flow in "abc"}
    now = system_s = 0.0
    for what, flow, amount in history:
        now += amount / 3
        if what == "arrive":
            accounts.arrived(flow, 1.0 + amount, now)
            waiting[flow] += 1
        elif what == "grant" and waiting[flow]:
            accounts.charge(flow, amount)
            waiting[flow] -= 1
            running[flow].append(amount)
        elif what == "end" and running[flow]:
            accounts.settle(flow, running[flow].pop(), amount)
            accounts.left(flow, now)
        elif what == "leave" and waiting[flow]:
            accounts.left(flow, now)
            waiting[flow] -= 1
        start_s = accounts.virtual_s("never seen")
        assert start_s >= system_s
        system_s = start_s
        assert all(0.0 < accounts.share(name, 1.0, now) <= 1.0 for name in "abc")
        active = sum(1 for name in "abc" if waiting[name] or running[name])
        assert active <= len(accounts) <= active + 2
