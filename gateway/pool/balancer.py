"""Which of several free upstreams takes the next request."""

from collections.abc import Iterable

from gateway.pool.upstream import Upstream


def choose(upstreams: Iterable[Upstream]) -> Upstream | None:
    """The least busy of those with a free slot, as a share of its slots; the first among equals."""
    best: Upstream | None = None
    for upstream in upstreams:
        if upstream.in_flight < upstream.slots and (
            best is None or upstream.in_flight * best.slots < best.in_flight * upstream.slots
        ):
            best = upstream
    return best
