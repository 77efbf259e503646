from gateway.core.ticket import Priority
from gateway.scheduling.rules.priority import Priorities
from tests.scheduling.scenes import numbers, scene, waiting

RULE = Priorities(wait_max_s=30.0)


def test_the_most_urgent_class_present_goes_first() -> None:
    tickets = [
        waiting(1, priority=Priority.BATCH),
        waiting(2, priority=Priority.NORMAL),
        waiting(3, priority=Priority.INTERACTIVE),
        waiting(4, priority=Priority.INTERACTIVE),
    ]
    assert numbers(RULE.narrow(tickets, scene())) == [3, 4]
    assert numbers(RULE.narrow(tickets[:2], scene())) == [2]


def test_of_one_class_all_stay() -> None:
    tickets = [waiting(1, priority=Priority.BATCH), waiting(2, priority=Priority.BATCH)]
    assert numbers(RULE.narrow(tickets, scene())) == [1, 2]


def test_one_that_has_waited_too_long_counts_as_urgent() -> None:
    tickets = [
        waiting(1, priority=Priority.BATCH),
        waiting(2, priority=Priority.BATCH),
        waiting(3, priority=Priority.NORMAL),
    ]
    assert numbers(RULE.narrow(tickets, scene(now=31.0))) == [3]
    assert numbers(RULE.narrow(tickets, scene(now=31.5))) == [1, 3]
