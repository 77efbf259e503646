"""Which kinds of backend there are, how each is made, and how `auto` becomes one of them."""

import logging
from collections.abc import Mapping
from typing import Final

import attrs

from gateway.backends import llamacpp
from gateway.backends.base import InferenceBackend
from gateway.backends.echo import EchoBackend
from gateway.backends.http import HttpClient, endpoint
from gateway.backends.llamacpp import LlamaCppBackend
from gateway.backends.ollama import OllamaBackend
from gateway.backends.openai import OpenAIBackend
from gateway.config.schema import Backend, BackendKind, Embedded, Limits
from gateway.core.clock import Clock
from gateway.core.errors import BackendError, RequestTimeout

AUTO_TIMEOUT_S: Final = 1.0
"""How long `auto` waits for an Ollama; one on this machine answers in milliseconds."""

ECHO_SLOTS: Final = 8

LEARNED_SLOTS_MAX: Final[Mapping[str, int]] = {"ollama": 8, "openai": 32}
"""As many as may be found out to run at once, where the engine does not tell: Ollama's number
is OLLAMA_NUM_PARALLEL, 1 by default, and vLLM's --max-num-seqs, 256, says little of its worth."""

_log = logging.getLogger("gateway.engine")


@attrs.frozen
class Slots:
    """Requests that a backend runs at once.

    Attributes:
        first: To begin with.
        most: As many as may be found out; the same as `first` where nothing has to be.
    """

    first: int
    most: int


def slots(backend: Backend, embedded: Embedded) -> Slots:
    """What is configured, else what the kind tells. `auto` has to be chosen first."""
    match backend:
        case Backend(slots=int(count)):
            return Slots(count, count)
        case Backend(kind="llamacpp"):
            return Slots(embedded.slots, embedded.slots)
        case Backend(kind="echo"):
            return Slots(ECHO_SLOTS, ECHO_SLOTS)
        case _:
            return Slots(1, LEARNED_SLOTS_MAX[backend.kind])


def make(
    backend: Backend,
    *,
    embedded: Embedded,
    contexts: Mapping[str, int],
    http: HttpClient,
    limits: Limits,
    clock: Clock,
) -> InferenceBackend:
    """The driver of one configured backend, whose kind has been chosen.

    Args:
        contexts: Model → tokens to allocate for it; Ollama's alone.

    Raises:
        ConfigError: The embedded engine has no model.
    """
    match backend.kind:
        case "ollama":
            return OllamaBackend(http=http, url=backend.url, limits=limits, contexts=contexts)
        case "openai":
            return OpenAIBackend(http=http, url=backend.url, api_key=backend.api_key, limits=limits)
        case "llamacpp":
            return LlamaCppBackend(embedded=embedded, http=http, limits=limits, clock=clock)
        case "echo":
            return EchoBackend(clock=clock, models=backend.models)
        case "auto":
            raise AssertionError("choose() comes first")


async def choose(backend: Backend, embedded: Embedded, *, http: HttpClient) -> Backend:
    """The same backend with a kind that can be made; says in the log what `auto` became."""
    if backend.kind != "auto":
        return backend
    chosen, reason = await choose_auto(backend.url, embedded, http=http)
    _log.info("%s", reason)
    return attrs.evolve(backend, kind=chosen)


async def choose_auto(url: str, embedded: Embedded, *, http: HttpClient) -> tuple[BackendKind, str]:
    """An Ollama that answers, else the embedded engine, else the Ollama that may come yet.

    Returns:
        The kind, and why, in a sentence for the terminal.
    """
    if await _is_ollama(url, http=http):
        return "ollama", f"an Ollama answers at {url}"
    missing = llamacpp.available(embedded)
    if missing is None:
        return "llamacpp", f"no Ollama answers at {url}; serving the embedded model"
    return "ollama", f"no Ollama answers at {url} yet; waiting for it. {missing}"


async def _is_ollama(url: str, *, http: HttpClient) -> bool:
    try:
        answer = await http.get_json(endpoint(url, "/api/version"), timeout_s=AUTO_TIMEOUT_S)
    except (BackendError, RequestTimeout):
        return False
    return isinstance(answer, dict) and "version" in answer
