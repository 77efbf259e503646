"""What the process takes of its machine."""

from typing import Final

from gateway.telemetry.families.registry import Families
from gateway.telemetry.process import disk, footprint, started_at
from gateway.telemetry.series import escape_label

LAG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ProcessFamilies:
    """Args:
    state_directory: Whose disk is watched; empty: none is.
    """

    def __init__(self, families: Families, *, version: str, state_directory: str) -> None:
        self._state_directory = state_directory
        self._cpu = families.total(
            "process_cpu_seconds_total", "Processor time used, user and system."
        )
        self._resident = families.gauge("process_resident_memory_bytes", "Memory held.")
        self._open_fds = families.gauge("process_open_fds", "File descriptors held.")
        self._max_fds = families.gauge("process_max_fds", "File descriptors allowed.")
        self._state_free = families.gauge(
            "gateway_state_free_bytes", "Left on the disk of the state directory."
        )
        self._state_size = families.gauge(
            "gateway_state_size_bytes", "The whole disk of the state directory."
        )
        self._loop_lag = families.distribution(
            "gateway_loop_lag_seconds",
            "How late timers of the event loop were, four times a second.",
            LAG_S,
        )
        info = families.gauge("gateway_build_info", "Always 1; the label tells the version.")
        info.set({"version": escape_label(version)}, 1)
        start = families.gauge("process_start_time_seconds", "When the process began.")
        start.set({}, round(started_at(), 2))

    def loop_lagged(self, seconds: float) -> None:
        """A timer of the event loop was so late."""
        self._loop_lag.observe(seconds)

    def set(self) -> None:
        """As it is now."""
        now = footprint()
        self._cpu.value = now.cpu_s
        if now.resident_bytes is not None:
            self._resident.set({}, now.resident_bytes)
        if now.open_fds is not None:
            self._open_fds.set({}, now.open_fds)
            self._max_fds.set({}, now.max_fds)
        room = disk(self._state_directory) if self._state_directory else None
        for gauge in (self._state_free, self._state_size):
            gauge.values.clear()
        if room is not None:
            self._state_free.set({}, room.free_bytes)
            self._state_size.set({}, room.size_bytes)
