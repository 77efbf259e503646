"""What becomes of every parameter that the four APIs document: judged, not believed.

`tests/data/parameters/` has each of them with values that ask for something. A value is
sent through a dialect with and without it, and the two results are compared: what has
changed nothing, and was not named, was dropped.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from gateway.backends import (
    llamacpp,
    ollama_embed_wire,
    ollama_wire,
    openai_embeddings_wire,
    openai_wire,
)
from gateway.backends.http import HttpClient
from gateway.backends.ollama import OllamaBackend
from gateway.backends.ollama_generate_wire import generate_body
from gateway.backends.openai_completions_wire import completion_body
from gateway.config.schema import Config
from gateway.core import jsonio
from gateway.core.errors import GatewayError
from gateway.core.jsonio import Json
from gateway.core.messages import EmbedRequest, GenerateRequest, Request
from gateway.dialects.anthropic_messages import AnthropicMessages, CountedMessages
from gateway.dialects.draft import Table
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_embed import OllamaEmbed, OllamaEmbeddings
from gateway.dialects.ollama_generate import OllamaGenerate
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses
from tests.fakes import ManualClock

DATA: Final = Path(__file__).parent / "data" / "parameters"

_CONFIG: Final = Config()
_DIALECT: Final = (_CONFIG.limits, _CONFIG.generation)

Body = dict[str, Json]

Verdict = Literal["honoured", "ignored", "refused", "no-op", "dropped"]
"""What became of one value.

honoured: it changed what is asked, or how the answer is written.
ignored: it changed nothing, and the caller is told its name.
refused: the caller is told its name and what is wrong with it.
no-op: it changed nothing, and the data say why it does not.
dropped: it changed nothing, and nobody is told.
"""


Parsed = Any
"""What a dialect makes of a body: an attrs class with `request` and `ignored`."""

Parse = Callable[[bytes], Parsed]


@attrs.frozen
class Api:
    """One URL, and the dialect behind it.

    Attributes:
        data: Name of its file of documented parameters.
    """

    title: str
    data: str
    parse: Parse
    parameters: Table


def _api(title: str, data: str, dialect: Any) -> Api:
    return Api(title, data, dialect.parse, dialect.parameters)


APIS: Final = (
    _api("POST /v1/chat/completions", "openai_chat", OpenAIChat(*_DIALECT)),
    _api("POST /v1/completions", "openai_completions", OpenAICompletions(*_DIALECT)),
    _api("POST /v1/responses", "openai_responses", OpenAIResponses(*_DIALECT)),
    _api("POST /v1/messages", "anthropic_messages", AnthropicMessages(*_DIALECT)),
    _api(
        "POST /v1/messages/count_tokens",
        "anthropic_count_tokens",
        CountedMessages(*_DIALECT),
    ),
    _api("POST /v1/embeddings", "openai_embeddings", OpenAIEmbeddings(*_DIALECT)),
    _api("POST /api/chat", "ollama_chat", OllamaChat(*_DIALECT)),
    _api("POST /api/generate", "ollama_generate", OllamaGenerate(*_DIALECT)),
    _api("POST /api/embed", "ollama_embed", OllamaEmbed(*_DIALECT)),
    _api("POST /api/embeddings", "ollama_embeddings", OllamaEmbeddings(*_DIALECT)),
)


@attrs.frozen
class Documented:
    """One parameter as its API's own client library has it.

    Attributes:
        name: Its path from the top of the body.
        values: Each asks for something.
        no_ops: Values that ask for what happens anyway, and why it does.
        beside: What else must be in the body.
    """

    name: str
    type: str
    values: Sequence[Json]
    no_ops: Sequence[tuple[Json, str]] = ()
    beside: Mapping[str, Json] = attrs.field(factory=dict)


@attrs.frozen
class Documentation:
    """All parameters of one API, and a body without any that it does not need."""

    source: str
    base: Body
    parameters: Sequence[Documented]


def documentation(api: Api) -> Documentation:
    document = json.loads((DATA / f"{api.data}.json").read_text("utf-8"))
    return Documentation(
        document["source"],
        document["base"],
        [
            Documented(
                name,
                told["type"],
                told["values"],
                [(no_op["value"], no_op["why"]) for no_op in told.get("no_ops", ())],
                told.get("with", {}),
            )
            for name, told in document["parameters"].items()
        ],
    )


# --- The judge --------------------------------------------------------------------------


@attrs.frozen
class Judged:
    """One value, and what became of it.

    Attributes:
        plain, told: What the dialect made of the body without and with it; the latter
            is None where it was refused.
    """

    verdict: Verdict
    plain: Parsed
    told: Parsed | None = None


def judge(parse: Parse, base: Body, parameter: Documented, value: Json) -> Judged:
    """Send a value through a dialect.

    Raises:
        AssertionError: It was refused without a word of which parameter it was.
    """
    body = {**base, **parameter.beside}
    plain = parse(jsonio.dumps(body))
    try:
        told = parse(jsonio.dumps(_with(body, parameter.name, value)))
    except GatewayError as error:
        _check_refusal(error, parameter.name.partition(".")[0])
        return Judged("refused", plain)
    if parameter.name in told.ignored and parameter.name not in plain.ignored:
        return Judged("ignored", plain, told)  # Though the answer may say it again.
    if _essence(told) != _essence(plain):
        return Judged("honoured", plain, told)
    if _is_named(parameter.name, told.ignored) and not _is_named(parameter.name, plain.ignored):
        return Judged("ignored", plain, told)
    explained = any(value == no_op for no_op, _ in parameter.no_ops)
    return Judged("no-op" if explained else "dropped", plain, told)


def _check_refusal(error: GatewayError, name: str = "") -> None:
    assert 400 <= error.status < 500, error
    told = f"{error.param} {error.message}"
    assert name in told, told


def _with(body: Body, path: str, value: Json) -> Body:
    """A copy with the value at a path of at most two names."""
    name, _, inner = path.partition(".")
    return {**body, name: {inner: value} if inner else value}


def _essence(parsed: Parsed) -> Any:
    """All that can change an answer: that a parameter was noted does not."""
    request = attrs.evolve(parsed.request, params=frozenset())
    return attrs.evolve(parsed, request=request, ignored=())


def _is_named(name: str, ignored: Sequence[str]) -> bool:
    """By itself, or by a part of it."""
    return any(entry == name or entry.startswith(f"{name}.") for entry in ignored)


# --- Engines -----------------------------------------------------------------------------


@attrs.frozen
class Engine:
    """One kind of backend, as far as requests go.

    Attributes:
        unsupported: Names of parameters of a request that it can't honour.
        body: What is sent to it, for one prompt at the most.
    """

    name: str
    unsupported: Callable[[Any], Sequence[str]]
    body: Callable[[Any], bytes]

    def bodies(self, request: Request) -> list[bytes] | GatewayError:
        """Of all prompts of a request; or why it can't be sent."""
        try:
            return [self.body(part) for part in _parts(request)]
        except GatewayError as error:
            _check_refusal(error)
            return error


def _parts(request: Request) -> Iterator[Request]:
    if isinstance(request, EmbedRequest) or not request.prompts:
        yield request
        return
    for prompt in request.prompts:
        yield attrs.evolve(request, prompts=(prompt,))


def _ollama_body(request: Request) -> bytes:
    if isinstance(request, EmbedRequest):
        return ollama_embed_wire.embed_body(request, request.model)
    make = generate_body if request.prompts else ollama_wire.chat_body
    return make(request, request.model)


def _openai(name: str, extensions: frozenset[str], *, vllm: bool) -> Engine:
    def unsupported(request: Request) -> Sequence[str]:
        if isinstance(request, EmbedRequest):
            return openai_embeddings_wire.unsupported(request, vllm=vllm)
        return openai_wire.unsupported(request, extensions)

    def body(request: Request) -> bytes:
        if isinstance(request, EmbedRequest):
            return openai_embeddings_wire.embeddings_body(request, vllm=vllm)
        make = completion_body if request.prompts else openai_wire.chat_body
        return make(request, extensions)

    return Engine(name, unsupported, body)


def embedded(llama_cpp: Engine) -> Engine | None:
    """The embedded engine, not started: a llama.cpp. None where it is not installed."""
    if llamacpp.available(_CONFIG.embedded) is not None:
        return None
    backend = llamacpp.LlamaCppBackend(
        embedded=_CONFIG.embedded, http=_HTTP, limits=_CONFIG.limits, clock=_CLOCK
    )

    def body(request: Request) -> bytes:
        if isinstance(request, GenerateRequest):
            request = llamacpp.begin_call(request)
        return llama_cpp.body(request)

    return Engine("embedded", backend.unsupported, body)


_CLOCK: Final = ManualClock()
_HTTP: Final = HttpClient(timeouts=_CONFIG.timeouts, limits=_CONFIG.limits, clock=_CLOCK)


@cache
def engines() -> Sequence[Engine]:
    """Every kind that runs models; the embedded one where it is installed."""
    ollama = OllamaBackend(http=_HTTP, url="http://localhost", limits=_CONFIG.limits)
    llama_cpp = _openai("llama.cpp server", openai_wire.LLAMA_CPP_EXTENSIONS, vllm=False)
    found = (
        Engine("Ollama", ollama.unsupported, _ollama_body),
        embedded(llama_cpp),
        llama_cpp,
        _openai("vLLM", frozenset(), vllm=True),
    )
    return [engine for engine in found if engine is not None]


EngineVerdict = Literal["yes", "no", "refused", "dropped"]
"""yes: done here, or sent to it. no: named as ignored. refused: a 4xx that says why."""

_DONE_HERE: Final = ("model", "n", "service_tier", "stream", "truncate")
"""Fields of a request that no engine has to know of: who is asked, and what is done without it.

The inputs of embeddings are cut by the driver, for engines that don't.
"""


def judge_engine(engine: Engine, judged: Judged) -> EngineVerdict:
    """What an engine makes of a value that its dialect honours."""
    assert judged.verdict == "honoured"
    assert judged.told is not None
    plain, told = judged.plain.request, judged.told.request
    named = set(engine.unsupported(told)) - set(engine.unsupported(plain))
    if named:
        return "no"
    before, after = engine.bodies(plain), engine.bodies(told)
    if isinstance(after, GatewayError):
        return "refused"
    if before != after or _done_here(judged.plain, judged.told):
        return "yes"
    return "dropped"


def _done_here(plain: Parsed, told: Parsed) -> bool:
    """Whether they differ in what the gateway does by itself: how the answer is written, too."""
    before, after = plain.request, told.request
    if any(getattr(before, name, None) != getattr(after, name, None) for name in _DONE_HERE):
        return True
    return bool(_essence(attrs.evolve(told, request=plain.request)) != _essence(plain))


def cases() -> Iterator[tuple[Api, Body, Documented, Json]]:
    """Every value of every parameter of every API."""
    for api in APIS:
        documented = documentation(api)
        for parameter in documented.parameters:
            for value in (*parameter.values, *(value for value, _ in parameter.no_ops)):
                yield api, documented.base, parameter, value


def ids() -> list[str]:
    """What `cases` are called."""
    return [
        f"{api.data}-{parameter.name}-{index}"
        for (api, parameter), group in itertools.groupby(
            cases(), key=lambda case: (case[0], case[2])
        )
        for index, _ in enumerate(group)
    ]
