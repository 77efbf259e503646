"""A backend without a model: says again what it was told, at a given pace, with given faults.

For tests, demonstrations and the bench. Nothing in it is random and nothing
depends on the machine: the same request has the same answer.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Literal, NoReturn, Self

import attrs

from gateway.backends import echo_vectors
from gateway.backends.base import Probe
from gateway.backends.echo_tokens import WORD, EchoTokenizer, prompt_tokens, text_of
from gateway.backends.refusals import Overflow
from gateway.backends.smallest import smallest
from gateway.config.schema import Timeouts
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    ModelNotFound,
    NotSupported,
    RequestTimeout,
    UpstreamDisconnected,
    UpstreamStalled,
)
from gateway.core.messages import (
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    NamedTool,
    Request,
    Role,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    Usage,
    Vector,
)
from gateway.core.models import ModelInfo

MODEL: Final = "echo"
CONTEXT_LENGTH: Final = 8192

_TIMEOUTS: Final = Timeouts()

_BATCH: Final = 32
"""Events in one read when there is no pace: what a burst from an engine looks like."""

_IGNORED: Final = frozenset({"logit_bias", "reasoning_effort", "suffix", "think"})

_PIECE_CHARS: Final = 8
"""Of a tool call's arguments; small, so that they come in several pieces."""


def _disconnected() -> GatewayError:
    return UpstreamDisconnected("The connection to the engine ended before its answer did.")


@attrs.frozen(kw_only=True)
class EchoScript:
    """How an answer goes.

    Attributes:
        first_s: Seconds until the first event, the prefill.
        pace_s: Seconds before each further event; 0 hands them out in bursts.
        tokens: Words of the answer, the message's again and again; None: the
            message once.
        calls_tool: Call the first tool although the choice is the model's.
        finish_reason: Instead of the true one.
        fail: Makes the error that is raised on opening.
        break_after: Raise `broken` after so many events.
        stall_after: Fall silent after so many events, until the timeout of the phase.
    """

    first_s: float = 0.0
    pace_s: float = 0.0
    tokens: int | None = None
    calls_tool: bool = False
    finish_reason: FinishReason | None = None
    fail: Callable[[], GatewayError] | None = None
    break_after: int | None = None
    broken: Callable[[], GatewayError] = _disconnected
    stall_after: int | None = None


PLAIN: Final = EchoScript()


class EchoBackend:
    """One engine that echoes.

    Args:
        models: Names that it answers to, besides `echo`.

    Attributes:
        script: For the requests opened from now on; may be replaced.
        running: Requests that are open.
        tokenizer: See `InferenceBackend`.
    """

    kind: Literal["echo"] = "echo"

    def __init__(
        self,
        *,
        clock: Clock,
        timeouts: Timeouts = _TIMEOUTS,
        models: Sequence[str] = (),
        context_length: int = CONTEXT_LENGTH,
        script: EchoScript = PLAIN,
    ) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._models = tuple(dict.fromkeys((MODEL, *models)))
        self._context_length = context_length
        self._calls = itertools.count()
        self.script = script
        self.running = 0
        self.tokenizer: Final = EchoTokenizer()

    def canonical(self, model: str) -> str:
        return model

    def unsupported(self, request: Request) -> tuple[str, ...]:
        return tuple(sorted(request.params & (_IGNORED | request.extensions.keys())))

    def open(self, request: GenerateRequest) -> "_Echo":
        return _Echo(self, request, self.script)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """As `InferenceBackend.embed`. To the script a vector is an event."""
        script, context = self.script, self._context_length
        if script.fail is not None:
            raise script.fail()
        if request.model not in self._models:
            raise _model_not_found()
        inputs = [echo_vectors.words_of(item) for item in request.inputs]
        if request.truncate:
            inputs = [words[:context] for words in inputs]
        longest = max(map(len, inputs), default=0)
        if longest > context:
            raise Overflow(longest, context).error("input")
        dimensions = request.dimensions or echo_vectors.DIMENSIONS
        vectors: list[Vector] = []
        self.running += 1
        try:
            await self._clock.sleep(script.first_s)
            for words in inputs:
                if len(vectors) == script.break_after:
                    raise script.broken()
                if len(vectors) == script.stall_after:
                    await self._clock.sleep(self._timeouts.first_byte_timeout_seconds)
                    raise _too_late()
                if vectors and script.pace_s:
                    await self._clock.sleep(script.pace_s)
                vectors.append(echo_vectors.vector(words, dimensions))
        finally:
            self.running -= 1
        return Embeddings(vectors, prompt_tokens=sum(map(len, inputs)))

    async def probe(self) -> Probe:
        return Probe(models=tuple(self._info(model) for model in self._models))

    async def describe(self, model: str) -> ModelInfo:
        if model not in self._models:
            raise _model_not_found()
        return self._info(model)

    async def load(self, model: str) -> None:
        """Nothing: there is no model."""

    async def unload(self, model: str) -> None:
        raise NotSupported("There is no model that could be put out of memory.")

    async def close(self) -> None:
        """Nothing."""

    def _info(self, model: str) -> ModelInfo:
        return ModelInfo(
            id=model,
            owned_by=MODEL,
            context_length=self._context_length,
            context_length_max=self._context_length,
            loaded=True,
            capabilities=("completion", "tools", "embedding"),
        )


class _Echo:
    """One answer."""

    def __init__(self, backend: EchoBackend, request: GenerateRequest, script: EchoScript) -> None:
        self._backend = backend
        self._clock = backend._clock
        self._request = request
        self._script = script
        self._handed_out = 0
        self.ends: list[Finished] = []
        self._events: Iterator[Event] = iter(())

    async def __aenter__(self) -> Self:
        backend, request = self._backend, self._request
        if self._script.fail is not None:
            raise self._script.fail()
        if request.model not in backend._models:
            raise _model_not_found()
        if any(message.images for message in request.messages):
            raise BackendRefusedRequest("This model can't read images.", param="messages")
        prompt = prompt_tokens(request)
        if prompt > backend._context_length:
            param = "prompt" if request.prompts else "messages"
            raise Overflow(prompt, backend._context_length).error(param)
        self._events = answer(request, self._script, call_id=f"call_{next(backend._calls)}")
        backend.running += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._backend.running > 0
        self._backend.running -= 1

    async def read(self) -> Sequence[Event]:
        script = self._script
        if self.ends:
            return ()
        # Also when it is 0: a burst must not keep the loop from its other work.
        await self._clock.sleep(script.pace_s if self._handed_out else script.first_s)
        events: list[Event] = []
        while len(events) < (1 if script.pace_s else _BATCH) and not self.ends:
            if self._handed_out in (script.break_after, script.stall_after):
                # What came before the fault is handed out first.
                if events:
                    break
                await self._fail()
            event = next(self._events)
            events.append(event)
            self._handed_out += 1
            if isinstance(event, Finished):
                self.ends.append(event)
        return events

    async def _fail(self) -> NoReturn:
        timeouts = self._backend._timeouts
        if self._handed_out == self._script.break_after:
            raise self._script.broken()
        if self._handed_out == 0:
            await self._clock.sleep(timeouts.first_byte_timeout_seconds)
            raise _too_late()
        await self._clock.sleep(timeouts.stall_timeout_seconds)
        raise UpstreamStalled("The model stopped answering midway.")


def answer(request: GenerateRequest, script: EchoScript, *, call_id: str) -> Iterator[Event]:
    """The events of the whole answer; one word is one token. Pure.

    Raises:
        BackendRefusedRequest: A schema that no small JSON fits.
    """
    usage = Usage(prompt=prompt_tokens(request))
    tool = _called(request, script)
    if tool is not None:
        pieces, reason = _arguments(tool), FinishReason.TOOL_CALLS
    else:
        pieces, reason = _words(_said(request, script), request.sampling.stop), FinishReason.STOP
    if request.max_tokens is not None and len(pieces) > request.max_tokens:
        pieces, reason = pieces[: request.max_tokens], FinishReason.LENGTH
    usage.completion = len(pieces)
    events: list[Event] = (
        [_text(piece, request.logprobs) for piece in pieces]
        if tool is None
        else [
            ToolCallDelta(
                index=0,
                id=None if position else call_id,
                name=None if position else tool.name,
                arguments=piece,
            )
            for position, piece in enumerate(pieces)
        ]
    )
    return iter([*events, Finished(script.finish_reason or reason, usage)])


def _called(request: GenerateRequest, script: EchoScript) -> Tool | None:
    """The tool that is called instead of an answer."""
    match request.tool_choice:
        case NamedTool(name=name):
            return next((tool for tool in request.tools if tool.name == name), None)
        case "required":
            return next(iter(request.tools), None)
        case "auto" if script.calls_tool:
            return next(iter(request.tools), None)
        case _:
            return None


def _arguments(tool: Tool) -> list[str]:
    text = jsonio.dumps_text(smallest({"type": "object", **(tool.parameters or {})}))
    return [text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS)]


def _said(request: GenerateRequest, script: EchoScript) -> str:
    """The text of the answer, before it is cut."""
    told = [message.text for message in request.messages if message.role is Role.USER]
    told += map(text_of, request.prompts)
    text = told[-1] if told else ""
    match request.output_format:
        case JsonObject():
            return jsonio.dumps_text({"echo": text})
        case JsonSchema(schema=schema):
            return jsonio.dumps_text(smallest(schema))
        case None if script.tokens is not None:
            return " ".join(itertools.islice(itertools.cycle(text.split()), script.tokens))
        case None:
            return text


def _words(text: str, stops: Sequence[str]) -> list[str]:
    """The text up to the first stop string, in tokens that together are that text."""
    ends = [end for stop in stops if stop and (end := text.find(stop)) >= 0]
    text = text[: min(ends, default=len(text))]
    return WORD.findall(text) or ([text] if text else [])


def _text(word: str, logprobs: int | None) -> TextDelta:
    if logprobs is None:
        return TextDelta(word)
    sure = TokenLogprob(word, 0.0, word.encode())
    return TextDelta(word, (attrs.evolve(sure, top=(sure,) if logprobs else ()),))


def _too_late() -> RequestTimeout:
    return RequestTimeout("The model did not begin to answer in time.")


def _model_not_found() -> ModelNotFound:
    return ModelNotFound("No engine has this model.", param="model")
