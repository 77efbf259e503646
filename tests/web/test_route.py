"""One row of the table of routes."""

import pytest
from aiohttp import web

from gateway.web.route import Route


async def handler(web_request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    "template",
    [
        "/",
        "/v1/models/{model:.+}",
        "/v1/requests/{id}",
        r"/api/blobs/{digest:sha256:[0-9a-f]{64}}",
        "/{first:a|b}/and/{second}",
    ],
)
def test_its_path_is_what_the_router_calls_it(template: str) -> None:
    app = web.Application()
    resource = app.router.add_get(template, handler).resource
    assert resource is not None
    route = Route("GET", template, handler, "", tag="Gateway", answers=[], errors=[])
    assert route.path == resource.canonical
