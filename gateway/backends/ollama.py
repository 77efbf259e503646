"""The driver of an Ollama, by its native API."""

import datetime
import math
import sys
from collections.abc import AsyncIterable, Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeVar

import attrs
from yarl import URL

from gateway.backends import ollama_wire as wire
from gateway.backends.answer import AnswerStream
from gateway.backends.base import LOAD_TIME_MAX_S, Probe
from gateway.backends.embedding import in_calls
from gateway.backends.http import Exchange, HttpClient, endpoint, headers
from gateway.backends.ollama_embed_wire import embed_body, read_embeddings
from gateway.backends.ollama_generate_wire import GenerateReader, generate_body
from gateway.backends.pieces import new_call_id
from gateway.backends.refusals import overflow, read_error, refusal
from gateway.backends.values import natural
from gateway.config.schema import Limits
from gateway.core import jsonio
from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    ModelNotFound,
    UpstreamBadResponse,
    UpstreamFailed,
)
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings, EmbedRequest, GenerateRequest, Request
from gateway.core.models import ModelInfo

R = TypeVar("R", bound=Request)

_OWNER: Final = "library"
_ASK: Final = headers({"Accept": "application/json", "Content-Type": "application/json"})
_GENERATE: Final = headers({"Accept": "application/x-ndjson", "Content-Type": "application/json"})
_NO_CONTEXTS: Final[Mapping[str, int]] = MappingProxyType({})


class OllamaBackend:
    """One Ollama.

    Args:
        http: Shared with the other backends; not closed here.
        url: Scheme, host and port.
        contexts: Model → tokens to allocate for it, whatever a caller asks. Ollama loads
            a model again for each other number (ollama#8903).
        new_id: Makes the ids of tool calls.

    Attributes:
        tags, running: What it has and what is in its memory, by name and in its own
            words, as the last probe has found it.
    """

    kind: Literal["ollama"] = "ollama"

    def __init__(
        self,
        *,
        http: HttpClient,
        url: str,
        limits: Limits,
        contexts: Mapping[str, int] = _NO_CONTEXTS,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._http = http
        self._limits = limits
        self._contexts = _canonical(contexts)
        self._new_id = new_id
        self._chat_url = endpoint(url, "/api/chat")
        self._generate_url = endpoint(url, "/api/generate")
        self._embed_url = endpoint(url, "/api/embed")
        self._version_url = endpoint(url, "/api/version")
        self._tags_url = endpoint(url, "/api/tags")
        self._ps_url = endpoint(url, "/api/ps")
        self._show_url = endpoint(url, "/api/show")
        self._url = url
        # Models that were asked to reason and can't, as far as was seen.
        self._unreasoning: set[str] = set()
        self.tags: Mapping[str, Mapping[str, Json]] = {}
        self.running: Mapping[str, Mapping[str, Json]] = {}

    def pin(self, contexts: Mapping[str, int]) -> list[str]:
        """Allocate these from now on, as in the constructor; the models for which that is new."""
        before, self._contexts = self._contexts, _canonical(contexts)
        names = before.keys() | self._contexts.keys()
        return [name for name in names if before.get(name) != self._contexts.get(name)]

    @property
    def tokenizer(self) -> None:
        """None: it has no words for its vocabulary."""
        return None

    def canonical(self, model: str) -> str:
        return wire.canonical(model)

    def unsupported(self, request: Request) -> tuple[str, ...]:
        dropped = wire.unsupported(request) if isinstance(request, GenerateRequest) else ()
        if "num_ctx" in request.params and self._pinned(request) is not request:
            dropped = tuple(sorted((*dropped, "num_ctx")))
        if isinstance(request, EmbedRequest):
            return dropped
        if _may_reason(request) and wire.canonical(request.model) in self._unreasoning:
            dropped = tuple(sorted((*dropped, "reasoning_effort")))
        return dropped

    def open(self, request: GenerateRequest) -> AnswerStream:
        """As `InferenceBackend.open`.

        Raises:
            InvalidRequest: The arguments of an earlier tool call are no JSON object.
            BackendRefusedRequest: The prompt is tokens.
        """
        request = self._pinned(request)
        return self._continue(request) if request.prompts else self._chat(request)

    def _chat(self, request: GenerateRequest) -> AnswerStream:
        model = wire.canonical(request.model)
        doubtful = _has_images(request) or _may_reason(request)
        return AnswerStream(
            self._ask_to_chat(request, model),
            wire.ChatReader(
                line_bytes_max=self._limits.upstream_line_bytes_max, new_id=self._new_id
            ),
            refuse=lambda exchange: self._refusal(exchange, model),
            require=(lambda: self._suit(request, model)) if doubtful else None,
            max_tokens=request.max_tokens,
        )

    def _continue(self, request: GenerateRequest) -> AnswerStream:
        model = wire.canonical(request.model)
        return AnswerStream(
            self._http.open(
                "POST", self._generate_url, body=generate_body(request, model), headers=_GENERATE
            ),
            GenerateReader(line_bytes_max=self._limits.upstream_line_bytes_max),
            refuse=lambda exchange: self._refusal(exchange, model, param="prompt"),
            max_tokens=request.max_tokens,
        )

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """As `InferenceBackend.embed`."""
        return await in_calls(self._pinned(request), self._embed)

    async def _embed(self, request: EmbedRequest) -> Embeddings:
        model = wire.canonical(request.model)
        body = embed_body(request, model)
        async with self._http.open("POST", self._embed_url, body=body, headers=_ASK) as exchange:
            if exchange.status != 200:
                raise await self._refusal(exchange, model, param="input")
            answer = await exchange.read_all(self._limits.upstream_answer_bytes_max)
        return read_embeddings(answer, request)

    async def probe(self) -> Probe:
        """Raises BackendError, and RequestTimeout when no answer came in time."""
        tags = _by_name(await self._http.get_json(self._tags_url, headers=_ASK))
        # An old Ollama has neither, and still serves.
        version = await self._ask_if_there(self._version_url)
        running = await self._running()
        self.tags, self.running = tags, running
        models = []
        for name, tag in tags.items():
            allocated = natural(running.get(name, {}).get("context_length"))
            models.append(
                ModelInfo(
                    id=name,
                    created=_epoch(tag.get("modified_at")),
                    owned_by=_OWNER,
                    context_length=allocated,
                    loaded=name in running,
                    size_bytes=natural(tag.get("size")),
                )
            )
        said = version.get("version") if isinstance(version, dict) else None
        return Probe(tuple(models), said if isinstance(said, str) else "")

    async def describe(self, model: str) -> ModelInfo:
        """As `probe` raises; ModelNotFound."""
        name = wire.canonical(model)
        shown = await self.show({"model": name})
        running = await self._running()
        return ModelInfo(
            id=name,
            created=_epoch(shown.get("modified_at")),
            owned_by=_OWNER,
            context_length=natural(running.get(name, {}).get("context_length")),
            context_length_max=_context_length_max(shown.get("model_info")),
            loaded=name in running,
            capabilities=_words(shown.get("capabilities")),
        )

    async def show(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """What it answers to /api/show, as it stands. As `probe` raises; ModelNotFound."""
        status, shown = await self._http.ask(
            "POST", self._show_url, body=jsonio.dumps(body), headers=_ASK
        )
        if status in (400, 404):
            raise _model_not_found()
        if status != 200:
            raise UpstreamFailed("The engine answered a question about a model with an error.")
        if not isinstance(shown, dict):
            raise UpstreamBadResponse("The engine's answer about a model can't be read.")
        return shown

    def passing(
        self, method: str, path: str, body: bytes | AsyncIterable[bytes], content_type: str
    ) -> Exchange:
        """A request that is passed on as it stands, for as long as the block lasts.

        Neither its size nor its time is bounded here: a model has gigabytes.
        """
        return self._http.open(
            method,
            endpoint(self._url, path),
            body=body,
            headers=headers({"Content-Type": content_type}),
            first_byte_timeout_s=math.inf,
            stall_timeout_s=math.inf,
            bytes_max=sys.maxsize,
        )

    async def load(self, model: str) -> None:
        """As `InferenceBackend.load`.

        With the context that is configured for it, else with the model's own options, as
        it is loaded for whoever asks for no others: a `num_ctx` that differs makes Ollama
        load it once more.
        """
        name = wire.canonical(model)
        async with self._http.open(
            "POST",
            self._generate_url,
            body=wire.load_body(name, num_ctx=self._contexts.get(name)),
            headers=_ASK,
            first_byte_timeout_s=LOAD_TIME_MAX_S,
        ) as exchange:
            if exchange.status != 200:
                raise await self._refusal(exchange, name)
            wire.read_loaded(await exchange.read_all(self._limits.upstream_line_bytes_max))

    async def unload(self, model: str) -> None:
        name = wire.canonical(model)
        status, _ = await self._http.ask(
            "POST", self._generate_url, body=wire.unload_body(name), headers=_ASK
        )
        if status == 404:
            raise _model_not_found()
        if status != 200:
            raise UpstreamFailed("The model's engine could not put the model out of memory.")
        self.running = {other: entry for other, entry in self.running.items() if other != name}

    async def close(self) -> None:
        """Nothing: the connections are the client's."""

    def _pinned(self, request: R) -> R:
        """The request with the context that is configured for its model, if one is."""
        num_ctx = self._contexts.get(wire.canonical(request.model))
        if num_ctx is None or request.extensions.get("num_ctx") == num_ctx:
            return request
        return attrs.evolve(request, extensions={**request.extensions, "num_ctx": num_ctx})

    def _ask_to_chat(self, request: GenerateRequest, model: str) -> Exchange:
        body = wire.chat_body(request, model)
        return self._http.open("POST", self._chat_url, body=body, headers=_GENERATE)

    async def _suit(self, request: GenerateRequest, model: str) -> Exchange | None:
        """What to send to the model, if it is not capable of all that is asked.

        Ollama drops the images of a model that can't see, without a word, and answers; one
        that can't reason is not asked at all.

        Raises:
            BackendRefusedRequest: The model can't see. Else as `describe`.
        """
        capabilities = (await self.describe(model)).capabilities
        if not capabilities:
            return None  # An old Ollama tells of none.
        if _has_images(request) and "vision" not in capabilities:
            raise BackendRefusedRequest("This model can't read images.", param="messages")
        if not _may_reason(request):
            return None
        if "thinking" in capabilities:
            self._unreasoning.discard(model)
            return None
        self._unreasoning.add(model)
        return self._ask_to_chat(attrs.evolve(request, reasoning_effort=None), model)

    async def _refusal(
        self, exchange: Exchange, model: str, *, param: str = "messages"
    ) -> GatewayError:
        """The error that a status other than 200 means. `param` is what the prompt is called."""
        text = await read_error(exchange)
        if exchange.status == 404 or "invalid model name" in text:
            return _model_not_found()
        found = overflow(text)
        if found is None:
            return refusal(exchange.status, text, retry_after=exchange.retry_after, param=param)
        if found.context is None:
            # v0.24 gives no numbers, but it has just loaded the model to find out.
            try:
                running = await self._running()
            except GatewayError:
                running = {}
            allocated = natural(running.get(model, {}).get("context_length"))
            found = attrs.evolve(found, context=allocated)
        return found.error(param)

    async def _running(self) -> dict[str, dict[str, Json]]:
        return _by_name(await self._ask_if_there(self._ps_url))

    async def _ask_if_there(self, url: URL) -> Json:
        try:
            return await self._http.get_json(url, headers=_ASK)
        except (UpstreamFailed, UpstreamBadResponse):
            return None


def _canonical(contexts: Mapping[str, int]) -> dict[str, int]:
    return {wire.canonical(name): num_ctx for name, num_ctx in contexts.items()}


def _has_images(request: GenerateRequest) -> bool:
    return any(
        not isinstance(message.content, str) and message.images for message in request.messages
    )


def _may_reason(request: GenerateRequest) -> bool:
    """Whether it should, if it can."""
    return request.reasoning_optional and request.reasoning_effort not in (None, "none")


def _model_not_found() -> ModelNotFound:
    return ModelNotFound("No engine has this model.", param="model")


# --- What Ollama tells of itself: any field may be missing or odd -------------------


def _by_name(listing: Json) -> dict[str, dict[str, Json]]:
    """The entries of /api/tags and /api/ps by the model's full name."""
    models = listing.get("models") if isinstance(listing, dict) else None
    return {
        entry["name"]: entry
        for entry in (models if isinstance(models, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }


def _words(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(word for word in value if isinstance(word, str))


def _context_length_max(model_info: Json) -> int | None:
    """Of `<architecture>.context_length`."""
    if not isinstance(model_info, dict):
        return None
    return natural(model_info.get(f"{model_info.get('general.architecture')}.context_length"))


def _epoch(moment: Json) -> int:
    """Seconds since the epoch of an RFC 3339 time; 0 for anything else."""
    if not isinstance(moment, str):
        return 0
    try:
        return max(0, int(datetime.datetime.fromisoformat(moment).timestamp()))
    except (ValueError, OverflowError):
        return 0
