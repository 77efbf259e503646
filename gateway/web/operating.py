"""POST /gateway/models/load and /gateway/models/unload: what operators do with models.

A load goes through the queue as every client's does: past it, it would throw out of
memory the model that others wait for.
"""

import attrs
from aiohttp import web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import InvalidRequest, MalformedRequest, UnsupportedMediaType
from gateway.core.messages import GenerateRequest
from gateway.core.ticket import ANONYMOUS, Caller
from gateway.dialects import fields
from gateway.pool.health import HealthMonitor
from gateway.service import Service
from gateway.story import Answer
from gateway.web.intake import Intake
from gateway.web.visit import VISIT, json_reply


class Operating:
    """Brings models to memory and puts them out of it, for operators."""

    def __init__(
        self, *, service: Service, health: HealthMonitor, intake: Intake, clock: Clock
    ) -> None:
        self._service = service
        self._health = health
        self._intake = intake
        self._clock = clock

    async def load(self, web_request: web.Request) -> web.Response:
        """Answers when it is there; it goes on loading for a client that leaves."""
        model = await self._model(web_request)
        visit = web_request[VISIT]
        await self._service.run(
            GenerateRequest(model=model),
            _to_its_end,
            caller=visit.caller or ANONYMOUS,
            request_id=visit.request_id,
            heard=visit.heard,
        )
        return await self._reply(web_request, model, loaded=True)

    async def unload(self, web_request: web.Request) -> web.Response:
        """Out of every engine that has it; what runs on it ends first."""
        model = await self._model(web_request)
        caller: Caller = web_request[VISIT].caller or ANONYMOUS
        # Who may operate the daemon may do this too; that was asked before.
        await self._service.unload(model, attrs.evolve(caller, manage_models=True))
        return await self._reply(web_request, model, loaded=False)

    async def _model(self, web_request: web.Request) -> str:
        """The name in the body.

        Raises:
            UnsupportedMediaType, MalformedRequest, InvalidRequest, and as `read_body`.
        """
        # A page of another site can't send this type unasked.
        if web_request.content_type != "application/json":
            raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
        with self._intake.share() as share:
            document = jsonio.parse_body(await self._intake.body(web_request, share))
        if not isinstance(document, dict):
            raise MalformedRequest("The body must be a JSON object.")
        if unknown := sorted(document.keys() - {"model"}):
            raise InvalidRequest(
                f"There is no parameter '{unknown[0]}' here, only 'model'.", param=unknown[0]
            )
        return fields.model_name(document.get("model"), "model")

    async def _reply(self, web_request: web.Request, model: str, *, loaded: bool) -> web.Response:
        # Whoever looks next sees what it takes of the memory.
        await self._health.refresh()
        visit, now = web_request[VISIT], self._clock.now()
        body = {
            "object": "gateway.model",
            "model": self._service.model_named(model),
            "loaded": loaded,
            "seconds": round(now - visit.arrived_at, 3),
        }
        return json_reply(visit, jsonio.dumps(body), now)


async def _to_its_end(answer: Answer) -> None:
    while await answer.read():
        pass
