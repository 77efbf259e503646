import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.web.route import Handler, Route
from gateway.web.switchboard import Switchboard


def says(word: str, gate: asyncio.Event | None = None) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        if gate is not None:
            await gate.wait()
        return web.Response(text=word)

    return handle


def table(*handlers: Handler) -> list[Route]:
    return [
        Route("GET", f"/{number}", handler, "A word", tag="Gateway", answers=[], errors=[])
        for number, handler in enumerate(handlers)
    ]


async def test_all_urls_change_hands_at_once_and_who_is_being_answered_is_not_disturbed() -> None:
    gate = asyncio.Event()
    routes = table(says("old", gate), says("old"))
    switchboard = Switchboard(routes)
    app = web.Application()
    for route in routes:
        app.router.add_get(route.template, switchboard.handler(route))
    async with TestClient(TestServer(app)) as client:

        async def word(path: str) -> str:
            return await (await client.get(path)).text()

        slow = asyncio.create_task(word("/0"))
        assert await word("/1") == "old"
        switchboard.change(table(says("new"), says("new")))
        assert [await word(path) for path in ("/0", "/1")] == ["new", "new"]
        gate.set()
        assert await slow == "old"


def test_other_urls_are_no_change_but_a_restart() -> None:
    switchboard = Switchboard(table(says("a")))
    with pytest.raises(AssertionError):
        switchboard.change(table(says("a"), says("b")))
