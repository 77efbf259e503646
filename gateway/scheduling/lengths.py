"""How long a model's answers are, learned from answers many of which were cut off. Pure.

An answer that ends by its cap says only that it would have been longer: it is
censored. So what is learned is the hazard, for each bin of lengths the chance
that an answer which got there ends there, and the chance to live on is the
product of what is left (Kaplan & Meier 1958; in bins, with the cut-off ones
exposed to the part of a bin that they saw: the life table of Cutler & Ederer
1958). From it follow mean and variance of what any other cap would leave.

Where nothing was seen a prior holds, a Pareto tail (Lomax 1954): most answers
are short, and what is long already goes on for long.
"""

import bisect
import itertools
import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.scheduling.remembered import Amount, Count

LENGTH_MAX: Final = 32_768
"""Tokens; nothing longer is told apart."""

_PRIOR_ANSWERS: Final = 2.0
"""What the prior of a bin is worth, in answers; the less, the more answers came to the bin.
A tail must remain beyond the longest answer seen, but no doubt where all went on."""

_PRIOR_SHAPE: Final = 3.0
"""Of the Pareto tail: the smallest whole number for which it has a variance."""

MOST: Final = 0.9
TAIL: Final = 2

_WEIGHT_MAX: Final = 1e6

_STALENESS: Final = 8
"""The tables are made anew when an eighth of what they rest on is new."""

_MEMORY: Final = 64
"""The last so many answers make up most of what is believed."""

_GROWTH: Final = _MEMORY / (_MEMORY - 1)
"""Each answer weighs so many times the one before."""

_MOMENTS_MAX: Final = 512


def _edges() -> list[int]:
    """Ends of the bins: of one token at first, then each 15 % longer than all before it."""
    edges = [0]
    while edges[-1] < LENGTH_MAX:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * 1.15)), LENGTH_MAX))
    return edges


EDGES: Final = _edges()
"""Bin i holds the lengths from EDGES[i] + 1 to EDGES[i + 1]."""

_BINS: Final = len(EDGES) - 1


def _sums(at: int, steps: int) -> tuple[float, float, float, float]:
    """What the first `steps` tokens of a bin add to the moments.

    E[min(L, c)] is the sum of P(L > k) over k < c, and that of the square has
    2k + 1 before each term. In a bin P(L > k) falls in a straight line.

    Returns:
        Of the mean, what each answer adds that enters the bin, and what is missing
        of that for each that ends in it; the same of the square.
    """
    width = EDGES[at + 1] - EDGES[at]
    odd = 2 * EDGES[at] + 1
    pairs = steps * (steps - 1) / 2
    squares = pairs * (2 * steps - 1) / 3
    return (
        float(steps),
        pairs / width,
        odd * steps + 2 * pairs,
        (odd * pairs + 2 * squares) / width,
    )


_WHOLE_BINS: Final = [_sums(at, EDGES[at + 1] - EDGES[at]) for at in range(_BINS)]


class Bin(msgspec.Struct):
    """What was seen of one bin, in answers; fractions, since what is older counts for less.

    Attributes:
        start: Its lower edge.
        ended: By themselves.
        cut: By their cap.
        lived: Of those that were cut, the parts of the bin that they lived through.
    """

    start: Annotated[int, Meta(ge=0, lt=LENGTH_MAX)]
    ended: Amount = 0.0
    cut: Amount = 0.0
    lived: Amount = 0.0


class LengthSums(msgspec.Struct):
    """What is remembered; bins of which nothing was seen are left out."""

    count: Count = 0
    bins: Annotated[list[Bin], Meta(max_length=_BINS)] = []


class AnswerLengths:
    """The lengths of one model's answers, in tokens.

    Args:
        prior_mean: Of all answers, before any was seen.

    Attributes:
        count: Answers, ever.
    """

    def __init__(self, prior_mean: float) -> None:
        self._prior = _pareto_hazards(prior_mean)
        self._bins = [Bin(start) for start in EDGES[:-1]]
        self._weight = 1.0
        self.count = 0
        self._unheard = 0
        self._make_tables()

    def observe(self, length: int, *, capped: bool) -> None:
        """An answer has ended, by itself or, capped, by a limit beyond which it would have gone on.

        Args:
            length: At least 1.
        """
        if length >= LENGTH_MAX:
            length, capped = LENGTH_MAX, True
        at = bisect.bisect_left(EDGES, length) - 1
        seen = self._bins[at]
        if capped:
            seen.cut += self._weight
            seen.lived += self._weight * (length - EDGES[at]) / (EDGES[at + 1] - EDGES[at])
        else:
            seen.ended += self._weight
        self._weight *= _GROWTH
        if self._weight > _WEIGHT_MAX:
            self._normalize()
        self.count += 1
        self._unheard += 1

    def moments(self, cap: int) -> tuple[float, float]:
        """Mean and variance of an answer's length under this cap.

        The variance is that of answers up to TAIL times the length within which
        most end. Beyond, little was ever seen; the prior's tail is long enough to
        count in the mean, and would make any sum of answers look like a gamble.
        """
        self._refresh()
        found = self._moments.get(cap)
        if found is None:
            if len(self._moments) >= _MOMENTS_MAX:
                self._moments.clear()
            within = min(max(cap, 0), LENGTH_MAX)
            mean, _ = self._raw_moments(within)
            usual, square = self._raw_moments(min(TAIL * self.quantile(MOST, cap), within))
            found = self._moments[cap] = (mean, max(0.0, square - usual * usual))
        return found

    def left(self, written: int, cap: int) -> float:
        """Mean of what is still to come of an answer that has got so far."""
        self._refresh()
        cap = min(max(cap, 0), LENGTH_MAX)
        if written >= cap:
            return 0.0
        at = bisect.bisect_left(EDGES, max(written, 1)) - 1
        width = EDGES[at + 1] - EDGES[at]
        alive = self._alive[at] * (1.0 - self._hazards[at] * (written - EDGES[at]) / width)
        if alive <= 0.0:
            return 0.0
        return (self._raw_moments(cap)[0] - self._raw_moments(max(written, 0))[0]) / alive

    def quantile(self, share: float, cap: int) -> int:
        """The least length within which this share of answers ends, under this cap."""
        self._refresh()
        for at in range(_BINS):
            start, alive = EDGES[at], self._alive[at]
            if start >= cap:
                break
            ending = alive * self._hazards[at]
            if alive - ending <= 1.0 - share and ending > 0.0:
                part = (alive - 1.0 + share) / ending
                width = EDGES[at + 1] - start
                return min(cap, start + max(1, math.ceil(part * width)))
        return min(max(cap, 0), LENGTH_MAX)

    def state(self) -> LengthSums:
        """What to remember. Prices follow from it, so the tables are made anew too."""
        self._normalize()
        self._make_tables()
        seen = [each for each in self._bins if each.ended or each.cut]
        return LengthSums(count=self.count, bins=seen)

    def restore(self, state: LengthSums) -> None:
        """Raises ValueError for bins that are none of ours."""
        for seen in state.bins:
            at = bisect.bisect_left(EDGES, seen.start)
            if EDGES[at] != seen.start:
                raise ValueError(f"no bin of answer lengths begins at {seen.start}")
            self._bins[at] = seen
        self.count = state.count
        self._make_tables()

    def _normalize(self) -> None:
        """The newest answer weighs 1 again."""
        for seen in self._bins:
            seen.ended /= self._weight
            seen.cut /= self._weight
            seen.lived /= self._weight
        self._weight = 1.0

    def _refresh(self) -> None:
        if self._unheard and self._unheard * _STALENESS >= min(self.count, _MEMORY):
            self._make_tables()

    def _make_tables(self) -> None:
        """For each bin: who lives to see it, who ends in it, and the sums over all before it."""
        self._unheard = 0
        self._moments: dict[int, tuple[float, float]] = {}
        self._hazards = self._prior.copy()
        beyond, per_answer = 0.0, 1.0 / self._weight
        for at in range(_BINS - 1, -1, -1):
            seen = self._bins[at]
            if not (beyond or seen.ended or seen.cut):
                continue
            exposed = (beyond + seen.ended + seen.lived) * per_answer
            prior = _PRIOR_ANSWERS / (1.0 + exposed)
            ended = seen.ended * per_answer + prior * self._prior[at]
            self._hazards[at] = ended / (exposed + prior)
            beyond += seen.ended + seen.cut
        self._alive: list[float] = []
        self._means: list[float] = []
        self._squares: list[float] = []
        alive, means, squares = 1.0, 0.0, 0.0
        for hazard, sums in zip(self._hazards, _WHOLE_BINS, strict=True):
            self._alive.append(alive)
            self._means.append(means)
            self._squares.append(squares)
            falls = alive * hazard
            means += alive * sums[0] - falls * sums[1]
            squares += alive * sums[2] - falls * sums[3]
            alive -= falls

    def _raw_moments(self, cap: int) -> tuple[float, float]:
        """E[min(L, cap)] and E[min(L, cap)²]."""
        if cap == 0:
            return 0.0, 0.0
        at = bisect.bisect_left(EDGES, cap) - 1
        alive = self._alive[at]
        falls = alive * self._hazards[at]
        sums = _sums(at, cap - EDGES[at])
        return (
            self._means[at] + alive * sums[0] - falls * sums[1],
            self._squares[at] + alive * sums[2] - falls * sums[3],
        )


def _pareto_hazards(mean: float) -> list[float]:
    """For each bin the chance that an answer which got there ends there."""
    scale = mean * (_PRIOR_SHAPE - 1.0)
    return [
        1.0 - ((scale + start) / (scale + end)) ** _PRIOR_SHAPE
        for start, end in itertools.pairwise(EDGES)
    ]
