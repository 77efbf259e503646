"""What is true right now and what was lately, as one JSON document for people and their tools.

`gateway status`, `gateway top` and the page at `/` show nothing that is not in it; its
schema is `STATUS` in gateway/web/answers/status.py. Times are seconds, sizes bytes,
moments seconds since the epoch. Every list is bounded, and nothing in it is a prompt, an
answer or a key.
"""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from gateway import __version__
from gateway.core.clock import Clock
from gateway.core.jsonio import Json
from gateway.core.ticket import Active, Priority
from gateway.daemon import entries
from gateway.daemon.entries import LISTED_MAX
from gateway.daemon.statistics import Statistics, readiness
from gateway.pool.loads import Loads
from gateway.pool.pool import Pool
from gateway.service import Service
from gateway.telemetry.exchange import CLASSES
from gateway.telemetry.history import LATELY_S, History
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.process import footprint, machine_bytes

_STATES: Final[Mapping[str, str]] = {
    "": "ready",
    "draining": "draining",
    "warming_up": "warming_up",
}


@attrs.define(eq=False, kw_only=True)
class Snapshots:
    """Looks at the owners of everything, and changes nothing.

    Attributes:
        expected_wait_s: What a newcomer would wait; None where nobody could serve it.
        connections: How many clients are connected.
        connections_max: How many may be.
    """

    clock: Clock
    service: Service
    pool: Pool
    loads: Loads
    history: History
    ledger: Ledger
    default_model: Callable[[], str]
    connections_max: Callable[[], int]
    statistics: Callable[[], Statistics]
    expected_wait_s: Callable[[], float | None]
    connections: Callable[[], int] = lambda: 0
    _started_at: float = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.clock.now(), takes_self=True)
    )

    def document(self) -> dict[str, Json]:
        """The whole of it."""
        now = self.statistics()
        ready = readiness(now)
        waiting, running = self.service.waiting(LISTED_MAX), self.service.running(LISTED_MAX)
        return {
            "object": "gateway.status",
            "version": __version__,
            "at": round(self.clock.wall(), 3),
            "uptime_s": entries.rounded(self.clock.now() - self._started_at),
            "state": _STATES.get(ready.reason, "unready"),
            "reason": ready.reason,
            "detail": ready.detail,
            "default_model": self.default_model(),
            "queue": self._queue(now, waiting),
            "slots": {
                "busy": sum(upstream.busy for upstream in now.upstreams),
                "total": sum(upstream.slots for upstream in now.upstreams if upstream.up),
            },
            "upstreams": [
                entries.engine(upstream, self.loads.loading(upstream))
                for upstream in self.pool.upstreams
            ],
            "models": [
                entries.model(info, self.pool.upstreams) for info in self.pool.listed()[:LISTED_MAX]
            ],
            "running": [entries.running(active) for active in running],
            "tokens_per_s": round(self.history.tokens_per_s(map(entries.written, running)), 2),
            "requests": self._requests(now),
            "refusals": self._refusals(),
            "estimates": {
                "wait": entries.judged(self.history.waits),
                "service": entries.judged(self.history.services),
            },
            "recent": [entries.ended(ended) for ended in self.history.ended],
            "callers": self._callers(),
            "process": self._process(now),
        }

    def _queue(self, now: Statistics, waiting: list[Active]) -> dict[str, Json]:
        expected_s = self.expected_wait_s()
        return {
            "waiting": now.waiting,
            "bound": now.queue_bound,
            "by_class": {
                CLASSES[priority]: now.waiting_by_class.get(priority, 0) for priority in Priority
            },
            "expected_wait_s": None if expected_s is None else entries.rounded(expected_s),
            "places_held": now.places.held,
            "requests": [entries.waiting(active) for active in waiting],
        }

    def _requests(self, now: Statistics) -> dict[str, Json]:
        counts = self.history.outcomes
        ended = {name: counts.get(name, 0) for name in ("completed", "failed", "cancelled")}
        return {"active": now.active, **ended, "refused": counts.get("refused", 0)}

    def _refusals(self) -> dict[str, Json]:
        counts = self.history.refusals()
        return {
            "total": sum(count.total for count in counts),
            "lately": sum(count.lately for count in counts),
            "lately_s": LATELY_S,
            "by_reason": [
                {"reason": count.reason, "total": count.total, "lately": count.lately}
                for count in counts
            ],
        }

    def _callers(self) -> list[Json]:
        """Who used how much today, the busiest first."""
        counts = sorted(self.ledger.everybody_today().items(), key=lambda item: -item[1].slot_s)
        return [entries.caller(name, count) for name, count in counts[:LISTED_MAX]]

    def _process(self, now: Statistics) -> dict[str, Json]:
        process = footprint()
        return {
            "memory_bytes": process.resident_bytes,
            "machine_bytes": machine_bytes(),
            "cpu_s": entries.rounded(process.cpu_s),
            "open_files": process.open_fds,
            "connections": self.connections(),
            "connections_max": self.connections_max(),
            "kept_answers_bytes": now.kept_answers_bytes,
            "log_lines_dropped": now.log_lines_dropped,
        }
