"""Learns how many requests an engine truly runs at once. Pure.

Ollama's number is OLLAMA_NUM_PARALLEL, 1 unless somebody has set it, and 1 for some
families of models whatever was set; no endpoint tells it. What it can't run at once
waits inside, first come, first served and without a bound, where no deadline and no
priority counts. But it says of each answer how long its parts took, and what is
missing from the whole is that wait:

    hidden = total - load - prefill - decode

Measured with Ollama 0.24 it is 4 to 17 ms for a request alone, and 31 s and 55 s for
the second and the third of three that were sent to one slot.

The learner climbs a ladder of levels, 1, 2, 3 …, as TCP finds the width of a path by
sending more: additive increase, and back at a sign of congestion (D. Chiu, R. Jain,
"Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989).
Netflix's concurrency-limits (2018) infers the queue inside a server from its latency
(VegasLimit, GradientLimit); where the engine tells of it, it need not be inferred.
Where it doesn't, and for the rest, there is a second question: do all together write
faster? On a machine that was busy with one request two of them take twice as long, and
nobody is served better.

So a level is first on *trial*: for a few answers, only while requests wait anyway, and
only with time to spare before the nearest deadline. A trial without hidden queueing in
which the tokens per second of all together grow by a tenth is passed. One that failed
is repeated after ten minutes, and after twice as long each time, up to a day. A level
that was passed is left as it was reached, when it shows the contrary.
"""

import math
from typing import Final

import attrs

from gateway.core.messages import Timings
from gateway.pool.upstream import LOAD_S_MIN

HIDDEN_S_MIN: Final = 0.15
HIDDEN_PART_MIN: Final = 0.1
"""Hidden queueing is more than both of these, the latter of the whole answer's time."""

GROWTH_MIN: Final = math.log(1.1)
"""By how much all together must be faster on a level than on the one below."""

GROWTH_KEPT: Final = math.log(1.05)
"""The same once the level was passed: less, so that it is not tried and left by turns."""

SURE: Final = 2.5
LIKELY: Final = 1.0
"""Standard errors between a measured growth and a bound: for a verdict at any time, and for
passing at the end of a trial."""

SAMPLES_MIN: Final = 5
SAMPLES_MAX: Final = 30
"""Answers in a trial."""

SPREAD_MIN: Final = 0.05
"""Standard deviation of a rate, in parts of it, that even a few equal ones are taken to have."""

STRIKES: Final = 2
"""Answers in a row with hidden queueing by which a level is left that was passed before."""

BACKOFF_S: Final = 600.0
BACKOFF_S_MAX: Final = 86_400.0
PAUSE_S: Final = 60.0
"""After a trial that was broken off and so says nothing."""

TRIAL_S_MIN: Final = 60.0
TRIAL_SERVICES: Final = 2.0 * SAMPLES_MAX
"""A trial is broken off when the requests for it don't come: after the longer of these, the
latter in mean service times."""

SLACK_TO_BEGIN: Final = 2.0
SLACK_TO_GO_ON: Final = 1.0
"""Time to spare during a trial, in mean service times: on a level that is one too many
a request takes one more of them, at the most."""

MODELS_MAX: Final = 16
"""Models whose speed is remembered for each level."""

_AT_A_LEVEL: Final = 0.25
"""How far the mean concurrency of an answer may be from a level to count there."""

_ALONE: Final = 1.05
"""A mean concurrency up to which whatever was slow was not our doing."""

_SAME_MOMENT_S: Final = 1e-6


class Occupancy:
    """How many requests run at once on average, over any stretch of time."""

    __slots__ = ("_running", "_since", "_slot_s")

    def __init__(self) -> None:
        self._running = 0
        self._slot_s = 0.0
        self._since = 0.0

    def started(self, now: float) -> float:
        """One more runs. The seconds of slots used so far, to be kept for `mean_since`."""
        slot_s = self._until(now)
        self._running += 1
        return slot_s

    def ended(self, now: float) -> None:
        """One less runs."""
        assert self._running > 0
        self._until(now)
        self._running -= 1

    def mean_since(self, slot_s: float, seconds: float, now: float) -> float:
        """How many ran on average since `started` returned `slot_s`, `seconds` ago."""
        return (self._until(now) - slot_s) / seconds if seconds > 0.0 else float(self._running)

    def _until(self, now: float) -> float:
        self._slot_s += self._running * (now - self._since)
        self._since = now
        return self._slot_s


@attrs.define(eq=False, slots=True)
class _Rate:
    """Tokens per second of all together, as logarithms: what grows is a factor.

    Mean and variance of the last SAMPLES_MAX or so, older ones fading (T. Finch,
    "Incremental calculation of weighted mean and variance", 2009).
    """

    count: int = 0
    mean: float = 0.0
    _variance: float = 0.0

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, SAMPLES_MAX)
        weight = 1.0 / self.count
        step = value - self.mean
        self.mean += weight * step
        self._variance = (1.0 - weight) * (self._variance + weight * step * step)

    @property
    def error2(self) -> float:
        """Squared standard error of the mean."""
        return max(self._variance / max(self.count - 1, 1), SPREAD_MIN**2 / self.count)


@attrs.define(eq=False, slots=True)
class _Level:
    """So many at once, and what was seen of it.

    Attributes:
        rates: By model: two models have different speeds, which is no growth.
        failures: Trials in a row that it has failed.
        retry_at: Not tried again before.
    """

    slots: int
    rates: dict[str, _Rate] = attrs.field(factory=dict)
    failures: int = 0
    retry_at: float = -math.inf

    def add(self, model: str, rate: float) -> None:
        rates = self.rates
        if model not in rates:
            if len(rates) >= MODELS_MAX:
                del rates[next(iter(rates))]
            rates[model] = _Rate()
        rates[model].add(math.log(rate))

    @property
    def known(self) -> bool:
        """Whether another level can be compared with it."""
        return any(rate.count >= SAMPLES_MIN for rate in self.rates.values())


class SlotLearner:
    """Finds out the number of slots of one upstream.

    Attributes:
        slots: As many as may run at once now.
        on_trial: Whether the last one of them is being tried.

    Args:
        slots_max: Never more than these.
    """

    def __init__(self, *, slots_max: int) -> None:
        self._levels = [_Level(slots) for slots in ladder(slots_max)]
        self._at = 0
        self.on_trial = False
        self._changed_at = -math.inf
        self._trial_until = math.inf
        self._strikes = 0
        self._service_s: float | None = None

    @property
    def slots(self) -> int:
        return self._levels[self._at].slots

    @property
    def sure_slots(self) -> int:
        """Without the one that is being tried."""
        return self._levels[self._at - self.on_trial].slots

    def observe(
        self,
        model: str,
        *,
        concurrency: float,
        timings: Timings,
        tokens: int,
        seen_s: float,
        now: float,
    ) -> None:
        """Learn from a whole answer; `slots` may be another number afterwards.

        Args:
            concurrency: How many ran at once on average while it did, itself included.
            timings: What the engine says of it, if anything.
            tokens: Written, as far as is known.
            seen_s: From the slot to the end of the answer.
        """
        load_s = timings.load_s or 0.0
        self._note_service(seen_s - load_s)
        if self.on_trial and now >= self._trial_until:
            self._break_off(now)
        # What began before, on more slots than there are now, tells nothing of these.
        if now - seen_s < self._changed_at - _SAME_MOMENT_S:
            return
        together = concurrency > _ALONE
        if load_s >= LOAD_S_MIN:
            # Ollama counts as load also the wait for others to end that are in its way.
            if self.on_trial and together:
                self._fail(now)
            return
        if together and _queued_inside(timings):
            self._strikes += 1
            if self.on_trial or self._strikes >= STRIKES:
                self._fail(now)
            return
        level = self._level_of(concurrency)
        if level is None:
            return
        if level is self._levels[self._at]:
            self._strikes = 0
        seconds = _writing_s(timings, seen_s)
        if tokens > 0 and seconds > 0.0:
            level.add(model, concurrency * tokens / seconds)
            self._judge(now)

    def may_probe(self, waiting: int, slack_s: float, now: float) -> bool:
        """Whether this is a moment to put the next level on trial.

        Args:
            waiting: Requests that want a slot and have none.
            slack_s: How far the nearest deadline of all that run or wait is beyond the
                time when it is expected to be kept.
        """
        if self.on_trial or not waiting or self._at + 1 == len(self._levels):
            return False
        return (
            self._levels[self._at].known
            and now >= self._levels[self._at + 1].retry_at
            and slack_s >= SLACK_TO_BEGIN * (self._service_s or 0.0)
        )

    def review(self, waiting: int, slack_s: float, now: float) -> int:
        """Begin a trial if this is the moment, break one off that hurts; the slots from now on.

        Args: as `may_probe`.
        """
        if self.on_trial:
            service_s = self._service_s or 0.0
            if now >= self._trial_until or slack_s < SLACK_TO_GO_ON * service_s:
                self._break_off(now)
        elif self.may_probe(waiting, slack_s, now):
            self._move(self._at + 1, now)
            self.on_trial = True
            self._levels[self._at].rates.clear()
            self._trial_until = now + max(TRIAL_S_MIN, TRIAL_SERVICES * (self._service_s or 0.0))
        return self.slots

    def _note_service(self, seconds: float) -> None:
        if self._service_s is None:
            self._service_s = seconds
        else:
            self._service_s += (seconds - self._service_s) / SAMPLES_MAX

    def _level_of(self, concurrency: float) -> _Level | None:
        """The level at which it ran, if it was one and the same nearly all the time."""
        for level in self._levels[: self._at + 1]:
            if abs(level.slots - concurrency) <= _AT_A_LEVEL:
                return level
        return None

    def _judge(self, now: float) -> None:
        """Whether the present level is worth its last slot."""
        if not self._at:
            return
        growth = self._growth()
        if growth is None:
            return
        count, mean, error = growth
        if not self.on_trial:
            if mean + SURE * error < GROWTH_KEPT:
                self._fail(now)
        elif mean - (SURE if count < SAMPLES_MAX else LIKELY) * error >= GROWTH_MIN:
            self.on_trial = False
            self._levels[self._at].failures = 0
        elif mean + SURE * error < GROWTH_MIN or count >= SAMPLES_MAX:
            self._fail(now)

    def _growth(self) -> tuple[int, float, float] | None:
        """From the level below to this one: answers that tell of it, mean and error of the growth.

        None while there are too few.
        """
        below = self._levels[self._at - 1].rates
        count, total, error2 = 0, 0.0, 0.0
        for model, rate in self._levels[self._at].rates.items():
            base = below.get(model)
            if base is not None and base.count >= SAMPLES_MIN:
                count += rate.count
                total += rate.count * (rate.mean - base.mean)
                error2 += rate.count**2 * (rate.error2 + base.error2)
        if count < SAMPLES_MIN:
            return None
        return count, total / count, math.sqrt(error2) / count

    def _fail(self, now: float) -> None:
        """This level is too much; not again for a while."""
        if not self._at:
            return
        level = self._levels[self._at]
        level.failures += 1
        level.retry_at = now + min(BACKOFF_S * 2.0 ** (level.failures - 1), BACKOFF_S_MAX)
        if not self.on_trial:
            # Something has changed. What lower levels once did is no measure for this
            # one any more, or it would be left too, and so on down to the first.
            for lower in self._levels[: self._at]:
                lower.rates.clear()
        self._move(self._at - 1, now)

    def _break_off(self, now: float) -> None:
        """End a trial without a verdict."""
        self._levels[self._at].retry_at = now + PAUSE_S
        self._move(self._at - 1, now)

    def _move(self, at: int, now: float) -> None:
        self._at = at
        self.on_trial = False
        self._changed_at = now
        self._strikes = 0


def ladder(slots_max: int) -> list[int]:
    """The levels: one by one up to 8, then by a quarter, or the growth could not be seen."""
    levels = [1]
    while levels[-1] < slots_max:
        levels.append(min(levels[-1] + max(1, levels[-1] // 4), slots_max))
    return levels


def _queued_inside(timings: Timings) -> bool:
    """Whether the engine let it wait. Unknown is no; parts of no length may go untold."""
    total_s = timings.total_s
    if total_s is None or timings.decode_s is None:
        return False
    hidden_s = total_s - (timings.load_s or 0.0) - (timings.prefill_s or 0.0) - timings.decode_s
    return _is_wait(hidden_s, of_s=total_s)


def _writing_s(timings: Timings, seen_s: float) -> float:
    """The time in which the tokens were written.

    llama.cpp's server tells of its work and not of its queue: where a part of what we
    saw is missing, all of it counts, or one half as fast would pass for two at once.
    """
    total_s = timings.total_s
    if timings.decode_s and total_s is not None and not _is_wait(seen_s - total_s, of_s=seen_s):
        return timings.decode_s
    return seen_s - (timings.load_s or 0.0)


def _is_wait(seconds: float, *, of_s: float) -> bool:
    """Whether this is more of the whole than what is lost on the way."""
    return seconds > max(HIDDEN_S_MIN, HIDDEN_PART_MIN * of_s)
