"""What the scheduler knows of one upstream: what its slots hold, and how many it has. Pure."""

import math
from collections.abc import Set

from gateway.core.ticket import Chain
from gateway.pool.upstream import Upstream
from gateway.scheduling.prefix import HeldPrompts
from gateway.scheduling.slots import Occupancy, SlotLearner


class Engine:
    """One upstream, as it has been used.

    Attributes:
        learner: Finds out the number of its slots; None where the number is given.
        observed_at: When prices last learned from an answer of it.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.occupancy = Occupancy()
        self.learner = (
            SlotLearner(slots_max=upstream.slots_max)
            if upstream.slots_max > upstream.slots
            else None
        )
        self.observed_at = -math.inf
        self._held = HeldPrompts(slots=upstream.slots)

    def cached_chars(self, model: str, chain: Chain) -> int:
        """How much of a prompt one of its slots holds. The model in the engine's spelling."""
        return self._held.cached_chars(model, chain)

    def marks(self, model: str) -> Set[int]:
        """The marks of all prompts that its slots hold of a model."""
        return self._held.marks(model)

    def took(self, model: str, chain: Chain, *, swaps: bool) -> int:
        """A request has begun; how much of its prompt was there."""
        self._held.slots = self.upstream.slots
        if swaps:
            self._held.forget_all()
        if not chain:
            return 0  # Vectors, or a load: what slots hold stays there.
        cached = self._held.cached_chars(model, chain)
        self._held.ran(model, chain)
        return cached

    def lost(self) -> None:
        """It was gone: nobody knows what it holds when it is back."""
        self._held.forget_all()
