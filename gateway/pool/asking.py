"""Questions about a model that run no model: they need no slot, and wait in no queue.

They are no trifles for the engine either: taking a megabyte of text apart costs it a second.
So few run at once, some more wait for them, and each has a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.core.clock import Clock
from gateway.core.errors import (
    BackendError,
    GatewayError,
    ModelNotFound,
    NotSupported,
    Overloaded,
    RequestTimeout,
    UpstreamDisconnected,
)
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream

AT_ONCE_MAX: Final = 4
"""Fewer than the threads that an embedded engine has beyond its slots, so that it still answers
the health check."""

ASKED_MAX: Final = 64
"""With those that wait: clients count the tokens of each of their tools at once."""

TIMEOUT_S: Final = 30.0

_RETRY_AFTER_S: Final = 1.0

T = TypeVar("T")


class Asker:
    """Asks an upstream that serves a model, and another one where that fails.

    Args:
        refresh_models: Asks the upstreams for their models again, not too often.
    """

    def __init__(
        self, *, pool: Pool, clock: Clock, refresh_models: Callable[[], Awaitable[None]]
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._refresh_models = refresh_models
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._asked = 0

    async def ask(self, model: str, question: Callable[[Upstream], Awaitable[T]]) -> T:
        """What the question comes to with the first upstream that can answer it.

        Raises:
            ModelNotFound, UpstreamUnreachable: As `Pool.require`.
            Overloaded: Too many are being asked.
            RequestTimeout: No answer in TIMEOUT_S.
            NotSupported: All say so.
            GatewayError: What the question raised, of a broken engine the last one's.
        """
        if self._asked >= ASKED_MAX:
            raise Overloaded(
                "Too many such questions are being answered. Please try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._asked += 1
        try:
            async with self._clock.timeout_at(self._clock.now() + TIMEOUT_S), self._turns:
                return await self._ask(await self.serving(model), question)
        except TimeoutError:
            raise RequestTimeout("The model's engine did not answer in time.") from None
        finally:
            self._asked -= 1

    async def serving(self, model: str) -> list[Upstream]:
        """Those that could be asked, at least one, the least busy first. Raises as `ask`."""
        try:
            serving = self._pool.require(model)
        except ModelNotFound:
            # It may have been installed since the upstreams were last asked.
            await self._refresh_models()
            serving = self._pool.require(model)
        return sorted(serving, key=lambda upstream: upstream.in_flight / upstream.slots)

    async def _ask(
        self, upstreams: list[Upstream], question: Callable[[Upstream], Awaitable[T]]
    ) -> T:
        failed: GatewayError | None = None
        for upstream in upstreams:
            try:
                try:
                    return await question(upstream)
                except UpstreamDisconnected as error:
                    # It closed a pooled connection that it had grown tired of, perhaps.
                    if not error.untouched:
                        raise
                    return await question(upstream)
            except (BackendError, Overloaded, NotSupported) as error:
                # That one has broken says more than that another can't.
                if failed is None or not isinstance(error, NotSupported):
                    failed = error
        assert failed is not None
        raise failed
