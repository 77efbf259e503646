"""Responses that are asked for again: there are none, and who asks is told so."""

from typing import Any, Final, NoReturn

from aiohttp import web

from gateway.core.errors import ResponseNotFound
from gateway.web.route import Route

RESPONSE: Final = "/v1/responses/{id:resp_[^/]+}"


async def no_response(web_request: web.Request) -> NoReturn:
    raise ResponseNotFound(
        "No response is kept here once it is sent: there is none to fetch, cancel or delete."
        " Send the whole conversation as 'input' each time."
    )


def _route(method: str, template: str, summary: str) -> Route:
    told: dict[str, Any] = {"tag": "OpenAI", "answers": [], "errors": [ResponseNotFound]}
    return Route(method, template, no_response, summary, **told)


ROUTES: Final = (
    _route("GET", RESPONSE, "An earlier response: none is kept"),
    _route("DELETE", RESPONSE, "Forget a response: none is kept"),
    _route("POST", f"{RESPONSE}/cancel", "Cancel a response: none runs unattended"),
    _route("GET", f"{RESPONSE}/input_items", "What a response was asked: it is not kept"),
)
