"""The answer to a request that asks nothing: its model is in memory, and that is all."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gateway.core.messages import Event, Finished, FinishReason


class Loaded:
    """An `EventStream` without an engine, and what opens it."""

    def __init__(self) -> None:
        self.ends: list[Finished] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing: nothing was opened."""

    async def read(self) -> Sequence[Event]:
        if self.ends:
            return ()
        end = Finished(FinishReason.STOP)
        self.ends.append(end)
        return (end,)
