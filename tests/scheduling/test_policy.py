from gateway.scheduling.policy import FirstComeFirstServed
from tests.engines import ticket


def test_the_earliest_runnable_ticket_goes_first_whatever_the_order_they_stand_in() -> None:
    late, early, blocked = ticket(5), ticket(2), ticket(1, model="busy")
    chosen = FirstComeFirstServed().choose([late, early, blocked], lambda t: t.model != "busy")
    assert chosen is early


def test_nobody_goes_when_nobody_can() -> None:
    assert FirstComeFirstServed().choose([ticket(1)], lambda _: False) is None
    assert FirstComeFirstServed().choose([], lambda _: True) is None
