from gateway.core.ticket import Ticket
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.rules.shares import Fairest, Shares
from tests.scheduling.scenes import accounts_of, numbers, scene, waiting

RULE = Shares(quantum_s=5.0, loads=4.0)


def one_each(**models: str) -> list[Ticket]:
    """A ticket of each flow, for the model that it names."""
    return [waiting(n, flow=flow, model=model) for n, (flow, model) in enumerate(models.items())]


def test_flows_within_a_quantum_of_the_least_stay() -> None:
    accounts = accounts_of(a=20.0, b=25.0, c=25.1)
    kept = RULE.narrow(one_each(a="m", b="m", c="m"), scene(accounts=accounts))
    assert numbers(kept) == [0, 1]


def test_a_flow_that_has_nothing_waiting_holds_up_nobody() -> None:
    accounts = accounts_of(a=0.0, b=20.0, c=21.0)
    assert numbers(RULE.narrow(one_each(b="m", c="m"), scene(accounts=accounts))) == [0, 1]


def test_the_quantum_is_in_seconds_of_the_slot_whatever_the_weights() -> None:
    for weight in (0.01, 1.0, 100.0):
        accounts = Accounts(quantum_s=5.0)
        for flow, seconds in (("a", 10.0), ("b", 14.0), ("c", 16.0)):
            accounts.arrived(flow, weight, 0.0)
            accounts.charge(flow, seconds)
        kept = RULE.narrow(one_each(a="m", b="m", c="m"), scene(accounts=accounts))
        assert numbers(kept) == [0, 1]


def test_one_who_is_a_few_loads_ahead_stays_if_the_others_would_need_one() -> None:
    tickets = one_each(behind="cold", ahead="hot")
    for lead_s, kept in ((19.0, [0, 1]), (21.0, [0])):
        accounts = accounts_of(behind=0.0, ahead=lead_s)
        now = scene(loaded=["hot"], load_s=5.0, accounts=accounts)
        assert numbers(RULE.narrow(tickets, now)) == kept
        assert numbers(Shares(5.0).narrow(tickets, now)) == [0]


def test_nobody_stays_for_a_load_that_would_be_the_same() -> None:
    accounts = accounts_of(behind=0.0, ahead=10.0)
    tickets = one_each(behind="cold", ahead="cold")
    assert numbers(RULE.narrow(tickets, scene(loaded=[], accounts=accounts))) == [0]


def test_in_the_end_the_least_far_goes() -> None:
    accounts = accounts_of(a=3.0, b=1.0, c=2.0)
    tickets = [*one_each(a="m", b="m", c="m"), waiting(7, flow="b")]
    assert numbers(Fairest().narrow(tickets, scene(accounts=accounts))) == [1, 7]


def test_of_equals_the_one_granted_least_recently_goes() -> None:
    accounts = accounts_of(b=1.0, a=1.0)
    tickets = one_each(a="m", b="m")
    assert numbers(Fairest().narrow(tickets, scene(accounts=accounts))) == [1]


def test_of_equals_that_were_never_granted_the_one_that_came_first_goes() -> None:
    assert numbers(Fairest().narrow(one_each(z="m", a="m"), scene())) == [0]
