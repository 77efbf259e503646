"""Clients who leave before their answer is whole: how soon the engine works for others again."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import orjson
import uvloop

from bench.figures import Figure
from bench.sites import Site
from bench.wire import Ask, Connection, ask_once, connected, get, ignored, openai_chat

GONE_S_MAX: Final = 2.0
GONE_EACH: Final = 5
LONG: Final = "tokens:200-50ms"
LATE: Final = "tokens:8-5000ms"
QUEUED_S: Final = 0.3
LOOK_EACH_S: Final = 0.01
LOOKS_MAX: Final = 500


def client_gone(site: Site) -> Iterator[Figure]:
    """A client who leaves while streaming, waiting or queued: when the engine is free again."""
    worst_s: dict[str, float] = {}
    with site.serving(slots=1) as gateway:
        for name, leave in {
            "streaming": _leave_streaming,
            "whole": _leave_whole,
            "before the first token": _leave_waiting,
            "queued": _leave_queued,
        }.items():
            took_s = [uvloop.run(leave(gateway.port, site.ollama.port)) for _ in range(GONE_EACH)]
            worst_s[name] = max(took_s)
    yield Figure(
        name="client gone → backend freed",
        goal=f"≤ {GONE_S_MAX:.0f} s",
        measured=", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in worst_s.items()),
        passed=max(worst_s.values()) <= GONE_S_MAX,
        values=worst_s,
    )


async def _leave_streaming(port: int, ollama_port: int) -> float:
    async def third_token_came() -> bool:
        return b" w2" in client.received

    async with connected(port) as client:
        _start(client, openai_chat(LONG, stream=True))
        await _until(third_token_came)
    return await _until_free(ollama_port)


async def _leave_whole(port: int, ollama_port: int) -> float:
    async with connected(port) as client:
        _start(client, openai_chat(LONG, stream=False))
        await _until_running(ollama_port)
    return await _until_free(ollama_port)


async def _leave_waiting(port: int, ollama_port: int) -> float:
    async with connected(port) as client:
        _start(client, openai_chat(LATE, stream=True))
        await _until_running(ollama_port)
    return await _until_free(ollama_port)


async def _leave_queued(port: int, ollama_port: int) -> float:
    """Both leave, the one that waits first: it must never reach the engine."""
    async with connected(port) as holder:
        _start(holder, openai_chat(LONG, stream=True))
        await _until_running(ollama_port)
        asked_before = (await _state(ollama_port))["asked"]
        async with connected(port) as waiting:
            _start(waiting, openai_chat(LONG, stream=True))
            await asyncio.sleep(QUEUED_S)
        # The one who left has this long to be noticed before its turn would come.
        await asyncio.sleep(QUEUED_S)
    took_s = await _until_free(ollama_port)
    await asyncio.sleep(QUEUED_S)
    reached = (await _state(ollama_port))["asked"] - asked_before
    return math.inf if reached else took_s


def _start(client: Connection, ask: Ask) -> None:
    client.start(ask).add_done_callback(ignored)


async def _until_running(ollama_port: int) -> None:
    async def running() -> bool:
        return (await _state(ollama_port))["running"] > 0

    if await _until(running) == math.inf:
        raise TimeoutError("the request never reached the engine")


async def _until_free(ollama_port: int) -> float:
    async def free() -> bool:
        return (await _state(ollama_port))["running"] == 0

    return await _until(free)


async def _until(holds: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until it holds; infinite if that is not within LOOKS_MAX looks."""
    began_at = time.perf_counter()
    for _ in range(LOOKS_MAX):
        if await holds():
            return time.perf_counter() - began_at
        await asyncio.sleep(LOOK_EACH_S)
    return math.inf


async def _state(ollama_port: int) -> dict[str, int]:
    state: dict[str, int] = orjson.loads((await ask_once(ollama_port, get("/scripted/state"))).body)
    return state
