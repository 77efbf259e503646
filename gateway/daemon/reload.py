"""A new configuration for a running daemon.

It is read whole, beside the loop, and refused whole. What can fail or takes time comes
first (`renewal.py`), what remains then are assignments (`takeover.py`): no new request
meets half of it, and none that was accepted is dropped. What can't be had without a
restart stays as it is, and is told each time.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

import attrs

from gateway.config.checks import CHECKS
from gateway.config.diff import Change, changes, kept
from gateway.config.effective import bind_address
from gateway.config.keys import dotted
from gateway.config.schema import Config
from gateway.core.errors import (
    ConfigError,
    ConfigRefused,
    GatewayError,
    InternalError,
    ShuttingDown,
)
from gateway.daemon.renewal import discard, prepare
from gateway.daemon.takeover import take_over
from gateway.daemon.wiring import Daemon
from gateway.web.connection import ConnectionSettings
from gateway.web.reload import Reloaded

log = logging.getLogger("gateway.config")

LINES_MAX: Final = 50
"""Changes, and mistakes, that the log tells of one reload."""

RESTART_S: Final = 1.0


class Reloader:
    """Reloads one after the other.

    Args:
        reread: Reads the configuration as it was read at the start. Called in a thread.
            Raises ConfigError.
        around: Entered for as long as a reload goes on.
        change_connections: Told what holds for clients' connections from now on.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        reread: Callable[[], Config],
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        change_connections: Callable[[ConnectionSettings], None],
    ) -> None:
        self._daemon = daemon
        self._reread = reread
        self._around = around
        self._change_connections = change_connections
        daemon.config = _bound(daemon.config)
        self._turn = asyncio.Lock()
        daemon.reload.perform = self.reload

    async def run(self, wanted: asyncio.Event) -> None:
        """Reload whenever it is wanted; several wishes at once are one."""
        while True:
            await wanted.wait()
            wanted.clear()
            with suppress(GatewayError):  # It was told already.
                await self.reload()

    async def reload(self) -> Reloaded:
        """Read it again, and apply what can be.

        Raises:
            ConfigRefused: It is wrong; nothing has changed.
            ShuttingDown: The daemon drains.
        """
        async with self._turn:
            self._require_no_drain()
            with self._around():
                try:
                    reloaded = await self._reload()
                except ConfigError as error:
                    self._tell_refused(error.mistakes)
                    raise _refused(error.mistakes) from None
                except GatewayError:
                    raise
                except Exception:
                    # What runs goes on as it was: only assignments come after all that can fail.
                    log.exception("the reload broke")
                    self._daemon.metrics.reloaded(applied=False, wall_s=self._daemon.clock.wall())
                    raise InternalError("The reload broke; the log says where.") from None
                self._tell(reloaded)
                return reloaded

    async def _reload(self) -> Reloaded:
        daemon = self._daemon
        new = _bound(await asyncio.to_thread(self._reread))
        config = kept(daemon.config, new)
        _check(config)
        found = changes(daemon.config, new)
        if not found:
            return Reloaded(applied=(), waiting=())
        renewal = await prepare(daemon, config)
        try:
            self._require_no_drain()
        except ShuttingDown:
            discard(daemon, renewal.new)
            raise
        take_over(daemon, renewal)
        self._change_connections(renewal.connections)
        return Reloaded(
            applied=[change for change in found if not change.restart],
            waiting=[change for change in found if change.restart],
            notes=[
                f"upstream {upstream.name} does not answer yet; it is asked every second."
                for upstream in renewal.new
                if not upstream.up
            ],
        )

    # --- Telling ----------------------------------------------------------

    def _require_no_drain(self) -> None:
        if self._daemon.service.draining:
            raise ShuttingDown("The gateway is shutting down.", retry_after_s=RESTART_S)

    def _tell(self, reloaded: Reloaded) -> None:
        self._daemon.metrics.reloaded(applied=True, wall_s=self._daemon.clock.wall())
        log.info(
            "configuration read again; applied: %d, waiting for a restart: %d",
            len(reloaded.applied),
            len(reloaded.waiting),
            extra={"event": "config_reloaded"},
        )
        for change in [*reloaded.waiting, *reloaded.applied][:LINES_MAX]:
            log.info("%s", _line(change))
        for note in reloaded.notes:
            log.warning("%s", note)

    def _tell_refused(self, mistakes: Sequence[str]) -> None:
        self._daemon.metrics.reloaded(applied=False, wall_s=self._daemon.clock.wall())
        for mistake in mistakes[:LINES_MAX]:
            log.error(
                "the old configuration stays: %s",
                mistake,
                extra={"event": "config_reload_failed"},
            )


def _bound(config: Config) -> Config:
    """With the address that is bound in the place of one that follows from the keys."""
    host = bind_address(config)[0]
    return attrs.evolve(config, server=attrs.evolve(config.server, host=host))


def _check(config: Config) -> None:
    """Raises ConfigError: what is new does not go with what only a restart could change."""
    mistakes = [mistake for check in CHECKS for mistake in check(config)]
    if mistakes:
        raise ConfigError(
            [
                f"{dotted(mistake.key)} (as it is until a restart): {mistake.text}"
                for mistake in mistakes
            ]
        )


def _refused(mistakes: Sequence[str]) -> ConfigRefused:
    return ConfigRefused("\n".join(("The old configuration stays in force.", *mistakes)))


def _line(change: Change) -> str:
    if not change.restart:
        return change.words()
    return f"{change.words()} (needs a restart: {change.restart})"
