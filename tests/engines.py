"""Engines for tests that need no network: scripted by the test, through the real protocol."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

from gateway.backends.base import Probe
from gateway.backends.tokenizing import Tokenizer
from gateway.core.errors import BackendError, BackendRefusedRequest, GatewayError
from gateway.core.messages import (
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Request,
    Role,
    TextDelta,
    Usage,
)
from gateway.core.models import ModelInfo
from gateway.core.ticket import ANONYMOUS, Caller, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream

HELLO: Sequence[Event] = (
    TextDelta("hel"),
    TextDelta("lo"),
    Finished(FinishReason.STOP, Usage(prompt=3, completion=2)),
)


class ScriptedEngine:
    """Plays one script for each request it gets, in order; the last one again and again.

    A script is a list of steps: events are handed out, an error is raised, an
    `asyncio.Event` is waited for. A first step that is an error is raised on
    opening. Counts what is open, so that a leak shows.

    Attributes:
        resident: Models in memory; None: it doesn't tell. Loading one puts out the others.
        load_steps: What comes before the end of each load, in order: an event is
            waited for, an error is raised.
        loads: Models that it was asked to load.
        unloads: Models that it was asked to put out of memory.
        loads_broken_off: How many of these loads were cancelled.
        tokenizer: What it tells of its vocabulary; nothing, unless a test gives it some.
        embed_steps: As load_steps, for calls that embed.
        calls: The inputs of each call that embeds. One that says "bad" is refused.
        calls_broken_off: How many of these calls were cancelled.
    """

    kind: Literal["echo"] = "echo"

    def __init__(self, *scripts: Sequence[object], models: Sequence[str] = ("m",)) -> None:
        self.scripts = list(scripts) or [[HELLO]]
        self.models = list(models)
        self.alive: BackendError | None = None
        self.opened = 0
        self.running = 0
        self.requests: list[GenerateRequest] = []
        self.dishonoured: tuple[str, ...] = ()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.resident: set[str] | None = None
        self.load_steps: list[asyncio.Event | BaseException] = []
        self.loads: list[str] = []
        self.loads_broken_off = 0
        self.tokenizer: Tokenizer | None = None
        self.unloads: list[str] = []
        self.embed_steps: list[asyncio.Event | BaseException] = []
        self.calls: list[tuple[str | tuple[int, ...], ...]] = []
        self.calls_broken_off = 0

    def canonical(self, model: str) -> str:
        return model

    def unsupported(self, request: Request) -> tuple[str, ...]:
        return self.dishonoured

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One number for each input: how long it is."""
        self.calls.append(request.inputs)
        step = self.embed_steps.pop(0) if self.embed_steps else None
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            self.running += 1
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.calls_broken_off += 1
                raise
            finally:
                self.running -= 1
        if any(isinstance(text, str) and "bad" in text for text in request.inputs):
            raise BackendRefusedRequest("an input is bad", param="input")
        sizes = [len(text) for text in request.inputs]
        return Embeddings([[float(size)] for size in sizes], prompt_tokens=sum(sizes))

    def open(self, request: GenerateRequest) -> "_Run":
        self.requests.append(request)
        script = self.scripts[min(self.opened, len(self.scripts) - 1)]
        self.opened += 1
        return _Run(self, list(script))

    async def probe(self) -> Probe:
        await asyncio.sleep(0)
        if self.alive is not None:
            raise self.alive
        return Probe(models=self.listing(), version="1")

    def listing(self) -> tuple[ModelInfo, ...]:
        """The models as a probe tells them."""
        return tuple(
            ModelInfo(id=model, loaded=None if self.resident is None else model in self.resident)
            for model in self.models
        )

    async def load(self, model: str) -> None:
        self.loads.append(model)
        step = self.load_steps.pop(0) if self.load_steps else None
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.loads_broken_off += 1
                raise
        if self.resident is not None:
            self.resident = {model}

    async def unload(self, model: str) -> None:
        self.unloads.append(model)
        if self.resident is not None:
            self.resident.discard(model)

    async def describe(self, model: str) -> ModelInfo:
        return ModelInfo(id=model)

    async def close(self) -> None:
        pass


class _Run:
    def __init__(self, engine: ScriptedEngine, steps: list[Any]) -> None:
        self._engine = engine
        self._steps = steps
        self.ends: list[Finished] = []

    async def __aenter__(self) -> "_Run":
        if self._steps and isinstance(self._steps[0], GatewayError):
            raise self._steps[0]
        self._engine.running += 1
        self._engine.started.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.running -= 1
        self._engine.ended.set()

    async def read(self) -> Sequence[Event]:
        while self._steps:
            step = self._steps[0]
            if isinstance(step, asyncio.Event):
                await step.wait()  # cancelled here, it is still the next step
            self._steps.pop(0)
            if isinstance(step, asyncio.Event):
                continue
            if isinstance(step, GatewayError):
                raise step
            self.ends += [event for event in step if isinstance(event, Finished)]
            return list(step)
        return []


def upstream(
    name: str = "one", *, slots: int = 1, engine: ScriptedEngine | None = None, up: bool = True
) -> Upstream:
    engine = engine or ScriptedEngine()
    made = Upstream(name=name, backend=engine, slots=slots)
    if up:
        made.found(Probe(models=engine.listing()))
    return made


def pool_of(*upstreams: Upstream) -> Pool:
    return Pool(upstreams=upstreams)


def request(model: str = "m", *, stream: bool = False, n: int = 1) -> GenerateRequest:
    return GenerateRequest(
        model=model, messages=(Message(role=Role.USER, content="hi"),), stream=stream, n=n
    )


def ticket(
    number: int = 0,
    *,
    model: str = "m",
    caller: Caller = ANONYMOUS,
    arrived_at: float = 0.0,
    deadline_at: float = 60.0,
) -> Ticket:
    return Ticket(
        request_id=f"r{number}",
        number=number,
        caller=caller,
        request=request(model),
        arrived_at=arrived_at,
        deadline_at=deadline_at,
    )


async def settle(turns: int = 20) -> None:
    """Let everything that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
