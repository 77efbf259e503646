"""The table of routes, and the one aiohttp Application that serves it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
from aiohttp import web

from gateway.web.inference import Inference
from gateway.web.middleware import Edge
from gateway.web.models import Models
from gateway.web.ops import Ops
from gateway.web.requests import Requests

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHAT_COMPLETIONS: Final = "/v1/chat/completions"


@attrs.frozen
class Route:
    """One URL.

    Attributes:
        method: A GET answers to HEAD too.
        summary: What it is for, in a line without a full stop.
    """

    method: str
    template: str
    handler: Handler
    summary: str


def routes(
    *, chat: Inference[Any], models: Models, requests: Requests, ops: Ops
) -> Sequence[Route]:
    """Every URL there is."""
    return (
        Route("POST", CHAT_COMPLETIONS, chat.handle, "A chat completion, as OpenAI has it"),
        Route("GET", "/v1/models", models.list, "The models that can be asked for"),
        Route("GET", "/v1/models/{model:.+}", models.one, "One model"),
        Route("GET", "/v1/requests/{id}", requests.one, "Where a request of yours is"),
        Route("GET", "/health", ops.health, "Whether the gateway runs; always 200"),
        Route("GET", "/ready", ops.ready, "Whether a request would have a chance"),
        Route("GET", "/metrics", ops.metrics, "Metrics for Prometheus"),
    )


def application(table: Sequence[Route], edge: Edge) -> web.Application:
    app = web.Application(middlewares=[edge])
    for route in table:
        if route.method == "GET":
            app.router.add_get(route.template, route.handler)
        else:
            app.router.add_route(route.method, route.template, route.handler)
    return app


def templates(app: web.Application) -> list[tuple[str, str]]:
    """Method and template of every route, as `middleware.route_of` spells them."""
    return [
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
