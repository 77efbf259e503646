"""Counting that costs the request path next to nothing.

aioprometheus looks a series up by hashing its labels' JSON, 2 to 3 µs for each
call, and writes label values as they are, so that one odd name makes the whole
scrape unreadable. Here counts are plain numbers of our own; they are copied
into its collectors when somebody scrapes. What may be a label value is decided
on the first sight of a combination and never again.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from aioprometheus.collectors import Counter, Histogram
from aioprometheus.histogram import Histogram as Child

from gateway.telemetry.exchange import OTHER

Value = str | int
"""A label's value; numbers are spelled when somebody scrapes."""

LABEL_CHARS_MAX: Final = 128

_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_INFINITY: Final = float("inf")


def escape_label(value: Value) -> str:
    """As the text format 0.0.4 wants it between quotes."""
    return str(value).translate(_LABEL_ESCAPES)


def escape_help(text: str) -> str:
    """As the text format 0.0.4 wants it after `# HELP`."""
    return text.translate(_HELP_ESCAPES)


def fit_for_label(name: str) -> bool:
    """Whether a name may stand for itself; if not, it is one of the others."""
    return 0 < len(name) <= LABEL_CHARS_MAX and name.isprintable()


def spelled(names: Sequence[str], values: Sequence[Value]) -> dict[str, str]:
    """Labels as the text format wants them."""
    return {name: escape_label(value) for name, value in zip(names, values, strict=True)}


class Budget:
    """How many series may still begin, and how many were not let."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.refused = 0

    def reserve(self, series: int = 1) -> None:
        """Room for what is there from the start; it has to fit."""
        self.left -= series
        assert self.left >= 0, "the fixed series fit the budget"

    def take(self, series: int = 1) -> bool:
        """Room for so many more, or a refusal that is counted."""
        if self.left < series:
            self.refused += 1
            return False
        self.left -= series
        return True


class Total:
    """A counter without labels. Add to `value`; it never gets less."""

    __slots__ = ("_collector", "value")

    def __init__(self, collector: Counter, budget: Budget) -> None:
        budget.reserve()
        self._collector = collector
        self.value: int | float = 0

    def copy_out(self) -> None:
        self._collector.set({}, self.value)


class Tally:
    """A counter with labels whose values come out of closed sets.

    What is in no set counts as "other", and so does, in every label, what
    there is no room for in the budget.

    Args:
        labels: Each label's name and the values it may have. A set may grow or
            shrink later; see `forget`.
    """

    def __init__(
        self, collector: Counter, labels: Mapping[str, Collection[Value]], budget: Budget
    ) -> None:
        self._collector = collector
        self._names = tuple(labels)
        self._allowed = tuple(labels.values())
        self._budget = budget
        self._others: tuple[Value, ...] = (OTHER,) * len(self._names)
        self._counts: dict[tuple[Value, ...], int | float] = {}
        self._shown: dict[tuple[Value, ...], int | float] = {}
        self._spelled: dict[tuple[Value, ...], dict[str, str]] = {}
        if len(labels) == 1:
            for value in self._allowed[0]:
                self.begin((value,))
        budget.reserve()
        self._open(self._others)

    def add(self, values: tuple[Value, ...], amount: int | float = 1) -> None:
        """Count so many, under these labels or those that stand for them."""
        try:
            self._counts[values] += amount
        except KeyError:
            self._counts[self._settled(values)] += amount

    def begin(self, values: tuple[Value, ...]) -> None:
        """Show the series from now on, at 0, before its first event."""
        self._settled(values)

    def forget(self, value: Value) -> None:
        """End every series that has this value in its first label."""
        for values in [values for values in self._counts if values[0] == value]:
            del self._counts[values], self._shown[values]
            self._collector.values.pop(self._spelled.pop(values))
            self._budget.left += 1

    def copy_out(self) -> None:
        shown = self._shown
        for values, count in self._counts.items():
            if shown[values] != count:  # most haven't moved, and setting one takes 2 µs
                self._collector.set(self._spelled[values], count)
                shown[values] = count

    def _settled(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """The labels these count under; their series exists from now on."""
        settled = tuple(
            value if value in allowed else OTHER
            for value, allowed in zip(values, self._allowed, strict=True)
        )
        if settled not in self._counts:
            if not self._budget.take():
                return self._others
            self._open(settled)
        return settled

    def _open(self, values: tuple[Value, ...]) -> None:
        labels = spelled(self._names, values)
        self._counts[values] = self._shown[values] = 0
        self._spelled[values] = labels
        # Present at once, so that it can be taken away before the first scrape.
        self._collector.set(labels, 0)


class Distribution:
    """One histogram.

    Args:
        bounds: Upper bounds of the buckets, rising, without infinity.
        labels: Spelled as the text format wants them.
    """

    __slots__ = ("_bounds", "_child", "_counts", "_sum")

    def __init__(
        self,
        collector: Histogram,
        bounds: Sequence[float],
        labels: dict[str, str] | None = None,
    ) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._child = Child(*bounds)
        collector.set_value(labels or {}, self._child)

    def observe(self, value: float) -> None:
        # Engines report odd numbers at times. A negative one would make the sum
        # fall, and nothing gets rid of an infinite one again.
        if 0.0 <= value < _INFINITY:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def copy_out(self) -> None:
        cumulative = 0
        for bound, count in zip((*self._bounds, _INFINITY), self._counts, strict=True):
            cumulative += count
            self._child.buckets[bound] = cumulative
        self._child.observations = cumulative
        self._child.sum = self._sum

    @staticmethod
    def series(bounds: Sequence[float]) -> int:
        """How many it is made of: the buckets, that of infinity, the sum and the count."""
        return len(bounds) + 3


class Distributions:
    """Histograms with labels whose values come out of closed sets.

    As with a Tally, what is in no set counts as "other", and so does, in every
    label, what there is no room for in the budget.

    Args:
        labels: Each label's name and the values it may have. A set may grow or
            shrink later; see `forget`.
    """

    def __init__(
        self,
        collector: Histogram,
        bounds: Sequence[float],
        labels: Mapping[str, Collection[Value]],
        budget: Budget,
    ) -> None:
        self._collector = collector
        self._bounds = tuple(bounds)
        self._names = tuple(labels)
        self._allowed = tuple(labels.values())
        self._budget = budget
        self._size = Distribution.series(bounds)
        self._others: tuple[Value, ...] = (OTHER,) * len(self._names)
        self._children: dict[tuple[Value, ...], Distribution] = {}
        self._spelled: dict[tuple[Value, ...], dict[str, str]] = {}
        # Its room is kept, for when it is needed: it is too many lines to show in vain.
        budget.reserve(self._size)

    def observe(self, values: tuple[Value, ...], value: float) -> None:
        """Count it under these labels, or those that stand for them."""
        child = self._children.get(values)
        if child is None:
            child = self._settled(values)
        child.observe(value)

    def begin(self, values: tuple[Value, ...]) -> None:
        """Show the histogram from now on, at 0, before its first event."""
        self._settled(values)

    def forget(self, value: Value) -> None:
        """End every histogram that has this value in its first label."""
        for values in [values for values in self._children if values[0] == value]:
            del self._children[values]
            self._collector.values.pop(self._spelled.pop(values))
            self._budget.left += self._size

    def copy_out(self) -> None:
        for child in self._children.values():
            child.copy_out()

    def _settled(self, values: tuple[Value, ...]) -> Distribution:
        """The histogram that these count in; it exists from now on."""
        settled = tuple(
            value if value in allowed else OTHER
            for value, allowed in zip(values, self._allowed, strict=True)
        )
        if settled not in self._children and not self._budget.take(self._size):
            settled = self._others
        child = self._children.get(settled)
        if child is None:
            labels = spelled(self._names, settled)
            child = self._children[settled] = Distribution(self._collector, self._bounds, labels)
            self._spelled[settled] = labels
        return child
