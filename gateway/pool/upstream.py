"""One configured engine with its slots, its health and the models it offers."""

from collections.abc import Mapping

import attrs

from gateway.backends.base import InferenceBackend, ModelInfo, Probe
from gateway.pool.breaker import Breaker


@attrs.define(eq=False)
class Upstream:
    """Owns the count of its busy slots: 0 <= in_flight <= slots, always.

    Attributes:
        offered: When not empty, only these models (in the engine's spelling).
        models: By the engine's spelling; None until the engine was first asked.
    """

    name: str
    backend: InferenceBackend
    slots: int
    offered: frozenset[str] = frozenset()
    breaker: Breaker = attrs.field(factory=Breaker)
    in_flight: int = 0
    models: Mapping[str, ModelInfo] | None = None
    version: str = ""

    @property
    def up(self) -> bool:
        """Whether requests may go there: it was found alive, and has not failed since."""
        return self.models is not None and self.breaker.closed

    @property
    def free(self) -> int:
        return self.slots - self.in_flight

    def serves(self, model: str) -> bool:
        """Whether it has the model; an engine that was never reached may have any."""
        name = self.backend.canonical(model)
        if self.models is None:
            return not self.offered or name in self.offered
        return name in self.models

    def take(self) -> None:
        assert self.in_flight < self.slots, f"{self.name} has no free slot"
        self.in_flight += 1

    def release(self) -> None:
        assert self.in_flight > 0, f"{self.name} has no slot to give back"
        self.in_flight -= 1

    def found(self, probe: Probe) -> None:
        """Take over what a health check has learned."""
        self.version = probe.version
        self.models = {
            model.id: model
            for model in probe.models
            if not self.offered or self.backend.canonical(model.id) in self.offered
        }
