"""Which of several free upstreams takes the next request."""

from collections.abc import Callable, Iterable

from gateway.pool.upstream import Upstream


def choose(
    upstreams: Iterable[Upstream],
    model: str,
    cached: Callable[[Upstream], int] | None = None,
) -> Upstream | None:
    """Of those with a free slot: one that holds the model, has read most of the prompt, is idle.

    In this order: a load takes seconds to minutes, a prompt seconds. Idle means the
    least busy as a share of its slots; the first among equals.

    Args:
        cached: How much of the prompt an upstream need not read again.
    """
    free = [upstream for upstream in upstreams if upstream.room_for(model)]
    if len(free) < 2:
        return free[0] if free else None

    def merit(upstream: Upstream) -> tuple[bool, int, float]:
        return (
            upstream.holds(model),
            0 if cached is None else cached(upstream),
            -upstream.in_flight / upstream.slots,
        )

    return max(free, key=merit)
