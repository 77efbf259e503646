"""How long a request takes in a slot, learned from those that ended; and what follows from it."""

import math

import attrs

from gateway.core.ticket import Load


@attrs.define(eq=False)
class ServiceTime:
    """An exponentially weighted mean, seconds; starts from a stated prior.

    The prior is what a 3B model on four ARM cores takes for a short answer.
    """

    mean_s: float = 5.0
    weight: float = 0.2
    """Of the newest observation: the last ten make nine tenths of the mean."""

    def observe(self, seconds: float) -> None:
        self.mean_s += self.weight * (seconds - self.mean_s)


def expected_wait_s(load: Load) -> float:
    """Until a request that arrives now would get a slot, first come, first served."""
    if load.running < load.slots and not load.waiting:
        return 0.0
    return (load.waiting + 1) * load.service_time_s / max(load.slots, 1)


def retry_after_s(load: Load, longest_s: float) -> float:
    """When a refused caller should come back: when half of the queue will have gone.

    Whole seconds from 1 to `longest_s`. Coming back as soon as one place is free
    would make all refused callers come back together and be refused again.
    """
    half_s = math.ceil(expected_wait_s(load) / 2)
    return float(min(max(half_s, 1), max(int(longest_s), 1)))
