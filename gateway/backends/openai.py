"""The driver of any engine with OpenAI's API: vLLM, llama.cpp's server, and the like."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal

import attrs
from multidict import CIMultiDict
from yarl import URL

from gateway.backends import openai_embeddings_wire
from gateway.backends import openai_wire as wire
from gateway.backends.answer import AnswerStream
from gateway.backends.base import EventStream, Probe
from gateway.backends.embedding import in_calls
from gateway.backends.fitting import Fitting
from gateway.backends.http import Exchange, HttpClient, endpoint
from gateway.backends.openai_completions_wire import CompletionReader, completion_body
from gateway.backends.openai_embeddings_wire import embeddings_body, read_embeddings
from gateway.backends.openai_tokens import (
    NOT_IN_THE_VOCABULARY,
    LlamaCppTokenizer,
    Questions,
    VllmTokenizer,
)
from gateway.backends.pieces import new_call_id
from gateway.backends.refusals import overflow, read_error, refusal
from gateway.backends.tokenizing import Tokenizer
from gateway.backends.values import natural
from gateway.config.schema import Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
    UpstreamBadResponse,
    UpstreamFailed,
)
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings, EmbedRequest, GenerateRequest, Prompt, Request
from gateway.core.models import OWNER_DEFAULT, ModelInfo
from gateway.core.tokens import Spelling

_VLLM: Final = "vllm"


class OpenAIBackend:
    """One engine behind OpenAI's API.

    Args:
        http: Shared with the other backends; not closed here.
        url: Scheme, host and port; a path before `/v1` is kept.
        api_key: The engine's own; empty for none.
        reuse_connections: False for an engine that closes them without a word.
        new_id: Makes the ids of tool calls that have none.
    """

    kind: Literal["openai", "llamacpp"] = "openai"

    def __init__(
        self,
        *,
        http: HttpClient,
        url: str,
        limits: Limits,
        api_key: str = "",
        reuse_connections: bool = True,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._http = http
        self._limits = limits
        self._new_id = new_id
        # Of llama.cpp, unless the list of models says that it is another's.
        self._is_vllm = False
        self._extensions = wire.LLAMA_CPP_EXTENSIONS
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._ask = CIMultiDict({"Accept": "application/json", **key})
        self._generate = CIMultiDict(
            {"Accept": "text/event-stream", "Content-Type": "application/json", **key}
        )
        self._question = CIMultiDict({**self._ask, "Content-Type": "application/json"})
        if not reuse_connections:
            self._generate["Connection"] = self._question["Connection"] = "close"
        self.relocate(url)

    def relocate(self, url: str) -> None:
        """From now on the engine is there: an embedded one knows its port only when it is up."""
        self._base = base = url.rstrip("/").removesuffix("/v1")
        self._chat_url: URL = endpoint(base, "/v1/chat/completions")
        self._completions_url: URL = endpoint(base, "/v1/completions")
        self._embeddings_url: URL = endpoint(base, "/v1/embeddings")
        self._models_url: URL = endpoint(base, "/v1/models")

    @property
    def tokenizer(self) -> Tokenizer:
        return VllmTokenizer(self.questions) if self._is_vllm else LlamaCppTokenizer(self.questions)

    @property
    def questions(self) -> Questions:
        """How it is asked about its vocabulary, where it is now."""
        return Questions(
            http=self._http,
            headers=self._question,
            base=self._base,
            answer_bytes_max=self._limits.upstream_answer_bytes_max,
        )

    def canonical(self, model: str) -> str:
        return model

    def unsupported(self, request: Request) -> tuple[str, ...]:
        if isinstance(request, EmbedRequest):
            return openai_embeddings_wire.unsupported(request, vllm=self._is_vllm)
        return wire.unsupported(request, self._extensions)

    def open(self, request: GenerateRequest) -> AbstractAsyncContextManager[EventStream]:
        return Fitting(self._continue if request.prompts else self._chat, request)

    def _chat(self, request: GenerateRequest) -> AnswerStream:
        return AnswerStream(
            self._http.open(
                "POST",
                self._chat_url,
                body=wire.chat_body(request, self._extensions),
                headers=self._generate,
            ),
            wire.ChatReader(
                event_bytes_max=self._limits.upstream_line_bytes_max,
                new_id=self._new_id,
                top_logprobs=request.logprobs,
            ),
            refuse=_refusal,
            max_tokens=request.max_tokens,
        )

    def _continue(self, request: GenerateRequest) -> AnswerStream:
        return AnswerStream(
            self._http.open(
                "POST",
                self._completions_url,
                body=completion_body(request, self._extensions),
                headers=self._generate,
            ),
            CompletionReader(
                event_bytes_max=self._limits.upstream_line_bytes_max,
                top_logprobs=request.logprobs,
            ),
            refuse=lambda exchange: _refusal(exchange, param="prompt"),
            max_tokens=request.max_tokens,
        )

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """As `InferenceBackend.embed`."""
        return await in_calls(request, self._embed)

    async def _embed(self, request: EmbedRequest) -> Embeddings:
        vllm = self._is_vllm
        async with self._http.open(
            "POST",
            self._embeddings_url,
            body=embeddings_body(request, vllm=vllm),
            headers=self._question,
        ) as exchange:
            if exchange.status == 200:
                answer = await exchange.read_all(self._limits.upstream_answer_bytes_max)
                return read_embeddings(answer, request, vllm=vllm)
            text = await read_error(exchange)
        refused = _embedding_refusal(exchange.status, text, retry_after=exchange.retry_after)
        found = overflow(text)
        if found is None or found.context is None or not request.truncate:
            raise refused
        try:
            cut = await self._cut(request, found.context)
        except NotSupported:
            raise refused from None
        return await self._embed(cut)

    async def _cut(self, request: EmbedRequest, context: int) -> EmbedRequest:
        """The request with inputs that fit: llama.cpp cuts none by itself.

        Raises:
            NotSupported: It has no words for its vocabulary. Else as `embed`.
        """
        inputs: list[tuple[int, ...]] = []
        for item in request.inputs:
            if isinstance(item, str):
                asked = GenerateRequest(model=request.model, prompts=(Prompt(item),))
                spelling = Spelling(add_special=True)  # As it reads an input itself.
                item = tuple((await self.tokenizer.tokenize(asked, spelling)).ids)
            inputs.append(item[: context - 1])  # It wants room for one more.
        return attrs.evolve(request, inputs=tuple(inputs), truncate=False)

    async def probe(self) -> Probe:
        """Raises BackendError, and RequestTimeout when no answer came in time."""
        listing = await self._http.get_json(self._models_url, headers=self._ask)
        entries = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            raise UpstreamBadResponse("The engine's list of models can't be read.")
        entries = [
            entry
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        self._is_vllm = any(entry.get("owned_by") == _VLLM for entry in entries)
        self._extensions = frozenset() if self._is_vllm else wire.LLAMA_CPP_EXTENSIONS
        return Probe(tuple(_model(entry) for entry in entries))

    async def describe(self, model: str) -> ModelInfo:
        """As `probe` raises; ModelNotFound. llama.cpp has no endpoint for one model."""
        for info in (await self.probe()).models:
            if info.id == model:
                return info
        raise _model_not_found()

    async def load(self, model: str) -> None:
        """Nothing: it serves what it has in memory."""

    async def unload(self, model: str) -> None:
        raise NotSupported("This model's engine keeps its models in memory.")

    async def close(self) -> None:
        """Nothing: the connections are the client's."""


async def _refusal(exchange: Exchange, *, param: str = "messages") -> GatewayError:
    """The error that a status other than 200 means. `param` is what the prompt is called."""
    text = await read_error(exchange)
    if exchange.status == 404:
        # A server that does not know the route has no words about a model.
        if "model" in text.lower():
            return _model_not_found()
        return UpstreamFailed("The model's engine answered with an error.")
    return refusal(exchange.status, text, retry_after=exchange.retry_after, param=param)


def _embedding_refusal(status: int, text: str, *, retry_after: str) -> GatewayError:
    if status == 404:
        if "model" in text.lower():
            return _model_not_found()
        # vLLM has the route only where its model has vectors.
        return BackendRefusedRequest("This model can't embed.")
    if NOT_IN_THE_VOCABULARY.search(text):
        return InvalidRequest("'input' must be tokens of this model's vocabulary.", param="input")
    return refusal(status, text, retry_after=retry_after, param="input")


def _model_not_found() -> ModelNotFound:
    return ModelNotFound("No engine has this model.", param="model")


def _model(entry: dict[str, Json]) -> ModelInfo:
    meta = entry.get("meta")
    if not isinstance(meta, dict):  # Only llama.cpp tells more.
        meta = {}
    owner = entry.get("owned_by")
    # The length that is allocated for one request: llama.cpp's, vLLM's.
    allocated = natural(meta.get("n_ctx")) or natural(entry.get("max_model_len"))
    quantization = meta.get("ftype")
    return ModelInfo(
        id=entry["id"],
        created=natural(entry.get("created")) or 0,
        owned_by=owner if isinstance(owner, str) else OWNER_DEFAULT,
        context_length=allocated,
        context_length_max=natural(meta.get("n_ctx_train")) or allocated,
        size_bytes=natural(meta.get("size")),
        format="gguf" if meta else "",
        parameter_count=natural(meta.get("n_params")),
        quantization=quantization if isinstance(quantization, str) else "",
    )
