"""The answer to a request that asks nothing: its model is in memory, and that is all."""

from collections.abc import Sequence

from gateway.core.messages import Event, Finished, FinishReason


class Loaded:
    """An `EventStream` without an engine."""

    def __init__(self) -> None:
        self.ends: list[Finished] = []

    async def read(self) -> Sequence[Event]:
        if self.ends:
            return ()
        end = Finished(FinishReason.STOP)
        self.ends.append(end)
        return (end,)
