"""What one unit of work takes: a token read, a token written, a model loaded. Pure."""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.scheduling.remembered import Amount, Count

PRIOR_ERROR: Final = 0.5
"""Relative standard deviation of a prior: half or twice as much would surprise nobody."""

STEP: Final = 2.5
"""An observation counts as so many times the present value, or one so-many-th, at the most."""

WEIGHT_MAX: Final = 2.0
"""An observation weighs so many times all that was seen before, at the most. With STEP:
one alone moves the value by (1 + 2 × 2.5) / (1 + 2) = 2 at the most."""

SHIFT: Final = 3
"""So many in a row, all beyond STEP on one side, are no outliers: the box has changed."""

_FADED: Final = 0.1
_SCATTER_MAX: Final = math.log(STEP) ** 2
_EACH_S_MIN: Final = 1e-7
_EACH_S_MAX: Final = 1e4

CONCURRENCY_MAX: Final = 64


class Sums(msgspec.Struct):
    """What a meter remembers.

    Attributes:
        began_s: The prior, seconds per unit.
        units, seconds: Of all that was seen; what is older counts for less.
        squares: Of the logarithm of seen over expected, weighted by units.
        count: Observations, ever.
    """

    began_s: Annotated[float, Meta(ge=_EACH_S_MIN, le=_EACH_S_MAX)]
    units: Amount = 0.0
    seconds: Amount = 0.0
    squares: Amount = 0.0
    count: Count = 0


class Meter:
    """Seconds per unit, as a ratio of two decaying sums.

    A ratio of sums weighs each observation by its size, as the clock does. The
    prior is worth `prior_units`, half of that after the first observation, a
    quarter after the second: it is there for when nothing else is.

    Attributes:
        each_s: Seconds per unit, always positive and finite.
        variance: Of one prediction, relative to it squared: how much observations
            differ, and what is left of the doubt about the prior.

    Args:
        memory: Observations that make up most of the value.
        error: Relative standard deviation of the prior.
    """

    __slots__ = ("_error", "_keep", "_prior_units", "_streak", "each_s", "sums", "variance")

    def __init__(
        self, sums: Sums, *, prior_units: float, memory: int = 20, error: float = PRIOR_ERROR
    ) -> None:
        self.sums = sums
        self._prior_units = prior_units
        self._keep = 1.0 - 1.0 / memory
        self._error = error
        self._streak = 0
        prior = self._prior_weight()
        self._set_value(prior)
        self._set_variance(prior)

    def observe(self, units: float, seconds: float) -> None:
        """So much work took so long. What can't be true is not taken in."""
        if units <= 0.0 or not _EACH_S_MIN <= seconds / units <= _EACH_S_MAX:
            return
        sums, keep = self.sums, self._keep
        each_s = self._plausible(seconds / units)
        sums.count += 1
        kept, prior = sums.units * keep, self._prior_weight()
        units = min(units, WEIGHT_MAX * (prior + kept))
        sums.units = kept + units
        sums.seconds = sums.seconds * keep + units * each_s
        self._set_value(prior)
        error = math.log(each_s / self.each_s)
        sums.squares = sums.squares * keep + units * error * error
        self._set_variance(prior)

    def _plausible(self, each_s: float) -> float:
        """The observation within STEP of what is expected, and whether that has to be given up."""
        low, high = self.each_s / STEP, self.each_s * STEP
        if low <= each_s <= high:
            self._streak = 0
            return each_s
        slower = each_s > high
        self._streak = max(self._streak, 0) + 1 if slower else min(self._streak, 0) - 1
        if abs(self._streak) >= SHIFT:
            sums = self.sums
            # Nor is the prior what it was, or it would pull back for ever.
            sums.began_s = self.each_s
            sums.units *= _FADED
            sums.seconds *= _FADED
            sums.squares *= _FADED
        return high if slower else low

    def _prior_weight(self) -> float:
        return math.ldexp(self._prior_units, -min(self.sums.count, 60))

    def _set_value(self, prior: float) -> None:
        sums = self.sums
        each_s = (prior * sums.began_s + sums.seconds) / (prior + sums.units)
        self.each_s = min(max(each_s, _EACH_S_MIN), _EACH_S_MAX)

    def _set_variance(self, prior: float) -> None:
        weight = prior + self.sums.units
        doubt = self._error * prior / weight
        self.variance = doubt * doubt + min(self.sums.squares / weight, _SCATTER_MAX)


class WritingRates:
    """Seconds per token written, at each number of requests that run at once.

    A number never seen borrows from its neighbours what holds on every engine:
    with more at once none of them gets faster, and all together don't get
    slower. So k requests take at the most k/j times as long each as j < k did,
    and at the most as long as more than k did. The smaller bound counts.

    Attributes:
        count: Observations, ever.
    """

    def __init__(self, prior_s: float, prior_units: float) -> None:
        self.count = 0
        self._prior_s = prior_s
        self._prior_units = prior_units
        self._seen: dict[int, Meter] = {}
        self._borrowed: dict[int, Meter] = {}

    def at(self, concurrency: int) -> Meter:
        meter = self._seen.get(concurrency) or self._borrowed.get(concurrency)
        return meter or self._borrow(min(max(concurrency, 1), CONCURRENCY_MAX))

    def observe(self, concurrency: int, units: float, seconds: float) -> None:
        concurrency = min(max(concurrency, 1), CONCURRENCY_MAX)
        meter = self.at(concurrency)
        before = meter.sums.count
        meter.observe(units, seconds)
        self.count += meter.sums.count - before
        if meter.sums.count:
            self._seen[concurrency] = meter
            self._borrowed.clear()

    def state(self) -> list[tuple[int, Sums]]:
        return [(concurrency, meter.sums) for concurrency, meter in self._seen.items()]

    def restore(self, state: list[tuple[int, Sums]]) -> None:
        """Raises ValueError for a concurrency that is none."""
        for concurrency, sums in state:
            if not 1 <= concurrency <= CONCURRENCY_MAX:
                raise ValueError(f"{concurrency} is no number of requests at once")
            self._seen[concurrency] = Meter(sums, prior_units=self._prior_units)
        self.count = sum(meter.sums.count for meter in self._seen.values())

    def _borrow(self, concurrency: int) -> Meter:
        meter = self._seen.get(concurrency) or self._borrowed.get(concurrency)
        if meter is None:
            bounds = [
                seen.each_s * max(1.0, concurrency / known) for known, seen in self._seen.items()
            ]
            began_s = min(bounds, default=self._prior_s * concurrency)
            sums = Sums(began_s=min(began_s, _EACH_S_MAX))
            meter = self._borrowed[concurrency] = Meter(sums, prior_units=self._prior_units)
        return meter
