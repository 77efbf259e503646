"""One configured engine with its slots, its health and the models it offers and holds."""

from collections.abc import Mapping
from typing import Final

import attrs

from gateway.backends.base import InferenceBackend, Probe
from gateway.core.models import ModelInfo
from gateway.pool.breaker import Breaker

LOAD_S_MIN: Final = 0.2
"""A shorter load is none: the engine found the model in memory, and says how long it looked."""

_NAMES_MAX: Final = 256
"""Spellings of models that are remembered; callers can make up any number."""


@attrs.define(eq=False)
class Upstream:
    """Owns the count of its busy slots, and what is known of the models in its memory.

    A slot is taken only while `in_flight < slots`. After `resize` to less, more may
    be busy than there are, until the surplus has been given back.

    Attributes:
        slots: Requests that it may run at once, at least 1.
        slots_max: As many as may be found out to run at once; `slots` when the number
            is given.
        sure_slots: Without those that are only being tried: as many as work may be
            promised for.
        offered: When not empty, only these models (in the engine's spelling).
        models: By the engine's spelling; None until the engine was first asked.
    """

    name: str
    backend: InferenceBackend
    slots: int
    offered: frozenset[str] = frozenset()
    slots_max: int = attrs.field(
        kw_only=True, default=attrs.Factory(lambda self: self.slots, takes_self=True)
    )
    sure_slots: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.slots, takes_self=True)
    )
    breaker: Breaker = attrs.field(factory=Breaker)
    in_flight: int = 0
    models: Mapping[str, ModelInfo] | None = None
    version: str = ""
    _held: set[str] = attrs.field(init=False, factory=set)
    _names: dict[str, str] = attrs.field(init=False, factory=dict)

    @property
    def up(self) -> bool:
        """Whether requests may go there: it was found alive, and has not failed since."""
        return self.models is not None and self.breaker.closed

    @property
    def free(self) -> int:
        return max(0, self.slots - self.in_flight)

    def named(self, model: str) -> str:
        """The engine's spelling of a model's name."""
        name = self._names.get(model)
        if name is None:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            name = self._names[model] = self.backend.canonical(model)
        return name

    def serves(self, model: str) -> bool:
        """Whether it has the model; an engine that was never reached may have any."""
        name = self.named(model)
        if self.models is None:
            return not self.offered or name in self.offered
        return name in self.models

    def holds(self, model: str) -> bool:
        """Whether the model is in memory, as far as is known.

        An engine that does not tell is taken to hold all that it offers.
        """
        return self.named(model) in self._held

    def room_for(self, model: str) -> bool:
        """Whether a slot is free for it; one that is only being tried takes no other model.

        Or the trial would throw out the model of those that run beside it.
        """
        if self.in_flight < self.sure_slots:
            return True
        return self.in_flight < self.slots and self.holds(model)

    def take(self) -> None:
        assert self.in_flight < self.slots, f"{self.name} has no free slot"
        self.in_flight += 1

    def release(self) -> None:
        assert self.in_flight > 0, f"{self.name} has no slot to give back"
        self.in_flight -= 1

    def resize(self, slots: int, *, sure: int | None = None) -> None:
        """From now on so many may run at once; those that run go on.

        Args:
            sure: How many of them are not only being tried; None: all.
        """
        assert slots >= 1
        self.slots = slots
        self.sure_slots = slots if sure is None else sure

    def found(self, probe: Probe) -> None:
        """Take over what a health check has learned."""
        self.version = probe.version
        self.models = {
            model.id: model
            for model in probe.models
            if not self.offered or self.backend.canonical(model.id) in self.offered
        }
        self._held = {name for name, model in self.models.items() if model.loaded is not False}

    def ran(self, model: str, load_s: float | None) -> None:
        """A request was answered, or a load has ended: the model is in memory now.

        Args:
            load_s: How long loading it took; None where the engine doesn't say. A
                real load may have put others out, so they count as gone until a
                health check has seen them.
        """
        if load_s is not None and load_s >= LOAD_S_MIN:
            self._held.clear()
        self._held.add(self.named(model))

    def dropped(self, model: str) -> None:
        """The model was put out of memory."""
        self._held.discard(self.named(model))
