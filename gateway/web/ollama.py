"""What Ollama's clients ask besides answers: which models there are.

An Ollama's own words about its models are passed on as the health check has
heard them, so that a list costs no call of its own; of other engines' models the
same is told as far as it is known.
"""

from collections.abc import Iterator, Mapping

from aiohttp import web

from gateway.admission.models import listed_for, may_use, require_model
from gateway.backends.ollama import OllamaBackend
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import InvalidRequest, MalformedRequest
from gateway.core.jsonio import Json
from gateway.core.ticket import ANONYMOUS, Caller
from gateway.dialects import fields, ollama_models
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.web.intake import Intake
from gateway.web.visit import VISIT, json_reply


class Ollama:
    """GET /api/tags, /api/ps and /api/version, POST /api/show."""

    def __init__(self, *, pool: Pool, health: HealthMonitor, intake: Intake, clock: Clock) -> None:
        self._pool = pool
        self._health = health
        self._intake = intake
        self._clock = clock

    async def tags(self, web_request: web.Request) -> web.Response:
        await self._health.refresh()
        installed = self._installed(_caller(web_request))
        return self._reply(web_request, ollama_models.listing(installed))

    async def ps(self, web_request: web.Request) -> web.Response:
        await self._health.refresh()
        running = self._running(_caller(web_request))
        return self._reply(web_request, ollama_models.listing(running))

    async def version(self, web_request: web.Request) -> web.Response:
        """Of the first Ollama that has told its own."""
        versions = (up.version for up in self._pool.upstreams if up.backend.kind == "ollama")
        return self._reply(web_request, ollama_models.version(next(filter(None, versions), "")))

    async def show(self, web_request: web.Request) -> web.Response:
        with self._intake.share() as share:
            body = _asked(await self._intake.body(web_request, share))
        name = body["model"]
        require_model(_caller(web_request), name, self._pool.catalogue)
        model = self._pool.catalogue.named(name)
        await self._health.refresh()
        backend = self._pool.require(model)[0].backend
        if isinstance(backend, OllamaBackend):
            shown = await backend.show({**body, "model": backend.canonical(model)})
            return self._reply(web_request, jsonio.dumps(shown))
        info = self._pool.catalogue.described(name, await backend.describe(model))
        return self._reply(web_request, ollama_models.shown(info))

    def _installed(self, caller: Caller) -> Iterator[Mapping[str, Json]]:
        """Every model that the caller can ask for, also by the operator's own names."""
        told: dict[str, Mapping[str, Json] | None] = {}
        for upstream in self._pool.upstreams:
            for name in upstream.models or ():
                told.setdefault(name, _tags(upstream).get(name))
        for info in listed_for(caller, self._pool):
            entry = told.get(info.alias_of or info.id)
            yield ollama_models.named(entry, info.id) if entry else ollama_models.installed(info)

    def _running(self, caller: Caller) -> Iterator[Mapping[str, Json]]:
        """Every such model that is in memory; one that is in that of several engines, once."""
        seen: set[str] = set()
        for upstream in self._pool.upstreams:
            for name, entry in _in_memory(upstream).items():
                if name not in seen and may_use(caller, name, self._pool.catalogue):
                    seen.add(name)
                    yield entry

    def _reply(self, web_request: web.Request, body: bytes) -> web.Response:
        return json_reply(web_request[VISIT], body, self._clock.now())


def _caller(web_request: web.Request) -> Caller:
    return web_request[VISIT].caller or ANONYMOUS


def _tags(upstream: Upstream) -> Mapping[str, Mapping[str, Json]]:
    """What an Ollama says of its models, by name; nothing of another engine."""
    backend = upstream.backend
    return backend.tags if isinstance(backend, OllamaBackend) else {}


def _in_memory(upstream: Upstream) -> Mapping[str, Mapping[str, Json]]:
    """The models that it offers and holds, by name."""
    models = upstream.models or {}
    backend = upstream.backend
    if isinstance(backend, OllamaBackend):
        return {name: entry for name, entry in backend.running.items() if name in models}
    return {
        name: ollama_models.running(info) for name, info in models.items() if upstream.holds(name)
    }


def _asked(body: bytes | bytearray) -> dict[str, Json]:
    """The body of POST /api/show, its model by the name that is not deprecated.

    Raises:
        MalformedRequest, InvalidRequest
    """
    document = jsonio.parse_body(body)
    if not isinstance(document, dict):
        raise MalformedRequest("The body must be a JSON object.")
    old_name = document.pop("name", None)
    name = document.get("model") or old_name
    if not name:
        raise InvalidRequest("'model' is required: the name of a model.", param="model")
    return {**document, "model": fields.model_name(name, "model")}
