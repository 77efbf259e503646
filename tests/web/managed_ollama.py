"""An Ollama whose models can be changed, as far as its API goes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

STEPS = (b'{"status":"pulling"}\n', b'{"status":"verifying"}\n', b'{"status":"success"}\n')


class ManagedOllama:
    """What it was asked, and what it has.

    Attributes:
        models: By their full names.
        blobs: Sizes by digest.
        asked: Method, path and body of each command.
        midway: Awaited after the first step of a transfer; None: it goes on at once.
        started: Set when a transfer has begun; at once there are `running` of them.
        breaks: Whether a transfer breaks off after its first step.
        left: Set when a client has left midway.
    """

    url: str

    def __init__(self) -> None:
        self.models = ["m:latest"]
        self.blobs: dict[str, int] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.midway: asyncio.Event | None = None
        self.started = asyncio.Event()
        self.left = asyncio.Event()
        self.running = self.most = 0
        self.breaks = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        for path in ("/api/pull", "/api/push", "/api/create"):
            app.router.add_post(path, self._transfer)
        app.router.add_post("/api/copy", self._command)
        app.router.add_delete("/api/delete", self._command)
        app.router.add_head("/api/blobs/{digest}", self._find)
        app.router.add_post("/api/blobs/{digest}", self._keep)
        return app

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.24.0"})

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name} for name in self.models]})

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": []})

    async def _note(self, request: web.Request) -> Any:
        body = await request.json()
        self.asked.append((request.method, request.path, body))
        return body

    async def _command(self, request: web.Request) -> web.Response:
        body = await self._note(request)
        if body.get("model") == "missing":
            return web.json_response({"error": "model 'missing' not found"}, status=404)
        return web.Response()

    async def _transfer(self, request: web.Request) -> web.StreamResponse:
        body = await self._note(request)
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            await response.write(STEPS[0])
            if self.midway is not None:
                await self.midway.wait()
            if self.breaks:
                assert request.transport is not None
                request.transport.abort()
            self.models.append(f"{body['model']}:latest")
            for step in STEPS[1:]:
                await response.write(step)
            return response
        except asyncio.CancelledError:
            self.left.set()
            raise
        finally:
            self.running -= 1

    async def _find(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)

    async def _keep(self, request: web.Request) -> web.Response:
        named = request.match_info["digest"]
        if named in self.blobs:
            return web.Response()  # Without a look at what is still to come.
        digest, size = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            self.started.set()
            digest.update(piece)
            size += len(piece)
        if named != f"sha256:{digest.hexdigest()}":
            return web.json_response({"error": "digest mismatch"}, status=400)
        self.blobs[named] = size
        return web.Response(status=201)


@asynccontextmanager
async def managed_ollama() -> AsyncIterator[ManagedOllama]:
    """A running one."""
    ollama = ManagedOllama()
    server = TestServer(ollama.app())
    await server.start_server(shutdown_timeout=0.1)
    ollama.url = f"http://127.0.0.1:{server.port}"
    try:
        yield ollama
    finally:
        await server.close()
