"""Which models there are: one list for all dialects."""

from aiohttp import web

from gateway.admission.models import listed_for, require_model
from gateway.core.clock import Clock
from gateway.core.ticket import ANONYMOUS
from gateway.dialects import openai_models
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.web.visit import VISIT, json_reply


class Models:
    """GET /v1/models and /v1/models/{id}."""

    def __init__(self, *, pool: Pool, health: HealthMonitor, clock: Clock) -> None:
        self._pool = pool
        self._health = health
        self._clock = clock

    async def list(self, web_request: web.Request) -> web.Response:
        await self._health.refresh()
        caller = web_request[VISIT].caller or ANONYMOUS
        return self._reply(web_request, openai_models.listing(listed_for(caller, self._pool)))

    async def one(self, web_request: web.Request) -> web.Response:
        name = web_request.match_info["model"]
        catalogue = self._pool.catalogue
        require_model(web_request[VISIT].caller or ANONYMOUS, name, catalogue)
        model = catalogue.named(name)
        await self._health.refresh()
        upstream = self._pool.require(model)[0]
        found = catalogue.described(name, await upstream.backend.describe(model))
        return self._reply(web_request, openai_models.single(found))

    def _reply(self, web_request: web.Request, body: bytes) -> web.Response:
        return json_reply(web_request[VISIT], body, self._clock.now())
