"""Keeps asking every upstream whether it lives and which models it has."""

import asyncio
import logging

from gateway.core.clock import Clock
from gateway.core.errors import BackendError, GatewayError
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream

log = logging.getLogger("gateway.health")

UP_INTERVAL_S = 10.0
DOWN_INTERVAL_S = 1.0
REFRESH_INTERVAL_S = 1.0
"""A model that nobody has may have been installed just now: then the list is asked
for again, but not more often than this."""


class HealthMonitor:
    """Owns each upstream's `models`, and what the health check tells its breaker."""

    def __init__(self, *, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._refreshed_at = float("-inf")
        self._refreshing: asyncio.Lock = asyncio.Lock()

    async def run(self) -> None:
        """Watch each upstream for as long as it is in the pool."""
        watched: set[Upstream] = set()
        changed = asyncio.Event()
        self._pool.listeners.append(changed.set)
        async with asyncio.TaskGroup() as group:
            while True:
                for upstream in self._pool.upstreams:
                    if upstream not in watched:
                        group.create_task(self._watch(upstream), name=f"health {upstream.name}")
                watched = set(self._pool.upstreams)
                changed.clear()
                await changed.wait()

    async def refresh(self) -> None:
        """Ask everybody who is up for the list of models again, at most once a second."""
        async with self._refreshing:
            if self._clock.now() - self._refreshed_at < REFRESH_INTERVAL_S:
                return
            for upstream in self._pool.upstreams:
                if upstream.up:
                    await self.check(upstream)
            self._refreshed_at = self._clock.now()

    async def check(self, upstream: Upstream) -> None:
        """One look at one upstream."""
        before = (upstream.up, upstream.models)
        if not upstream.breaker.may_probe(self._clock.now()):
            return
        try:
            probe = await upstream.backend.probe()
        except GatewayError as error:
            # A box that computes at full load may be slow to answer a probe; that
            # it does not answer in time says nothing while it works for us.
            if not upstream.in_flight or isinstance(error, BackendError):
                upstream.breaker.probed(False, self._clock.now())
        else:
            upstream.found(probe)
            upstream.breaker.probed(True, self._clock.now())
        if before[0] != upstream.up:
            log.log(
                logging.INFO if upstream.up else logging.WARNING,
                "upstream %s is %s",
                upstream.name,
                "up" if upstream.up else "down",
            )
        if before != (upstream.up, upstream.models):
            self._pool.changed()

    async def _watch(self, upstream: Upstream) -> None:
        due_at = self._clock.now()
        while upstream in self._pool.upstreams:
            # Requests may find it gone at any time: then it is asked within a second,
            # and every second, so that it serves again within two of its return.
            doubted = not upstream.up or upstream.breaker.doubted
            if doubted or self._clock.now() >= due_at:
                await self.check(upstream)
                due_at = self._clock.now() + UP_INTERVAL_S
            await self._clock.sleep(DOWN_INTERVAL_S)
