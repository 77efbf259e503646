"""The driver of an Ollama, by its native API."""

import datetime
from collections.abc import Callable
from typing import Final, Literal

import attrs
from yarl import URL

from gateway.backends import ollama_wire as wire
from gateway.backends.answer import AnswerStream
from gateway.backends.base import LOAD_TIME_MAX_S, ModelInfo, Probe
from gateway.backends.http import Exchange, HttpClient, endpoint, headers
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
from gateway.core.messages import GenerateRequest

_OWNER: Final = "library"
_ASK: Final = headers({"Accept": "application/json", "Content-Type": "application/json"})
_CHAT: Final = headers({"Accept": "application/x-ndjson", "Content-Type": "application/json"})


class OllamaBackend:
    """One Ollama.

    Args:
        http: Shared with the other backends; not closed here.
        url: Scheme, host and port.
        new_id: Makes the ids of tool calls.
    """

    kind: Literal["ollama"] = "ollama"

    def __init__(
        self,
        *,
        http: HttpClient,
        url: str,
        limits: Limits,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._http = http
        self._limits = limits
        self._new_id = new_id
        self._chat_url = endpoint(url, "/api/chat")
        self._generate_url = endpoint(url, "/api/generate")
        self._version_url = endpoint(url, "/api/version")
        self._tags_url = endpoint(url, "/api/tags")
        self._ps_url = endpoint(url, "/api/ps")
        self._show_url = endpoint(url, "/api/show")

    def canonical(self, model: str) -> str:
        return wire.canonical(model)

    def unsupported(self, request: GenerateRequest) -> tuple[str, ...]:
        return wire.unsupported(request)

    def open(self, request: GenerateRequest) -> AnswerStream:
        """As `InferenceBackend.open`.

        Raises:
            InvalidRequest: The arguments of an earlier tool call are no JSON object.
        """
        model = wire.canonical(request.model)
        return AnswerStream(
            self._http.open(
                "POST", self._chat_url, body=wire.chat_body(request, model), headers=_CHAT
            ),
            wire.ChatReader(
                line_bytes_max=self._limits.upstream_line_bytes_max, new_id=self._new_id
            ),
            refuse=lambda exchange: self._refusal(exchange, model),
            require=(lambda: self._require_vision(model)) if _has_images(request) else None,
            max_tokens=request.max_tokens,
        )

    async def probe(self) -> Probe:
        """Raises BackendError, and RequestTimeout when no answer came in time."""
        tags = _by_name(await self._http.get_json(self._tags_url, headers=_ASK))
        # An old Ollama has neither, and still serves.
        version = await self._ask_if_there(self._version_url)
        running = await self._running()
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
        status, shown = await self._http.ask(
            "POST", self._show_url, body=jsonio.dumps({"model": name}), headers=_ASK
        )
        if status in (400, 404):
            raise _model_not_found()
        if status != 200:
            raise UpstreamFailed("The engine answered a question about a model with an error.")
        if not isinstance(shown, dict):
            raise UpstreamBadResponse("The engine's answer about a model can't be read.")
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

    async def load(self, model: str) -> None:
        """As `InferenceBackend.load`.

        With the model's own options, as it is loaded for whoever asks for no others:
        a `num_ctx` that differs makes Ollama load it once more.
        """
        name = wire.canonical(model)
        async with self._http.open(
            "POST",
            self._generate_url,
            body=wire.load_body(name),
            headers=_ASK,
            first_byte_timeout_s=LOAD_TIME_MAX_S,
        ) as exchange:
            if exchange.status != 200:
                raise await self._refusal(exchange, name)
            wire.read_loaded(await exchange.read_all(self._limits.upstream_line_bytes_max))

    async def close(self) -> None:
        """Nothing: the connections are the client's."""

    async def _require_vision(self, model: str) -> None:
        """Ollama drops the images of a model that can't see, without a word, and answers.

        Raises:
            BackendRefusedRequest: The model can't see. Else as `describe`.
        """
        capabilities = (await self.describe(model)).capabilities
        # An old Ollama tells of none.
        if capabilities and "vision" not in capabilities:
            raise BackendRefusedRequest("This model can't read images.", param="messages")

    async def _refusal(self, exchange: Exchange, model: str) -> GatewayError:
        """The error that a status other than 200 means."""
        text = await read_error(exchange)
        if exchange.status == 404 or "invalid model name" in text:
            return _model_not_found()
        found = overflow(text)
        if found is None:
            return refusal(exchange.status, text, retry_after=exchange.retry_after)
        if found.context is None:
            # v0.24 gives no numbers, but it has just loaded the model to find out.
            try:
                running = await self._running()
            except GatewayError:
                running = {}
            allocated = natural(running.get(model, {}).get("context_length"))
            found = attrs.evolve(found, context=allocated)
        return found.error()

    async def _running(self) -> dict[str, dict[str, Json]]:
        return _by_name(await self._ask_if_there(self._ps_url))

    async def _ask_if_there(self, url: URL) -> Json:
        try:
            return await self._http.get_json(url, headers=_ASK)
        except (UpstreamFailed, UpstreamBadResponse):
            return None


def _has_images(request: GenerateRequest) -> bool:
    return any(
        not isinstance(message.content, str) and message.images for message in request.messages
    )


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
