"""Asks the configured engines what there is to know of them. The I/O of judge_engine.py."""

import asyncio
import ipaddress
import math
import os
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from yarl import URL

from gateway.backends import kinds, llamacpp
from gateway.backends.base import InferenceBackend
from gateway.backends.http import HttpClient
from gateway.backends.ollama import OllamaBackend
from gateway.backends.values import natural
from gateway.cli.deep.engine_facts import EngineFacts, ModelFacts, modelfile_context, token_bytes
from gateway.cli.deep.sockets import listeners, owner
from gateway.config.addresses import is_loopback
from gateway.config.effective import contexts
from gateway.config.schema import Backend, Config
from gateway.core.clock import LoopClock
from gateway.core.errors import GatewayError

DEFAULT_UPSTREAM: Final = "default"

_PORTS: Final = {"http": 80, "https": 443}


def configured(config: Config) -> dict[str, Backend]:
    """Every engine by its name."""
    return {DEFAULT_UPSTREAM: config.backend, **config.upstreams}


async def ask(config: Config, wanted: Collection[str], now: datetime) -> list[EngineFacts]:
    """All of them at once; one that doesn't answer is told as such.

    Args:
        wanted: Models to look for, as callers name them.
    """
    clock = LoopClock()
    http = HttpClient(timeouts=config.timeouts, limits=config.limits, clock=clock)
    await http.start()

    async def one(name: str, backend: Backend) -> EngineFacts:
        chosen = await kinds.choose(backend, config.embedded, http=http)
        if chosen.kind == "llamacpp":
            return _embedded(name, backend, config, wanted)
        if chosen.kind == "echo":
            return EngineFacts(name=name, kind="echo", names={model: model for model in wanted})
        driver = kinds.make(
            chosen,
            embedded=config.embedded,
            contexts=contexts(config),
            http=http,
            limits=config.limits,
            clock=clock,
        )
        return await _remote(name, chosen, driver, wanted, now)

    try:
        return await asyncio.gather(
            *(one(name, backend) for name, backend in configured(config).items())
        )
    finally:
        await http.close()


def _embedded(name: str, backend: Backend, config: Config, wanted: Collection[str]) -> EngineFacts:
    missing = llamacpp.available(config.embedded)
    model = config.embedded.model_name
    return EngineFacts(
        name=name,
        kind="the embedded engine",
        url=backend.url if backend.kind == "auto" else "",
        fault=missing or "",
        fallen_back=backend.kind == "auto",
        names={model: model} if model in wanted and not missing else {},
        local=True,
    )


async def _remote(
    name: str,
    backend: Backend,
    driver: InferenceBackend,
    wanted: Collection[str],
    now: datetime,
) -> EngineFacts:
    facts = _seen_from_here(EngineFacts(name=name, kind=backend.kind, url=backend.url))
    begun = time.monotonic()
    try:
        probe = await driver.probe()
    except GatewayError as error:
        return attrs.evolve(facts, fault=_why(error))
    facts = attrs.evolve(facts, answer_s=time.monotonic() - begun, version=probe.version)
    offered = {driver.canonical(model) for model in backend.models}
    there = {info.id for info in probe.models if not offered or info.id in offered}
    names = {model: spelt for model in wanted if (spelt := driver.canonical(model)) in there}
    facts = attrs.evolve(facts, names=names)
    if isinstance(driver, OllamaBackend):
        models = {spelt: await _model(driver, spelt, now) for spelt in names.values()}
        facts = attrs.evolve(facts, models=models)
    return facts


async def _model(driver: OllamaBackend, name: str, now: datetime) -> ModelFacts:
    try:
        shown: Mapping[str, Any] = await driver.show({"model": name})
    except GatewayError:
        shown = {}  # Gone between two questions, or an Ollama that is old.
    running = driver.running.get(name)
    facts = ModelFacts(
        name=name,
        file_bytes=natural(driver.tags[name].get("size")) or 0,
        token_bytes=token_bytes(shown.get("model_info")),
        context=modelfile_context(shown.get("parameters")),
    )
    if running is None:
        return facts
    return attrs.evolve(
        facts,
        loaded_bytes=natural(running.get("size")) or 0,
        gpu_bytes=natural(running.get("size_vram")) or 0,
        expires_s=_until(running.get("expires_at"), now),
    )


def _seen_from_here(facts: EngineFacts) -> EngineFacts:
    """What the kernel tells of it, where it is on this machine."""
    url = URL(facts.url)
    if not is_loopback(url.host or ""):
        return facts
    found = listeners(url.port or _PORTS[url.scheme])
    processes = [process for one in found if (process := owner(one)) is not None]
    return attrs.evolve(
        facts,
        local=True,
        exposed_on=tuple(_address_words(one.address) for one in found if one.beyond),
        environ=next((process.environ for process in processes), None),
    )


def _address_words(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return "every address" if address.is_unspecified else str(address)


def _until(moment: Any, now: datetime) -> float | None:
    """Seconds; Ollama writes `for ever` as a year beyond the calendar's end."""
    if not isinstance(moment, str):
        return None
    try:
        return (datetime.fromisoformat(moment) - now).total_seconds()
    except ValueError:
        return math.inf


def _why(error: GatewayError) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return error.message
