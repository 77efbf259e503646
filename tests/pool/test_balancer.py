from gateway.pool.balancer import choose
from tests.engines import upstream


def test_nobody_free_is_nobody_chosen() -> None:
    busy = upstream(slots=1)
    busy.take()
    assert choose([busy]) is None
    assert choose([]) is None


def test_the_least_busy_by_share_of_its_slots_is_chosen() -> None:
    small, large = upstream("small", slots=2), upstream("large", slots=10)
    small.take()
    for _ in range(4):
        large.take()
    assert choose([small, large]) is large


def test_the_first_among_equals_is_chosen() -> None:
    first, second = upstream("first"), upstream("second")
    assert choose([first, second]) is first
