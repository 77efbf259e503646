"""What became of reloads of the configuration."""

from typing import Final

from gateway.telemetry.families.registry import Families
from gateway.telemetry.process import started_at

RESULTS: Final = ("applied", "refused")


class ReloadFamilies:
    """The start counts as a success: without one there is no metric."""

    def __init__(self, families: Families) -> None:
        self._reloads = families.tally(
            "gateway_config_reloads_total",
            "Reloads of the configuration, by what became of them.",
            result=RESULTS,
        )
        self._successful = families.gauge(
            "gateway_config_last_reload_successful",
            "1 if the configuration in force is the one that was last read.",
        )
        self._succeeded_at = families.gauge(
            "gateway_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
        )
        self._successful.set({}, 1)
        self._succeeded_at.set({}, round(started_at(), 2))

    def reloaded(self, *, applied: bool, wall_s: float) -> None:
        """Args: wall_s: Seconds since the epoch."""
        self._reloads.add(("applied" if applied else "refused",))
        self._successful.set({}, int(applied))
        if applied:
            self._succeeded_at.set({}, round(wall_s, 2))
