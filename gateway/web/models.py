"""Which models there are: one list for all dialects."""

from aiohttp import web

from gateway.core.clock import Clock
from gateway.dialects import openai_models
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.service import Service
from gateway.web.visit import VISIT, json_reply


class Models:
    """GET /v1/models and /v1/models/{id}."""

    def __init__(
        self, *, service: Service, pool: Pool, health: HealthMonitor, clock: Clock
    ) -> None:
        self._pool = pool
        self._health = health
        self._clock = clock
        self._service = service

    async def list(self, web_request: web.Request) -> web.Response:
        await self._health.refresh()
        return self._reply(web_request, openai_models.listing(self._pool.models()))

    async def one(self, web_request: web.Request) -> web.Response:
        name = self._service.model_named(web_request.match_info["model"])
        await self._health.refresh()
        upstream = self._pool.require(name)[0]
        return self._reply(web_request, openai_models.single(await upstream.backend.describe(name)))

    def _reply(self, web_request: web.Request, body: bytes) -> web.Response:
        return json_reply(web_request[VISIT], body, self._clock.now())
