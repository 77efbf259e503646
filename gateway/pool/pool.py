"""All upstreams, seen from the model that a request wants."""

from collections.abc import Callable, Collection, Sequence

import attrs

from gateway.core.errors import ModelNotFound, UpstreamUnreachable
from gateway.core.models import ModelInfo
from gateway.pool import balancer
from gateway.pool.catalogue import Catalogue
from gateway.pool.upstream import Upstream

NOBODY: Collection[str] = frozenset()


@attrs.define(eq=False)
class Pool:
    """Answers who could run a model, and tells `listeners` when that may have changed."""

    upstreams: Sequence[Upstream]
    catalogue: Catalogue = attrs.field(factory=Catalogue)
    retry_after_s: float = 2.0
    """When an engine that is down is worth another try: the health check asks each second."""
    listeners: list[Callable[[], None]] = attrs.field(factory=list)

    def serving(self, model: str, tried: Collection[str] = NOBODY) -> list[Upstream]:
        """Upstreams that could run the model now, slots free or not."""
        return [
            upstream
            for upstream in self.upstreams
            if upstream.up and upstream.name not in tried and upstream.serves(model)
        ]

    @property
    def any_free(self) -> bool:
        """Whether any slot at all is free."""
        return any(upstream.free > 0 for upstream in self.upstreams)

    def free_for(
        self,
        model: str,
        tried: Collection[str] = NOBODY,
        cached: Callable[[Upstream], int] | None = None,
    ) -> Upstream | None:
        """An upstream with a free slot for the model, or None. Takes nothing.

        Args:
            cached: How much of the prompt an upstream need not read again.
        """
        return balancer.choose(self.serving(model, tried), model, cached)

    def require(self, model: str, tried: Collection[str] = NOBODY) -> list[Upstream]:
        """As `serving`, at least one.

        Raises:
            ModelNotFound: Nobody has this model.
            UpstreamUnreachable: Those who have it, or might, are down.
        """
        serving = self.serving(model, tried)
        if serving:
            return serving
        if any(upstream.serves(model) for upstream in self.upstreams):
            raise UpstreamUnreachable(
                "The model's backend does not answer at the moment.",
                retry_after_s=self.retry_after_s,
            )
        raise ModelNotFound(self._not_found(model), param="model")

    def models(self) -> list[ModelInfo]:
        """Every model once, in the order of the upstreams."""
        found: dict[str, ModelInfo] = {}
        for upstream in self.upstreams:
            for name, info in (upstream.models or {}).items():
                found.setdefault(name, info)
        return list(found.values())

    def listed(self) -> list[ModelInfo]:
        """Every name that callers may ask for and that somebody has a model for."""
        return self.catalogue.listed(self.models(), self._find)

    def change(self, upstreams: Sequence[Upstream], catalogue: Catalogue) -> None:
        """From now on there are these. What runs on one that is gone goes on there."""
        self.upstreams = upstreams
        self.catalogue = catalogue
        self.changed()

    def changed(self) -> None:
        """To be called when an upstream went up or down, or its models changed."""
        for listener in self.listeners:
            listener()

    def _find(self, model: str) -> ModelInfo | None:
        """The first upstream's that has it."""
        for upstream in self.upstreams:
            if info := (upstream.models or {}).get(upstream.named(model)):
                return info
        return None

    def _not_found(self, model: str) -> str:
        """Names what there is. What was asked for is the caller's own text, and is not repeated."""
        missing = "There is no such model here."
        if model in self.catalogue.aliases.values():
            missing = f"{model} is not installed here, which is what this name stands for."
        names = [info.id for info in self.listed()]
        offered = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        return f"{missing} " + (f"Models: {offered}." if names else "No model is installed.")
