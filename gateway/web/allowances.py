"""What is left of a caller's limits, as headers of every answer to it.

    x-ratelimit-limit-requests: 60         anthropic-ratelimit-requests-limit: 60
    x-ratelimit-remaining-requests: 59     anthropic-ratelimit-requests-remaining: 59
    x-ratelimit-reset-requests: 1s         anthropic-ratelimit-requests-reset: 2026-11-22T10:00:01Z

And the same of tokens: of those limits that a caller has the one that leaves it the fewest.
A reset is when all of it is there again: a length to OpenAI's clients, in the words of Go's
durations, and a moment (RFC 3339) to Anthropic's, who are told in both.

Source: platform.openai.com, "Rate limits"; docs.anthropic.com, "Rate limits", response headers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.admission.limits import Allowance, Limits
from gateway.core.clock import Clock
from gateway.core.ticket import Caller

Headers = Sequence[tuple[str, str]]

TellAllowances = Callable[[float], Headers]
"""Of one request, by clock seconds."""

_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("requests_per_minute",),
    "tokens": ("tokens_per_minute", "tokens_per_day"),
}

_ANTHROPIC: Final = "/v1/messages"


class Allowances:
    """Says how each caller stands."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock

    def teller(self, caller: Caller, path: str) -> TellAllowances | None:
        """What tells the caller how it stands, on an answer to this path; None: it has no limits.

        It is asked when the answer begins, and so with what the request itself has taken.
        """
        if not caller.limits.counted:
            return None
        to_anthropic = path.startswith(_ANTHROPIC)

        def tell(now: float) -> Headers:
            allowances = tightest(self._limits.standing(caller, now))
            told = [header for what, one in allowances for header in for_openai(what, one)]
            if to_anthropic:
                wall_s = self._clock.wall()
                told += [
                    header
                    for what, one in allowances
                    for header in for_anthropic(what, one, wall_s)
                ]
            return told

        return tell


def tightest(standing: Mapping[str, Allowance]) -> list[tuple[str, Allowance]]:
    """What clients are told of: of the limits on requests and on tokens the one that is nearest."""
    found: list[tuple[str, Allowance]] = []
    for what, names in _OF.items():
        limits = [standing[name] for name in names if name in standing]
        if limits:
            found.append((what, min(limits, key=lambda allowance: allowance.left)))
    return found


def for_openai(what: str, allowance: Allowance) -> Iterator[tuple[str, str]]:
    yield f"x-ratelimit-limit-{what}", str(allowance.limit)
    yield f"x-ratelimit-remaining-{what}", str(allowance.left)
    yield f"x-ratelimit-reset-{what}", duration(allowance.reset_s)


def for_anthropic(what: str, allowance: Allowance, wall_s: float) -> Iterator[tuple[str, str]]:
    reset = datetime.fromtimestamp(math.ceil(wall_s + allowance.reset_s), UTC)
    yield f"anthropic-ratelimit-{what}-limit", str(allowance.limit)
    yield f"anthropic-ratelimit-{what}-remaining", str(allowance.left)
    yield f"anthropic-ratelimit-{what}-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """As Go writes one: 0s, 120ms, 1.2s, 6m0s, 3h0m0s. Rounded up to the millisecond."""
    ms = math.ceil(max(0.0, seconds) * 1000.0 - 1e-6)
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    text = f"{ms / 1000:.15g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
