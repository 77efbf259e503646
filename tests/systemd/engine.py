"""A stand-in for Ollama, run inside the machine as ollama.service: says words at a given pace.

    engine.py PORT LOAD_SECONDS

A chat's last message says how: `WORDS PACE_SECONDS`. The first request of all takes the
time of a load besides.
"""

import asyncio
import json
import sys

from aiohttp import web

MODEL = "words:latest"


def _line(content: str, **more: object) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"model": MODEL, "message": message, "done": False, **more}).encode() + b"\n"


class Engine:
    def __init__(self, load_s: float) -> None:
        self._load_s = load_s
        self._loading = asyncio.Lock()
        self._loaded = False

    async def tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": MODEL, "model": MODEL, "size": 1000}]})

    async def loaded(self, _: web.Request) -> web.Response:
        models = [{"name": MODEL, "model": MODEL, "size": 1000}] if self._loaded else []
        return web.json_response({"models": models})

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.24.0"})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        async with self._loading:
            if not self._loaded:
                await asyncio.sleep(self._load_s)
            self._loaded = True
        messages = body.get("messages") or []
        said = str(messages[-1]["content"]).split() if messages else []
        words, pace_s = (int(said[0]), float(said[1])) if len(said) == 2 else (1, 0.0)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if messages:
            for number in range(words):
                await asyncio.sleep(pace_s)
                await response.write(_line(f"word{number} "))
        counts = {"prompt_eval_count": 3, "eval_count": words, "done_reason": "stop"}
        await response.write(_line("", **{**counts, "done": True}))
        return response


def main(port: int, load_s: float) -> None:
    engine = Engine(load_s)
    app = web.Application()
    app.router.add_get("/api/tags", engine.tags)
    app.router.add_get("/api/ps", engine.loaded)
    app.router.add_get("/api/version", engine.version)
    app.router.add_post("/api/chat", engine.answer)
    app.router.add_post("/api/generate", engine.answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
