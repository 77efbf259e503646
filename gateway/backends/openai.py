"""The driver of any engine with OpenAI's API: vLLM, llama.cpp's server, and the like."""

from collections.abc import Callable
from typing import Final, Literal

from multidict import CIMultiDict
from yarl import URL

from gateway.backends import openai_wire as wire
from gateway.backends.answer import AnswerStream
from gateway.backends.base import OWNER_DEFAULT, ModelInfo, Probe
from gateway.backends.http import Exchange, HttpClient, endpoint
from gateway.backends.pieces import new_call_id
from gateway.backends.refusals import read_error, refusal
from gateway.backends.values import natural
from gateway.config.schema import Limits
from gateway.core.errors import GatewayError, ModelNotFound, UpstreamBadResponse, UpstreamFailed
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest

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
        self._extensions = wire.LLAMA_CPP_EXTENSIONS
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._ask = CIMultiDict({"Accept": "application/json", **key})
        self._chat = CIMultiDict(
            {"Accept": "text/event-stream", "Content-Type": "application/json", **key}
        )
        if not reuse_connections:
            self._chat["Connection"] = "close"
        self.relocate(url)

    def relocate(self, url: str) -> None:
        """From now on the engine is there: an embedded one knows its port only when it is up."""
        base = url.rstrip("/").removesuffix("/v1")
        self._chat_url: URL = endpoint(base, "/v1/chat/completions")
        self._models_url: URL = endpoint(base, "/v1/models")

    def canonical(self, model: str) -> str:
        return model

    def unsupported(self, request: GenerateRequest) -> tuple[str, ...]:
        return wire.unsupported(request, self._extensions)

    def open(self, request: GenerateRequest) -> AnswerStream:
        return AnswerStream(
            self._http.open(
                "POST",
                self._chat_url,
                body=wire.chat_body(request, self._extensions),
                headers=self._chat,
            ),
            wire.ChatReader(
                event_bytes_max=self._limits.upstream_line_bytes_max,
                new_id=self._new_id,
                top_logprobs=request.logprobs,
            ),
            refuse=_refusal,
            max_tokens=request.max_tokens,
        )

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
        known = not any(entry.get("owned_by") == _VLLM for entry in entries)
        self._extensions = wire.LLAMA_CPP_EXTENSIONS if known else frozenset()
        return Probe(tuple(_model(entry) for entry in entries))

    async def describe(self, model: str) -> ModelInfo:
        """As `probe` raises; ModelNotFound. llama.cpp has no endpoint for one model."""
        for info in (await self.probe()).models:
            if info.id == model:
                return info
        raise _model_not_found()

    async def load(self, model: str) -> None:
        """Nothing: it serves what it has in memory."""

    async def close(self) -> None:
        """Nothing: the connections are the client's."""


async def _refusal(exchange: Exchange) -> GatewayError:
    """The error that a status other than 200 means."""
    text = await read_error(exchange)
    if exchange.status == 404:
        # A server that does not know the route has no words about a model.
        if "model" in text.lower():
            return _model_not_found()
        return UpstreamFailed("The model's engine answered with an error.")
    return refusal(exchange.status, text, retry_after=exchange.retry_after)


def _model_not_found() -> ModelNotFound:
    return ModelNotFound("No engine has this model.", param="model")


def _model(entry: dict[str, Json]) -> ModelInfo:
    meta = entry.get("meta")
    if not isinstance(meta, dict):  # Only llama.cpp tells more.
        meta = {}
    owner = entry.get("owned_by")
    # The length that is allocated for one request: llama.cpp's, vLLM's.
    allocated = natural(meta.get("n_ctx")) or natural(entry.get("max_model_len"))
    return ModelInfo(
        id=entry["id"],
        created=natural(entry.get("created")) or 0,
        owned_by=owner if isinstance(owner, str) else OWNER_DEFAULT,
        context_length=allocated,
        context_length_max=natural(meta.get("n_ctx_train")) or allocated,
        size_bytes=natural(meta.get("size")),
    )
