"""The table of routes, and the one aiohttp Application that serves it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from gateway.web.inference import Inference
from gateway.web.middleware import Edge
from gateway.web.models import Models
from gateway.web.ops import Ops
from gateway.web.requests import Requests

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]

CHAT_COMPLETIONS: Final = "/v1/chat/completions"


def routes(*, chat: Inference, models: Models, requests: Requests, ops: Ops) -> Sequence[Route]:
    """Method, template and handler of every URL there is. A GET answers to HEAD too."""
    return (
        ("POST", CHAT_COMPLETIONS, chat.handle),
        ("GET", "/v1/models", models.list),
        ("GET", "/v1/models/{model:.+}", models.one),
        ("GET", "/v1/requests/{id}", requests.one),
        ("GET", "/health", ops.health),
        ("GET", "/ready", ops.ready),
        ("GET", "/metrics", ops.metrics),
    )


def application(table: Sequence[Route], edge: Edge) -> web.Application:
    app = web.Application(middlewares=[edge])
    for method, template, handler in table:
        if method == "GET":
            app.router.add_get(template, handler)
        else:
            app.router.add_route(method, template, handler)
    return app


def templates(app: web.Application) -> list[tuple[str, str]]:
    """Method and template of every route, as `middleware.route_of` spells them."""
    return [
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
