"""Makes families of series, keeps their number bounded, and writes them all out."""

from collections.abc import Collection, Sequence
from typing import Final

from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TEXT_CONTENT_TYPE, TextFormatter

from gateway.telemetry.series import (
    Budget,
    Distribution,
    Distributions,
    Tally,
    Total,
    Value,
    escape_help,
)

CONTENT_TYPE: Final = TEXT_CONTENT_TYPE


class Families:
    """Every family of this process, made once and written at each scrape.

    Args:
        budget: Of all series, unless a family is given another.
    """

    def __init__(self, budget: Budget) -> None:
        self._registry = Registry()
        self._budget = budget
        self._copied_out: list[Total | Tally | Distribution | Distributions] = []

    def total(self, name: str, doc: str) -> Total:
        """A counter without labels."""
        total = Total(Counter(name, escape_help(doc), registry=self._registry), self._budget)
        self._copied_out.append(total)
        return total

    def tally(self, name: str, doc: str, **labels: Collection[Value]) -> Tally:
        """A counter with labels, each with the values it may have."""
        collector = Counter(name, escape_help(doc), registry=self._registry)
        tally = Tally(collector, labels, self._budget)
        self._copied_out.append(tally)
        return tally

    def distribution(self, name: str, doc: str, bounds: Sequence[float]) -> Distribution:
        """A histogram without labels."""
        collector = Histogram(name, escape_help(doc), registry=self._registry, buckets=bounds)
        self._budget.reserve(Distribution.series(bounds))
        distribution = Distribution(collector, bounds)
        self._copied_out.append(distribution)
        return distribution

    def distributions(
        self,
        name: str,
        doc: str,
        bounds: Sequence[float],
        budget: Budget,
        **labels: Collection[Value],
    ) -> Distributions:
        """A histogram with labels, within a budget of its own: each series of it is many."""
        collector = Histogram(name, escape_help(doc), registry=self._registry, buckets=bounds)
        distributions = Distributions(collector, bounds, labels, budget)
        self._copied_out.append(distributions)
        return distributions

    def gauge(self, name: str, doc: str, series_max: int = 1) -> Gauge:
        """What is true at a scrape; set then."""
        self._budget.reserve(series_max)
        return Gauge(name, escape_help(doc), registry=self._registry)

    def page(self) -> bytes:
        """All of it, in the text format 0.0.4 (CONTENT_TYPE)."""
        for series in self._copied_out:
            series.copy_out()
        page: bytes = TextFormatter().marshall(self._registry)
        return page
