"""Which requests are traced. Pure, but for the dice that it is given."""

from random import Random
from typing import Final

import attrs

from gateway.core.trace import RANDOM, SAMPLED, Trace, TraceContext

_PICKED_BY_BITS: Final = 64
"""Of a trace's id, from the right."""


class Tracing:
    """Gives each request a span of ours, and decides whether it is recorded.

    A trace that comes along is recorded if those before us do; of those that
    begin here a part is, picked by the id as OpenTelemetry's TraceIdRatioBased
    does, so that all who sample by the same ratio pick the same.
    """

    def __init__(self, *, sample_ratio: float, dice: Random) -> None:
        self._bound = round(sample_ratio * (1 << _PICKED_BY_BITS))
        self._dice = dice

    def begin(self, came: TraceContext | None) -> Trace:
        """The trace of a request that begins now.

        Args:
            came: What its client says.
        """
        span_id = self.new_span_id()
        if came is not None:
            return Trace(attrs.evolve(came, span_id=span_id), ours=True, parent_id=came.span_id)
        number = self._dice.getrandbits(128) or 1
        picked = number % (1 << _PICKED_BY_BITS) < self._bound
        flags = RANDOM | SAMPLED if picked else RANDOM
        return Trace(TraceContext(f"{number:032x}", span_id, flags), ours=True)

    def new_span_id(self) -> str:
        return f"{self._dice.getrandbits(64) or 1:016x}"
