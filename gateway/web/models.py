"""Which models there are: one list for all dialects."""

from aiohttp import web

from gateway.core.clock import Clock
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
        return self._reply(web_request, openai_models.listing(self._pool.listed()))

    async def one(self, web_request: web.Request) -> web.Response:
        name = web_request.match_info["model"]
        catalogue = self._pool.catalogue
        model = catalogue.named(name)
        await self._health.refresh()
        upstream = self._pool.require(model)[0]
        found = catalogue.described(name, await upstream.backend.describe(model))
        return self._reply(web_request, openai_models.single(found))

    def _reply(self, web_request: web.Request, body: bytes) -> web.Response:
        return json_reply(web_request[VISIT], body, self._clock.now())
