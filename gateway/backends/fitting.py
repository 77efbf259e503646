"""An answer as long as there is room for.

vLLM and others refuse a request of which prompt and longest answer together do not fit in
the context; Ollama and llama.cpp end such an answer where the context ends. Here all do.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import attrs

from gateway.backends.base import EventStream
from gateway.core.errors import ContextLengthExceeded
from gateway.core.messages import GenerateRequest

Open = Callable[[GenerateRequest], AbstractAsyncContextManager[EventStream]]


class Fitting:
    """A request that is sent once more, for a shorter answer, where only the answer was too long.

    Raises, on entering, as the engine does: so that a prompt too long is refused.
    """

    def __init__(self, open_: Open, request: GenerateRequest) -> None:
        self._open = open_
        self._request = request
        self._answer = open_(request)

    async def __aenter__(self) -> EventStream:
        try:
            return await self._answer.__aenter__()
        except ContextLengthExceeded as error:
            room = room_for_answer(self._request, error)
            if room is None:
                raise
            self._answer = self._open(attrs.evolve(self._request, max_tokens=room))
        return await self._answer.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._answer.__aexit__(kind, error, trace)


def room_for_answer(request: GenerateRequest, error: ContextLengthExceeded) -> int | None:
    """Tokens that the context has left for an answer; None where that is not what it lacks."""
    if error.prompt is None or error.context is None or request.max_tokens is None:
        return None
    left = error.context - error.prompt
    return left if 0 < left < request.max_tokens else None
