"""What has become of requests since the start, and lately: for whoever looks, not for a scraper.

Bounded in every direction: reasons are those of the tree of errors, and of single requests
only the last ones are kept. Holds no text and no key.
"""

import statistics
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from gateway.core.clock import Clock
from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import CLIENT_GONE, Exchange
from gateway.telemetry.families.labels import REFUSALS
from gateway.telemetry.families.scheduling import JUDGED_S_MIN
from gateway.telemetry.window import Window

ENDED_KEPT: Final = 50
"""Requests that are still told of one by one."""

JUDGED_KEPT: Final = 256
"""Estimates by which the next ones are judged."""

LATELY_S: Final = 300.0
"""What counts as lately, of refusals."""

NOW_S: Final = 10.0
"""Over which the speed of answers is taken."""


@attrs.frozen
class Ended:
    """One request, as it ended.

    Attributes:
        at: Seconds since the epoch.
    """

    record: RequestRecord
    at: float


@attrs.frozen
class RefusalCount:
    """Refusals for one reason.

    Attributes:
        lately: In the last LATELY_S.
    """

    reason: str
    total: int
    lately: int


@attrs.frozen
class Judged:
    """How well a time was foreseen.

    Attributes:
        count: Estimates that could be judged.
        error: The part by which a usual one was wrong, either way; 0.2: a fifth.
        ratio: What a usual one expected, over what it was; below 1 it took longer.
            None, as `error`, where there was none to judge.
    """

    count: int = 0
    error: float | None = None
    ratio: float | None = None


class History:
    """Told of everything that ends, as the metrics are. Nothing here awaits or raises."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._ended: deque[Ended] = deque(maxlen=ENDED_KEPT)
        self._refused: dict[str, tuple[int, Window]] = {}
        self._written = Window(NOW_S, round(NOW_S))
        self._waits: deque[tuple[float, float]] = deque(maxlen=JUDGED_KEPT)
        self._services: deque[tuple[float, float]] = deque(maxlen=JUDGED_KEPT)
        self._outcomes: Counter[str] = Counter()

    @property
    def ended(self) -> Sequence[Ended]:
        """The last accepted requests, the latest first."""
        return tuple(reversed(self._ended))

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many requests ended in which way, since the start."""
        return self._outcomes

    @property
    def waits(self) -> Judged:
        """How well the wait for a slot was foreseen."""
        return judged(self._waits)

    @property
    def services(self) -> Judged:
        """How well the time in the slot was foreseen."""
        return judged(self._services)

    def told(self, record: RequestRecord) -> None:
        """A request has ended."""
        self._outcomes[record.outcome] += 1
        if record.outcome == "refused":
            if record.status != CLIENT_GONE:
                self.refused(record.reason)
            return
        self._ended.append(Ended(record, self._clock.wall()))
        if record.rejoined:
            return  # What it used is told by the request that it came back for.
        now = self._clock.now()
        if record.usage.completion and record.first_token_s is not None:
            decode_s = record.total_s - record.first_token_s
            self._written.spread(record.usage.completion, now - decode_s, now)
        self._judge(record)

    def exchanged(self, exchange: Exchange) -> None:
        """An HTTP request was answered; one that was refused has no other record."""
        if exchange.record is None and exchange.reason and exchange.status in REFUSALS:
            self.refused(exchange.reason)

    def refused(self, reason: str) -> None:
        """A request was refused."""
        total, lately = self._refused.get(reason) or (0, Window(LATELY_S, 30))
        lately.add(1, self._clock.now())
        self._refused[reason] = (total + 1, lately)

    def refusals(self) -> list[RefusalCount]:
        """By reason, the most frequent first."""
        now = self._clock.now()
        counts = [
            RefusalCount(reason, total, round(lately.total(now)))
            for reason, (total, lately) in self._refused.items()
        ]
        return sorted(counts, key=lambda count: (-count.lately, -count.total, count.reason))

    def tokens_per_s(self, running: Iterable[tuple[int, float]]) -> float:
        """Tokens that all answers together had in each of the last seconds.

        Args:
            running: Of each answer that is being written its tokens, and for how long.
        """
        now = self._clock.now()
        covered_s = self._written.covered_s(now)
        written = self._written.total(now)
        for tokens, decode_s in running:
            written += tokens * min(1.0, covered_s / decode_s) if decode_s > 0.0 else tokens
        return written / covered_s

    def _judge(self, record: RequestRecord) -> None:
        if record.attempts != 1 or record.priority is None:
            return  # It was foreseen for the first.
        if record.queue_s >= JUDGED_S_MIN:
            self._waits.append((record.expected_wait_s, record.queue_s))
        whole = record.outcome == "completed" and not record.truncated
        # A model that was only loaded had nothing to compute.
        computed = record.usage.prompt + record.usage.completion > 0
        if whole and computed and record.service_s >= JUDGED_S_MIN:
            self._services.append((record.expected_s, record.service_s))


def judged(pairs: Iterable[tuple[float, float]]) -> Judged:
    """Args: pairs: What was expected, and what it was, above 0."""
    ratios = [expected / actual for expected, actual in pairs]
    if not ratios:
        return Judged()
    return Judged(
        count=len(ratios),
        error=statistics.median(abs(ratio - 1.0) for ratio in ratios),
        ratio=statistics.median(ratios),
    )
