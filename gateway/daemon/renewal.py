"""Everything new that a reload needs, made before anything old is touched.

This is the part of a reload that can fail, or takes time: names that are looked at, drivers
that are made, engines that are started and asked whether they live.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import attrs

from gateway.admission.callers import Callers
from gateway.backends.llamacpp import LlamaCppBackend
from gateway.config.effective import api_keys, callers
from gateway.config.schema import Config
from gateway.daemon.upstreams import backends, default_model, make
from gateway.daemon.wiring import Daemon
from gateway.pool.catalogue import Catalogue
from gateway.pool.upstream import Upstream
from gateway.web.connection import ConnectionSettings
from gateway.web.hosts import HostPolicy
from gateway.web.intake import Intake
from gateway.web.origins import OriginPolicy
from gateway.web.route import Route

JOIN_CHECKS_MAX: Final = 20
JOIN_LOOK_S: Final = 1.0
"""An engine of our own has to be started first; what runs already is asked once."""


@attrs.frozen(kw_only=True)
class Renewal:
    """All of it, not yet in force.

    Attributes:
        upstreams: All that there are to be, in order.
        new: Those of them that were made for it.
        model: The default model.
    """

    config: Config
    upstreams: Sequence[Upstream]
    new: Sequence[Upstream]
    catalogue: Catalogue
    model: str
    callers: Callers
    origins: OriginPolicy
    connections: ConnectionSettings
    intake: Intake
    table: Sequence[Route]


async def prepare(daemon: Daemon, config: Config) -> Renewal:
    """What it takes to run by this configuration.

    Raises:
        ConfigError: Something can't be made. Nothing of it is left, and nothing has changed.
    """
    upstreams, new = await _upstreams(daemon, config)
    try:
        model = default_model(config, upstreams)
        intake = daemon.intake_for(config)
        return Renewal(
            config=config,
            upstreams=upstreams,
            new=new,
            catalogue=Catalogue(config.models, default_model=model),
            model=model,
            callers=Callers(api_keys(config), callers(config)),
            origins=OriginPolicy(config.server.allowed_origins),
            connections=attrs.evolve(
                daemon.connections,
                timeouts=config.timeouts,
                limits=config.limits,
                hosts=HostPolicy(
                    bind_host=config.server.host, allowed_hosts=config.server.allowed_hosts
                ),
            ),
            intake=intake,
            table=daemon.table_for(config, intake),
        )
    except BaseException:
        discard(daemon, new)
        raise


def discard(daemon: Daemon, new: Sequence[Upstream]) -> None:
    """They are not needed after all."""
    for upstream in new:
        daemon.engines.let_go(upstream)


async def _upstreams(daemon: Daemon, config: Config) -> tuple[list[Upstream], list[Upstream]]:
    """All that there are to be, in order, and those of them that are new."""
    before = backends(daemon.config)
    known = {upstream.name: upstream for upstream in daemon.pool.upstreams}
    upstreams: list[Upstream] = []
    new: list[Upstream] = []
    try:
        for name, backend in backends(config).items():
            upstream = known.get(name)
            if upstream is None or before[name] != backend:
                upstream = await make(name, backend, config, http=daemon.http, clock=daemon.clock)
                new.append(upstream)
                daemon.engines.begin(upstream)
            upstreams.append(upstream)
        async with asyncio.TaskGroup() as group:
            for upstream in new:
                group.create_task(_meet(daemon, upstream))
    except BaseException:
        discard(daemon, new)
        raise
    return upstreams, new


async def _meet(daemon: Daemon, upstream: Upstream) -> None:
    """Ask it before anybody is sent there, so that it can take the old one's place at once."""
    await daemon.health.check(upstream)
    if isinstance(upstream.backend, LlamaCppBackend):
        for _ in range(JOIN_CHECKS_MAX):
            if upstream.up:
                break
            await daemon.clock.sleep(JOIN_LOOK_S)
            await daemon.health.check(upstream)
