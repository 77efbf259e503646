"""A request whose answer comes out as the test lets it, and the client who reads it."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import attrs

from gateway.backends.recording import Recorder, Recording, Replay
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.messages import Event, Finished
from tests.engines import settle

PATIENCE_S = 1.5


class Tap:
    """An open request: an `EventStream` in its block. A cancelled read loses nothing.

    Attributes:
        ready: Opening waits for it.
        opened, left: How often the block was entered and left.
        reads: How often it was begun to read.
    """

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = asyncio.Event()
        if ready:
            self.ready.set()
        self.refusal: GatewayError | None = None
        self.asked = 0
        self.opened = 0
        self.left = 0
        self.reads = 0
        self.ends: list[Finished] = []
        self._steps: list[Sequence[Event] | GatewayError] = []
        self._more = asyncio.Event()

    def say(self, *events: Event) -> None:
        """One batch."""
        self._steps.append(events)
        self._more.set()

    def fail(self, error: GatewayError) -> None:
        self._steps.append(error)
        self._more.set()

    async def __aenter__(self) -> Self:
        self.asked += 1
        await self.ready.wait()
        if self.refusal is not None:
            raise self.refusal
        self.opened += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left += 1

    async def read(self) -> Sequence[Event]:
        self.reads += 1
        while not self._steps:
            if self.ends:
                return ()
            self._more.clear()
            await self._more.wait()
        step = self._steps.pop(0)
        if isinstance(step, GatewayError):
            raise step
        self.ends += [event for event in step if isinstance(event, Finished)]
        return step


@attrs.define(eq=False)
class Reader:
    """A client in a task of its own, and what it got."""

    task: "asyncio.Task[None]" = attrs.field(init=False)
    got: list[Event] = attrs.field(factory=list)
    batches: int = 0

    async def leave(self) -> None:
        self.task.cancel()
        await settle()

    async def read(self, stream: Recorder | Replay) -> None:
        while events := await stream.read():
            self.got += events
            self.batches += 1


async def first(
    tap: Tap, recording: Recording, clock: Clock, *, patience_s: float = PATIENCE_S
) -> Reader:
    """The client whose request is recorded; its task lingers when it leaves."""
    reader = Reader()

    async def run() -> None:
        async with Recorder(tap, recording) as stream:
            try:
                await reader.read(stream)
            except asyncio.CancelledError:
                await stream.linger(clock=clock, patience_s=patience_s)
                raise

    reader.task = asyncio.create_task(run())
    await settle()
    return reader


async def again(recording: Recording) -> Reader:
    """The client who came back for it."""
    reader = Reader()

    async def run() -> None:
        async with Replay(recording) as stream:
            await reader.read(stream)

    reader.task = asyncio.create_task(run())
    await settle()
    return reader
