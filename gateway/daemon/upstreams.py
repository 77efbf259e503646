"""From configured backends to upstreams, at the start and at each reload."""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.backends import kinds
from gateway.backends.http import HttpClient
from gateway.backends.llamacpp import LlamaCppBackend
from gateway.config.effective import contexts
from gateway.config.schema import Backend, Config
from gateway.core.clock import Clock
from gateway.pool.upstream import Upstream

DEFAULT_UPSTREAM: Final = "default"
"""The name of [backend] in logs and metrics."""

log = logging.getLogger("gateway.engine")


def backends(config: Config) -> Mapping[str, Backend]:
    """Name → what is configured of it, in the order in which they are asked."""
    return {DEFAULT_UPSTREAM: config.backend, **config.upstreams}


async def make(
    name: str, backend: Backend, config: Config, *, http: HttpClient, clock: Clock
) -> Upstream:
    """One upstream; asks an Ollama whether it is there when the kind is `auto`.

    Raises:
        ConfigError: The embedded engine has no model.
    """
    chosen = await kinds.choose(backend, config.embedded, http=http)
    made = kinds.make(
        chosen,
        embedded=config.embedded,
        contexts=contexts(config),
        http=http,
        limits=config.limits,
        clock=clock,
    )
    slots = kinds.slots(chosen, config.embedded)
    return Upstream(
        name=name,
        backend=made,
        slots=slots.first,
        slots_max=slots.most,
        offered=frozenset(made.canonical(model) for model in backend.models),
    )


def default_model(config: Config, upstreams: Iterable[Upstream]) -> str:
    """The configured one; with nothing but the embedded engine, the one model that it has."""
    if all(isinstance(upstream.backend, LlamaCppBackend) for upstream in upstreams):
        return config.embedded.model_name
    return config.generation.default_model


def warn_of_contexts(config: Config, upstreams: Iterable[Upstream]) -> None:
    if contexts(config) and all(upstream.backend.kind != "ollama" for upstream in upstreams):
        log.warning("models.*.num_ctx has no effect: no engine here is an Ollama")
