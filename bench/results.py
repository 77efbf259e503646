"""What became of the requests of a load, each alone and all together. Pure."""

import enum
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from bench import figures

TIMEOUT: Final = "client_timeout"
BROKEN: Final = "connection_broken"
UNREADABLE: Final = "unreadable_answer"
UNFINISHED: Final = "unfinished_answer"

_REFUSALS: Final = (429, 503)
_TIMEOUTS: Final = (408, 504)
# Of a stream that has begun there is no status any more to tell it by.
_TIMEOUT_CODES: Final = (TIMEOUT, "request_timeout")


class Outcome(enum.StrEnum):
    """What a request came to."""

    IN_TIME = "in time"
    LATE = "late"
    TIMED_OUT = "timed out"
    REFUSED = "refused"
    FAILED = "failed"
    ABANDONED = "abandoned"


@attrs.frozen(kw_only=True)
class Attempt:
    """One try. Times are seconds of one clock, `time.perf_counter`.

    Attributes:
        status: 0 where there was no answer.
        code: What went wrong: the server's word for it, or one of ours; "" if nothing.
        told_s: When to come back, as the refusal says; None where it says nothing.
        truncated: The server says that it has cut the answer for the deadline.
    """

    sent_at: float
    ended_at: float
    status: int
    code: str = ""
    told_s: float | None = None
    first_token_at: float | None = None
    tokens: int = 0
    finish_reason: str | None = None
    truncated: bool = False

    @property
    def took_s(self) -> float:
        return self.ended_at - self.sent_at

    @property
    def refused(self) -> bool:
        return self.status in _REFUSALS

    @property
    def timed_out(self) -> bool:
        return self.status in _TIMEOUTS or self.code in _TIMEOUT_CODES

    @property
    def whole(self) -> bool:
        return self.status == 200 and not self.code


@attrs.frozen(kw_only=True)
class Result:
    """A request with all its tries.

    Attributes:
        number: Counts the requests of a load from 0.
        stream: It is its first token that had to come in time, not its end.
        attempts: The last one is how it ended; none if it was given up before its
            first had an answer.
        abandoned: Given up because the load had ended, not because of what it was told.
    """

    number: int
    model: str
    stream: bool
    max_tokens: int | None
    attempts: tuple[Attempt, ...]
    abandoned: bool = False

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def retries(self) -> int:
        return max(0, len(self.attempts) - 1)

    def waited_s(self) -> float | None:
        """Of the last try, until what had to be in time: the first token, or the end.

        Returns:
            None where it never came.
        """
        if (last := self.last) is None or not last.whole:
            return None
        until = last.first_token_at if self.stream else last.ended_at
        return None if until is None else until - last.sent_at

    def outcome(self, deadline_s: float) -> Outcome:
        last = self.last
        if self.abandoned or last is None:
            return Outcome.ABANDONED
        if last.timed_out:
            return Outcome.TIMED_OUT
        if last.refused:
            return Outcome.REFUSED
        if (waited_s := self.waited_s()) is None:
            return Outcome.FAILED
        return Outcome.IN_TIME if waited_s <= deadline_s else Outcome.LATE


@attrs.frozen(kw_only=True)
class Quantiles:
    """Of seconds; NaN where nothing was measured."""

    p50: float
    p95: float
    p99: float

    def __str__(self) -> str:
        if math.isnan(self.p50):
            return "-"
        return " / ".join(f"{seconds * 1e3:,.0f}" for seconds in attrs.astuple(self)) + " ms"


@attrs.frozen(kw_only=True)
class Summary:
    """A whole load.

    Attributes:
        deadline_s: What the rest was judged by.
        outcomes: How many requests came to what; together all of them.
        codes: Why tries were refused or went wrong.
        timeouts: Tries that were let in and had no answer in time, those that were
            retried too.
        retries: Tries beyond the first of each request.
        truncated: Answers in time that were cut for the deadline.
        refusal_s: From a try to its refusal, those that were retried too.
        latency_s: Whole answers, from their last try to their end.
        first_token_s: Streams, likewise.
        total_s: Whole answers, from their first try: with all refusals and waits.
        wall_s: From the first try to the end of the last.
        tokens_per_s: Of all whole answers, over the wall.
        goodput_per_s: Answers in time, over the wall.
        useful_tokens_per_s: Their tokens, over the wall.
        window_goodput_per_s: Those in time that ended while the load went on, over that
            time: without the beginning of the end, in which fewer and fewer wait.
    """

    deadline_s: float
    requests: int
    outcomes: Mapping[Outcome, int]
    codes: Mapping[str, int]
    timeouts: int
    retries: int
    truncated: int
    refusal_s: Quantiles
    latency_s: Quantiles
    first_token_s: Quantiles
    total_s: Quantiles
    wall_s: float
    tokens_per_s: float
    goodput_per_s: float
    useful_tokens_per_s: float
    window_goodput_per_s: float

    @property
    def in_time(self) -> int:
        return self.outcomes[Outcome.IN_TIME]


def summarise(
    results: Sequence[Result], *, deadline_s: float, window_s: float | None = None
) -> Summary:
    """All results of a load together.

    Args:
        window_s: How long the load went on; None: to the end of its last answer.
    """
    attempts = [attempt for result in results for attempt in result.attempts]
    begun_at = min((attempt.sent_at for attempt in attempts), default=0.0)
    ended_at = max((attempt.ended_at for attempt in attempts), default=0.0)
    wall_s = ended_at - begun_at
    outcomes = [(result, result.outcome(deadline_s)) for result in results]
    good = [
        (result, last)
        for result, outcome in outcomes
        if outcome is Outcome.IN_TIME and (last := result.last) is not None
    ]
    whole = [
        (result, last)
        for result in results
        if (last := result.last) is not None and last.whole and not result.abandoned
    ]
    window_s = wall_s if window_s is None else window_s
    in_window = [last for _, last in good if last.ended_at <= begun_at + window_s]
    counted = Counter(outcome for _, outcome in outcomes)
    return Summary(
        deadline_s=deadline_s,
        requests=len(results),
        outcomes={outcome: counted[outcome] for outcome in Outcome},
        codes=Counter(attempt.code for attempt in attempts if attempt.code),
        timeouts=sum(attempt.timed_out for attempt in attempts),
        retries=sum(result.retries for result in results),
        truncated=sum(last.truncated for _, last in good),
        refusal_s=_quantiles([attempt.took_s for attempt in attempts if attempt.refused]),
        latency_s=_quantiles([last.took_s for _, last in whole]),
        first_token_s=_quantiles(
            [
                last.first_token_at - last.sent_at
                for _, last in whole
                if last.first_token_at is not None
            ]
        ),
        total_s=_quantiles([last.ended_at - result.attempts[0].sent_at for result, last in whole]),
        wall_s=wall_s,
        tokens_per_s=_rate(sum(last.tokens for _, last in whole), wall_s),
        goodput_per_s=_rate(len(good), wall_s),
        useful_tokens_per_s=_rate(sum(last.tokens for _, last in good), wall_s),
        window_goodput_per_s=_rate(len(in_window), window_s),
    )


def report(summary: Summary) -> str:
    """The summary as a table of two columns."""
    refused = ", ".join(f"{count} × {code}" for code, count in summary.codes.items())
    rows = [
        ("requests", str(summary.requests)),
        *((str(outcome), str(count)) for outcome, count in summary.outcomes.items()),
        ("… because", refused or "-"),
        ("tries that timed out", str(summary.timeouts)),
        ("retries", str(summary.retries)),
        ("truncated", str(summary.truncated)),
        ("refusal p50 / p95 / p99", str(summary.refusal_s)),
        ("latency", str(summary.latency_s)),
        ("first token", str(summary.first_token_s)),
        ("with retries and waits", str(summary.total_s)),
        ("wall", f"{summary.wall_s:.2f} s"),
        ("tokens", f"{summary.tokens_per_s:.2f} /s, useful {summary.useful_tokens_per_s:.2f} /s"),
        (
            f"goodput within {summary.deadline_s:g} s",
            f"{summary.goodput_per_s:.3f} /s, while it went on"
            f" {summary.window_goodput_per_s:.3f} /s",
        ),
    ]
    return figures.table(rows)


def _quantiles(seconds: Sequence[float]) -> Quantiles:
    p50, p95, p99 = (figures.quantile(seconds, share) for share in (0.5, 0.95, 0.99))
    return Quantiles(p50=p50, p95=p95, p99=p99)


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0.0 else 0.0
