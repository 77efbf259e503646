"""Which handler answers a URL now.

Handlers are made for one configuration and keep it: whoever begins to be answered has
one from beginning to end. A reload makes new ones, and puts all of them in at once.
"""

from collections.abc import Mapping, Sequence

from aiohttp import web

from gateway.web.route import Handler, Route

_Key = tuple[str, str]


class Switchboard:
    """The handlers of a table of routes, which may be exchanged; the URLs stay."""

    def __init__(self, table: Sequence[Route]) -> None:
        self._handlers = _by_url(table)

    def change(self, table: Sequence[Route]) -> None:
        """These answer from the next request on."""
        handlers = _by_url(table)
        assert handlers.keys() == self._handlers.keys(), "a reload knows the same URLs"
        self._handlers = handlers

    def handler(self, route: Route) -> Handler:
        """What the router is given for a URL."""
        key = _key(route)

        async def handle(web_request: web.Request) -> web.StreamResponse:
            return await self._handlers[key](web_request)

        return handle


def _by_url(table: Sequence[Route]) -> Mapping[_Key, Handler]:
    return {_key(route): route.handler for route in table}


def _key(route: Route) -> _Key:
    return route.method, route.template
