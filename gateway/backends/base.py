"""What every engine looks like from above: the one seam towards models.

A backend drives one engine. It opens a request and hands out its events in
batches, one batch for each read from the network, so that a burst of tokens
costs one turn through the layers and one write. It knows nothing of queues,
slots or callers.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs

from gateway.backends.tokenizing import Tokenizer
from gateway.core.messages import (
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    Request,
)
from gateway.core.models import ModelInfo

LOAD_TIME_MAX_S: Final = 600.0
"""Reading a model from a slow disk takes minutes; a load that is cut off starts over."""


@attrs.frozen
class Probe:
    """A sign of life.

    Attributes:
        models: All that the engine offers now.
        version: The engine's own, "" when it doesn't say.
    """

    models: tuple[ModelInfo, ...]
    version: str = ""


class EventStream(Protocol):
    """One running request at an engine."""

    @property
    def ends(self) -> Sequence[Finished]:
        """The `Finished` that were handed out so far, one for each whole answer."""
        ...

    async def read(self) -> Sequence[Event]:
        """The next events, at least one; empty only after `Finished` was handed out.

        One that was cancelled may be called again, and nothing is lost.

        Raises:
            UpstreamDisconnected, UpstreamBadResponse, UpstreamFailed: The answer
                broke. An answer that ends without a sign of its end has broken.
            UpstreamStalled: Silent for longer than the stall timeout.
            RequestTimeout: Silent for longer than the first-byte timeout.
        """
        ...


class InferenceBackend(Protocol):
    """The driver of one engine."""

    @property
    def kind(self) -> str:
        """ollama, openai, llamacpp or echo."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What it tells of its vocabulary; None where it tells nothing."""
        ...

    def canonical(self, model: str) -> str:
        """The engine's spelling of a model's name (`llama3.2` is `llama3.2:latest` to Ollama)."""
        ...

    def unsupported(self, request: Request) -> tuple[str, ...]:
        """Names of `request.params` that this engine can't honour."""
        ...

    def open(self, request: GenerateRequest) -> AbstractAsyncContextManager[EventStream]:
        """Run one answer (whatever `request.n` says) for as long as the block lasts.

        It answers the conversation, or continues the one prompt that the request has.

        Entering sends the request and waits for the engine's status; leaving
        early closes the connection, which makes the engine stop.

        Raises, on entering:
            UpstreamUnreachable: No connection within the connect timeout.
            UpstreamDisconnected: Closed before the status; `untouched` is set.
            UpstreamBusy: The engine refuses for now.
            UpstreamFailed, UpstreamBadResponse: Any other status, a redirect, garbage.
            ModelNotFound, ContextLengthExceeded, BackendRefusedRequest: As it says.
            RequestTimeout: Nothing came within the first-byte timeout.
        """
        ...

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """A vector for each input, in order; those of many inputs by several calls of the engine.

        Being cancelled closes the connection, which makes the engine stop.

        Raises:
            As `open` on entering. What is wrong with one input fails all of them, as
            ContextLengthExceeded, InvalidRequest or BackendRefusedRequest.
        """
        ...

    async def probe(self) -> Probe:
        """Ask for a sign of life and the list of models; short timeout.

        Raises:
            BackendError: There is none.
        """
        ...

    async def describe(self, model: str) -> ModelInfo:
        """All that the engine tells of one model. Raises as `probe`, and ModelNotFound."""
        ...

    async def load(self, model: str) -> None:
        """Bring the model into memory; returns when it is there, also where it was before.

        An engine that has its models in memory from the start has nothing to do.
        Being cancelled closes the connection, which makes the engine give it up.

        Raises:
            As `open` on entering; RequestTimeout after LOAD_TIME_MAX_S.
        """
        ...

    async def unload(self, model: str) -> None:
        """Put the model out of memory; what runs on it ends first.

        Raises:
            NotSupported: It keeps what it has in memory.
            As `probe`.
        """
        ...

    async def close(self) -> None:
        """Give back connections and children."""
        ...


def unsupported_as_written(backend: InferenceBackend, request: Request) -> tuple[str, ...]:
    """What an engine can't honour of a request, each by the name that its caller gave it."""
    names = backend.unsupported(request)
    return tuple(request.wire_names.get(name, name) for name in names)
