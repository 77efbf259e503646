"""What a caller asks and what an engine answers, in nobody's wire format.

Every dialect translates to a `GenerateRequest` and from `Event`s; every backend
the other way round. An answer is a sequence of events; with `n` choices it is
`n` sequences one after the other, each closed by its own `Finished`.

The event classes are not frozen: one is made for each token, and a frozen
attrs class costs three times as much to make. Nobody changes one.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import attrs

from gateway.core import jsonio

# --- What is asked ----------------------------------------------------------


class Role(enum.Enum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@attrs.frozen
class TextPart:
    text: str


@attrs.frozen
class ImagePart:
    """An image that the caller sent along; nothing is ever fetched.

    Attributes:
        data: base64, checked to be valid.
        media_type: image/png, image/jpeg or image/webp.
    """

    data: str
    media_type: str


Part = TextPart | ImagePart


INVALID_JSON: Final = "INVALID_JSON"
"""The one key of arguments that are no object: so Anthropic recommends it
(docs.anthropic.com, "Fine-grained tool streaming")."""


@attrs.frozen
class ToolCall:
    """A call the model made earlier, or makes now.

    Attributes:
        arguments: A JSON object as text, as the model wrote it; where its answer was
            cut short in the middle of the call, the beginning of one.
    """

    id: str
    name: str
    arguments: str

    @property
    def given(self) -> Mapping[str, Any]:
        """The arguments as an object, whatever the model wrote; nothing of it is lost."""
        if not self.arguments or self.arguments.isspace():
            return {}
        try:
            value = jsonio.loads(self.arguments)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else {INVALID_JSON: self.arguments}


@attrs.frozen
class Message:
    """One turn. `content` is the whole text, or parts in order when there are images."""

    role: Role
    content: str | tuple[Part, ...] = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined by newlines as OpenAI's own servers do."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ImagePart))


@attrs.frozen
class Tool:
    """A function the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@attrs.frozen
class NamedTool:
    """The caller wants this very function called."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@attrs.frozen
class Prompt:
    """Text that is continued as it stands, with no chat template around it.

    Attributes:
        text: Empty where there are tokens.
        tokens: Of the model's own vocabulary, instead of a text.
        suffix: What stands after the gap that is to be filled; None: nothing does.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    suffix: str | None = None


@attrs.frozen
class JsonObject:
    """The answer must be some JSON object."""


@attrs.frozen
class JsonSchema:
    """The answer must be JSON that fits the schema."""

    schema: Mapping[str, Any]
    name: str = "answer"
    strict: bool | None = None


OutputFormat = JsonObject | JsonSchema

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "max"]

ServiceTier = Literal["flex", "priority"]

Operation = Literal["chat", "text_completion", "embeddings", "load"]
"""What a request is for, in OpenTelemetry's words, where it has one."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


@attrs.frozen
class Sampling:
    """How tokens are drawn. None: the model's own default holds."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None


@attrs.frozen(kw_only=True)
class GenerateRequest:
    """One parsed request for text: a conversation to answer, or prompts to continue.

    Attributes:
        model: The name as the caller gave it; upstreams know their own spelling.
        messages: The conversation, oldest turn first; empty where there are prompts,
            and where nothing is asked.
        prompts: Each is continued by itself, one after the other in one slot.
        n: How many answers to each; drawn one after the other in one slot.
        max_tokens: Tokens of one answer, reasoning included; None: the
            configured cap holds.
        max_tokens_wanted: What the caller wrote; None where it has set no limit.
        logprobs: How many alternatives a token is reported with, 0 for the
            token alone; None for no logprobs.
        reasoning_optional: A model that can't reason may answer without; else
            it is refused.
        stream: Whether the caller reads events as they come. Decides what the
            deadline means (first token, or the whole answer), nothing else.
        service_tier: How urgent the caller says it is: `flex` can wait,
            `priority` can't; None where it doesn't say.
        extensions: Parameters of one engine, passed by name to the backend
            that knows them (num_ctx, keep_alive, mirostat…).
        params: The names of all parameters that the caller set, so that a backend
            can say which it can't honour: OpenAI's names and Ollama's.
        wire_names: How the caller wrote those of them that its wire calls otherwise.
    """

    model: str
    messages: tuple[Message, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    max_tokens_wanted: int | None = None
    n: int = 1
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning_optional: bool = False
    logprobs: int | None = None
    stream: bool = False
    service_tier: ServiceTier | None = None
    extensions: Mapping[str, Any] = attrs.field(factory=dict)
    params: frozenset[str] = frozenset()
    wire_names: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def operation(self) -> Operation:
        if self.prompts:
            return "text_completion"
        return "chat" if self.messages else "load"

    @property
    def cut_to(self) -> int | None:
        """The tokens of one answer, where these are fewer than the caller wants; else None."""
        wanted, most = self.max_tokens_wanted, self.max_tokens
        return most if wanted is not None and most is not None and most < wanted else None

    @property
    def asks(self) -> bool:
        """Whether there is anything to answer; else the model is to be loaded, and no more."""
        return bool(self.messages or self.prompts)

    @property
    def answers(self) -> int:
        """How many there will be in all, those to the first prompt first."""
        return self.n * max(1, len(self.prompts))


@attrs.frozen(kw_only=True)
class EmbedRequest:
    """One parsed request for embeddings.

    Attributes:
        inputs: Texts, or token ids of the model's own vocabulary.
        dimensions: Numbers of each vector; None: as many as the model has.
        truncate: Cut an input that is too long for the model, instead of refusing it.
        extensions, params, wire_names: As in `GenerateRequest`.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    truncate: bool = False
    extensions: Mapping[str, Any] = attrs.field(factory=dict)
    params: frozenset[str] = frozenset()
    wire_names: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def operation(self) -> Operation:
        return "embeddings"

    @property
    def stream(self) -> bool:
        """Vectors come whole."""
        return False

    @property
    def n(self) -> int:
        return 1

    @property
    def answers(self) -> int:
        """All vectors together are one."""
        return 1


Request = GenerateRequest | EmbedRequest


# --- What is answered -------------------------------------------------------


@attrs.define(slots=True)
class TokenLogprob:
    """One token with its log-probability and the alternatives, best first."""

    token: str
    logprob: float
    raw: bytes | None = None
    top: "tuple[TokenLogprob, ...]" = ()


@attrs.define(slots=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None


@attrs.define(slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks before it answers."""

    text: str


@attrs.define(slots=True)
class ToolCallDelta:
    """A tool call, or the next piece of one.

    Attributes:
        index: Which call of this answer, from 0.
        id: Only on the first piece of a call.
        name: Only on the first piece of a call.
        arguments: The next piece of the JSON text.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str


class FinishReason(enum.Enum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@attrs.define(slots=True)
class Usage:
    """Tokens of one answer. `prompt` counts cached and evaluated ones."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    reasoning: int | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Of two answers to one prompt, one drawn after the other.

        The prompt counts once, and so does what of it was there for the first of them.
        """
        return Usage(
            prompt=max(self.prompt, other.prompt),
            completion=self.completion + other.completion,
            cached=other.cached if self.cached is None else self.cached,
            reasoning=_sum(self.reasoning, other.reasoning),
        )

    def beside(self, other: "Usage") -> "Usage":
        """Of answers to two prompts."""
        return Usage(
            prompt=self.prompt + other.prompt,
            completion=self.completion + other.completion,
            cached=_sum(self.cached, other.cached),
            reasoning=_sum(self.reasoning, other.reasoning),
        )


@attrs.define(slots=True)
class Timings:
    """What the engine says of its own work, seconds. None where it doesn't say."""

    total_s: float | None = None
    load_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None

    def __add__(self, other: "Timings") -> "Timings":
        """Of two answers, one drawn after the other."""
        return Timings(
            total_s=_sum(self.total_s, other.total_s),
            load_s=_sum(self.load_s, other.load_s),
            prefill_s=_sum(self.prefill_s, other.prefill_s),
            decode_s=_sum(self.decode_s, other.decode_s),
        )


@attrs.define(slots=True)
class Finished:
    """The end of one answer, and the only sign that it is whole."""

    reason: FinishReason
    usage: Usage = attrs.field(factory=Usage)
    timings: Timings = attrs.field(factory=Timings)


def totals(ends: Sequence[Finished], *, n: int) -> tuple[Usage, Timings]:
    """Of all answers to one request; zeros where none has ended.

    Args:
        n: How many were drawn for each prompt.
    """
    if not ends:
        return Usage(), Timings()
    timings = ends[0].timings
    for end in ends[1:]:
        timings = timings + end.timings
    usage: Usage | None = None
    for first in range(0, len(ends), n):
        of_prompt = ends[first].usage
        for end in ends[first + 1 : first + n]:
            of_prompt = of_prompt + end.usage
        usage = of_prompt if usage is None else usage.beside(of_prompt)
    return usage or Usage(), timings


Vector = Sequence[float]


@attrs.define
class Embeddings:
    """One vector for each input, in order.

    Attributes:
        vectors: (inputs, dimensions).
        prompt_tokens: Of all inputs together; 0 where the engine doesn't say.
        load_s: What the engine says it took to load the model first.
    """

    vectors: Sequence[Vector]
    prompt_tokens: int = 0
    load_s: float | None = None


Event = TextDelta | ReasoningDelta | ToolCallDelta | Finished


@attrs.define
class Completion:
    """One whole answer."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finished: Finished


def fold(events: Iterable[Event]) -> list[Completion]:
    """Whole answers from the events of all choices, in order.

    Raises:
        ValueError: The events stop before the last `Finished`.
    """
    answers: list[Completion] = []
    pending: list[Event] = []
    for event in events:
        if isinstance(event, Finished):
            answers.append(_completion(pending, event))
            pending = []
        else:
            pending.append(event)
    if pending:
        raise ValueError("the events of an answer stop before it is finished")
    return answers


def _completion(events: Sequence[Event], finished: Finished) -> Completion:
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, list[str]] = {}
    heads: dict[int, tuple[str, str]] = {}
    logprobs: list[TokenLogprob] | None = None
    for event in events:
        match event:
            case TextDelta():
                text.append(event.text)
                if event.logprobs is not None:
                    logprobs = [*(logprobs or ()), *event.logprobs]
            case ReasoningDelta():
                reasoning.append(event.text)
            case ToolCallDelta():
                if event.index not in heads:
                    heads[event.index] = (event.id or "", event.name or "")
                calls.setdefault(event.index, []).append(event.arguments)
    return Completion(
        text="".join(text),
        reasoning="".join(reasoning),
        tool_calls=tuple(
            ToolCall(id=id, name=name, arguments="".join(calls[index]))
            for index, (id, name) in sorted(heads.items())
        ),
        logprobs=None if logprobs is None else tuple(logprobs),
        finished=finished,
    )


N = TypeVar("N", int, float)


def _sum(left: N | None, right: N | None) -> N | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
