"""What operators and their machines ask: /health, /ready, /metrics."""

from collections.abc import Callable

import attrs
from aiohttp import hdrs, web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.web.visit import VISIT, json_reply


@attrs.frozen
class Readiness:
    """Whether new requests have a chance.

    Attributes:
        reason: "" when ready; draining, warming_up, backend or queue_full otherwise.
        detail: A sentence for a person.
    """

    reason: str = ""
    detail: str = ""


class Ops:
    """Three answers that cost nothing and wait for nobody."""

    def __init__(
        self,
        *,
        readiness: Callable[[], Readiness],
        scrape: Callable[[], bytes],
        scrape_content_type: str,
        clock: Clock,
    ) -> None:
        self._readiness = readiness
        self._scrape = scrape
        self._scrape_content_type = scrape_content_type
        self._clock = clock

    async def health(self, web_request: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return self._reply(web_request, {"status": "ok"})

    async def ready(self, web_request: web.Request) -> web.Response:
        now = self._readiness()
        if not now.reason:
            return self._reply(web_request, {"ready": True})
        return self._reply(
            web_request, {"ready": False, "reason": now.reason, "detail": now.detail}, status=503
        )

    async def metrics(self, web_request: web.Request) -> web.Response:
        headers = web_request[VISIT].headers(self._clock.now())
        headers["Content-Type"] = self._scrape_content_type
        return web.Response(body=self._scrape(), headers=headers)

    def _reply(
        self, web_request: web.Request, document: jsonio.Json, status: int = 200
    ) -> web.Response:
        body = jsonio.dumps(document)
        reply = json_reply(web_request[VISIT], body, self._clock.now(), status=status)
        reply.headers[hdrs.CACHE_CONTROL] = "no-store"
        return reply
