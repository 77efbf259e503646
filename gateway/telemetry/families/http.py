"""What HTTP saw: requests of all kinds, and connections."""

from collections.abc import Sequence

from gateway.telemetry.exchange import METHODS, OTHER, Exchange
from gateway.telemetry.families.labels import CLOSE_REASONS, STATUSES
from gateway.telemetry.families.registry import Families


class HttpFamilies:
    """Args:
    routes: Method and template of every route, as `Exchange` spells them.
    """

    def __init__(self, families: Families, *, routes: Sequence[tuple[str, str]]) -> None:
        self._exchanges = families.tally(
            "gateway_requests_total",
            "HTTP requests, by route, method and status.",
            route={template for _, template in routes},
            method=METHODS,
            status=STATUSES,
        )
        self._closed = families.tally(
            "gateway_connections_closed_total",
            "Connections of clients that the gateway closed.",
            reason=CLOSE_REASONS,
        )
        self._write_stalls = families.total(
            "gateway_write_stalls_total", "Answers given up because nobody read them."
        )
        for method, template in routes:
            self._exchanges.begin((template, method, 200))

    def exchanged(self, exchange: Exchange) -> None:
        self._exchanges.add((exchange.route, exchange.method, exchange.status))

    def refused(self, status: int) -> None:
        """Below the app, where no route is known yet."""
        self._exchanges.add((OTHER, "OTHER", status))

    def connection_closed(self, reason: str) -> None:
        self._closed.add((reason,))
        if reason == "write_stall":
            self._write_stalls.value += 1
