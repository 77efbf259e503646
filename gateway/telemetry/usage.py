"""What callers use: how a request counts, and how counts are summed up and shown. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeVar

import attrs

from gateway.core.jsonio import Json
from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import CLIENT_GONE, cached_tokens

SINCE: Final = "30d"
"""How far back is looked if nobody says."""

By = Literal["caller", "model", "day"]

K = TypeVar("K")

_DAYS: Final = re.compile(r"([0-9]{1,5})d")


@attrs.define
class Counts:
    """What was used.

    Attributes:
        requests: That were accepted, failed ones too; a retry that got the answer of an
            earlier try is that try.
        refusals: Requests that were refused.
        failures: Accepted ones that ended in an error.
        prompt_tokens: Cached ones too.
        slot_s: Seconds of slots.
    """

    requests: int = 0
    refusals: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    slot_s: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: "Counts") -> None:
        self.requests += other.requests
        self.refusals += other.refusals
        self.failures += other.failures
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens
        self.slot_s += other.slot_s


class Key(NamedTuple):
    """What is counted apart; a tuple, since it is looked up for each request.

    Attributes:
        day: Of UTC, as 2026-11-22.
        caller: Its name, from the configuration.
        model: The one that ran, without `:latest`; "other" if no engine offers it.
    """

    day: str
    caller: str
    model: str


def day_of(wall_s: float) -> str:
    """The day of UTC, of seconds since the epoch."""
    return datetime.fromtimestamp(wall_s, UTC).date().isoformat()


def merge(into: dict[K, Counts], counts: Iterable[tuple[K, Counts]]) -> None:
    """Add each to what is there under the same key."""
    for key, one in counts:
        known = into.get(key)
        if known is None:
            into[key] = attrs.evolve(one)
        else:
            known.add(one)


def totals(counts: Mapping[Key, Counts], since: str, by: By) -> dict[str, Counts]:
    """From this day on, by one part of the key."""
    found: dict[str, Counts] = {}
    merge(found, ((getattr(key, by), one) for key, one in counts.items() if key.day >= since))
    return found


def counts_of(record: RequestRecord) -> Counts:
    """What one request counts as."""
    refused = record.outcome == "refused"
    charged = record.charged
    return Counts(
        requests=int(not refused),
        refusals=int(refused and record.status != CLIENT_GONE),
        failures=int(record.outcome == "failed"),
        prompt_tokens=charged.prompt,
        cached_tokens=min(cached_tokens(record), charged.prompt),
        completion_tokens=charged.completion,
        slot_s=record.service_s,
    )


def first_day(since: str, wall_s: float) -> str:
    """The first day of UTC that is meant, as 2026-11-22.

    Args:
        since: So many days with today, such as `7d`; or the day itself.

    Raises:
        ValueError: It is neither.
    """
    if match := _DAYS.fullmatch(since):
        today = datetime.fromtimestamp(wall_s, UTC).date()
        back = max(int(match[1]) - 1, 0)
        return (today - timedelta(days=back)).isoformat()
    try:
        return date.fromisoformat(since).isoformat()
    except ValueError:
        raise ValueError(
            "must be a number of days, such as 7d, or a day, such as 2026-11-22"
        ) from None


def document_of(totals: dict[str, Counts], since: str, by: By) -> dict[str, Json]:
    """What is shown, the largest first; of days the first."""

    def rank(item: tuple[str, Counts]) -> tuple[int, str]:
        name, counts = item
        return (0 if by == "day" else -counts.tokens), name

    data = [
        {"name": name, **counts_document(counts)}
        for name, counts in sorted(totals.items(), key=rank)
    ]
    return {"object": "gateway.usage", "since": since, "by": by, "data": data}


def counts_document(counts: Counts) -> dict[str, Json]:
    """The numbers of one of these."""
    return {
        "requests": counts.requests,
        "refusals": counts.refusals,
        "failures": counts.failures,
        "prompt_tokens": counts.prompt_tokens,
        "cached_tokens": counts.cached_tokens,
        "completion_tokens": counts.completion_tokens,
        "slot_seconds": round(counts.slot_s, 3),
    }
