"""Several answers to one request, or several prompts of one, drawn one after the other in one slot.

Engines with one slot would draw them one after the other anyway, and in one
slot all but the first find the prompt already evaluated.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import attrs

from gateway.backends.base import EventStream, InferenceBackend
from gateway.core.messages import Event, Finished, GenerateRequest


class Choices:
    """An open request whose stream is that of all its answers, in order."""

    def __init__(self, backend: InferenceBackend, request: GenerateRequest) -> None:
        self._backend = backend
        self._request = request
        self._drawn = 0
        self._answer: AbstractAsyncContextManager[EventStream] | None = None
        self._stream: EventStream | None = None
        self.ends: list[Finished] = []

    async def __aenter__(self) -> EventStream:
        await self._draw()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.__aexit__(kind, error, trace)

    async def read(self) -> Sequence[Event]:
        assert self._stream is not None
        events = await self._stream.read()
        if not events and self._drawn < self._request.answers:
            await self.__aexit__(None, None, None)
            await self._draw()
            events = await self._stream.read()
        if events and isinstance(events[-1], Finished):
            self.ends.append(events[-1])
        return events

    async def _draw(self) -> None:
        request = self._request
        prompt, choice = divmod(self._drawn, request.n)
        if request.prompts:
            request = attrs.evolve(request, prompts=(request.prompts[prompt],))
        if request.sampling.seed is not None and choice:
            # The same seed would draw the same answer again.
            sampling = attrs.evolve(request.sampling, seed=request.sampling.seed + choice)
            request = attrs.evolve(request, sampling=sampling)
        answer = self._backend.open(request)
        self._stream = await answer.__aenter__()
        self._answer = answer
        self._drawn += 1
