"""How much each caller may still ask for.

What is limited by the minute is measured by a leaky bucket as a meter, which is the generic
cell rate algorithm with a burst of one minute's worth (ITU-T I.371, annex A; RFC 2697 has the
same as a token bucket): what was used flows off evenly, and the limit is how much may be in
it. So in any t seconds a caller has at most limit × (1 + t / 60), the time to come back is
exact, and after a burst clients come back one by one and not all at the turn of a minute.
OpenAI's headers mean the same: of 60 requests a minute 59 are left after one, and that one is
there again after 1 s.

A day is a sum that begins anew at midnight UTC, since that is what people can be told.

Tokens are reserved when a request is let in, as many as are expected of it, and settled when
it has ended. One that is larger than a whole limit is let in when nothing of the limit is
used; those after it wait until it is paid off. Else it could never be let in.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import attrs

from gateway.core.errors import (
    RateLimited,
    TooManyAtOnce,
    TooManyTokens,
    TooManyTokensToday,
)
from gateway.core.ticket import Caller, CallerLimits, RequestRecord, Ticket

MINUTE_S: Final = 60.0

TINY: Final = 1e-6
"""Of a request or a token: what sums of fractions are wrong by."""

OVERDUE_S: Final = 1.0
"""When to come back to one's own request that should have ended by now."""


class Day(Protocol):
    """The day of UTC that it is."""

    def tokens(self, caller: str) -> int:
        """Of prompts and answers that this caller has had today."""
        ...

    def left_s(self) -> float:
        """Until the next one begins."""
        ...


@attrs.frozen
class Allowance:
    """One limit of a caller, as it stands.

    Attributes:
        reset_s: Until all of it is there again.
    """

    limit: int
    left: int
    reset_s: float = 0.0


@attrs.define(eq=False)
class Meter:
    """What was used of a limit by the minute.

    Attributes:
        used: In the bucket, as it was `as_of`.
    """

    used: float = 0.0
    as_of: float = 0.0

    def used_at(self, limit: int, now: float) -> float:
        """What has not flowed off by now."""
        return max(0.0, self.used - max(0.0, now - self.as_of) * limit / MINUTE_S)

    def add(self, units: float, limit: int, now: float) -> None:
        """Use so many; give them back if below zero."""
        self.used = max(0.0, self.used_at(limit, now) + units)
        self.as_of = now

    def wait_s(self, units: float, limit: int, now: float) -> float:
        """Until so many fit in; 0.0 when they do."""
        used = self.used_at(limit, now)
        over = min(used, used + units - limit)
        return over * MINUTE_S / limit if over > TINY else 0.0

    def allowance(self, limit: int, now: float) -> Allowance:
        used = self.used_at(limit, now)
        return Allowance(limit, max(0, int(limit - used + TINY)), used * MINUTE_S / limit)


@attrs.frozen
class _Hold:
    """What a request that was let in has taken.

    Attributes:
        tokens: As many as were expected.
        ends_at: When it should have ended.
    """

    tokens: int
    ends_at: float


@attrs.define(eq=False)
class _Account:
    """One caller's. What is held, is held until `Limits.settle`."""

    requests: Meter = attrs.field(factory=Meter)
    tokens: Meter = attrs.field(factory=Meter)
    held: dict[Ticket, _Hold] = attrs.field(factory=dict)

    @property
    def reserved(self) -> int:
        return sum(hold.tokens for hold in self.held.values())


class Limits:
    """Owns what every caller with limits has used of them.

    The limits themselves come with each request's caller, so that new ones hold from the
    next request on, and what was used by then counts.
    """

    def __init__(self, day: Day) -> None:
        self._day = day
        self._accounts: dict[str, _Account] = {}

    def refusal(self, ticket: Ticket, now: float) -> RateLimited | None:
        """What speaks against a request that is priced; what lasts longest, where several do.

        Who comes back when it says, and has asked for nothing else meanwhile, is let in.
        """
        limits = ticket.caller.limits
        if not limits.counted:
            return None
        account = self._accounts.get(ticket.caller.name) or _Account()
        found = list(self._refusals(account, limits, ticket, now))
        return max(found, key=lambda error: error.retry_after_s or 0.0, default=None)

    def take(self, ticket: Ticket, now: float) -> None:
        """It was let in. Whoever calls this owes `settle`."""
        limits = ticket.caller.limits
        if not limits.counted:
            return
        account = self._accounts.setdefault(ticket.caller.name, _Account())
        assert ticket not in account.held
        tokens = _expected(ticket)
        ends_at = now + ticket.expected_wait_s + ticket.cost.service_s
        account.held[ticket] = _Hold(tokens, ends_at)
        if limits.requests_per_minute:
            account.requests.add(1, limits.requests_per_minute, now)
        if limits.tokens_per_minute:
            account.tokens.add(tokens, limits.tokens_per_minute, now)

    def settle(self, ticket: Ticket, record: RequestRecord, now: float) -> None:
        """It has ended, as told; the tokens of the day are told by the same record.

        One that failed before its answer began counts as never sent.
        """
        account = self._accounts.get(ticket.caller.name)
        hold = None if account is None else account.held.pop(ticket, None)
        if account is None or hold is None:
            return
        limits = ticket.caller.limits
        if limits.tokens_per_minute:
            tokens = record.charged.prompt + record.charged.completion
            account.tokens.add(tokens - hold.tokens, limits.tokens_per_minute, now)
        if limits.requests_per_minute and _in_vain(record):
            account.requests.add(-1, limits.requests_per_minute, now)

    def standing(self, caller: Caller, now: float) -> Mapping[str, Allowance]:
        """Every limit that the caller has, by its name in the configuration."""
        limits = caller.limits
        account = self._accounts.get(caller.name) or _Account()
        found: dict[str, Allowance] = {}
        if limit := limits.requests_per_minute:
            found["requests_per_minute"] = account.requests.allowance(limit, now)
        if limit := limits.tokens_per_minute:
            found["tokens_per_minute"] = account.tokens.allowance(limit, now)
        if limit := limits.tokens_per_day:
            used = self._day.tokens(caller.name) + account.reserved
            found["tokens_per_day"] = Allowance(limit, max(0, limit - used), self._day.left_s())
        if limit := limits.requests_at_once:
            found["requests_at_once"] = Allowance(limit, max(0, limit - len(account.held)))
        return found

    def _refusals(
        self, account: _Account, limits: CallerLimits, ticket: Ticket, now: float
    ) -> Iterator[RateLimited]:
        tokens = _expected(ticket)
        if limit := limits.requests_per_minute:
            wait_s = account.requests.wait_s(1, limit, now)
            if wait_s > 0.0:
                yield RateLimited(_said(f"{limit} requests a minute", wait_s), retry_after_s=wait_s)
        if limit := limits.tokens_per_minute:
            wait_s = account.tokens.wait_s(tokens, limit, now)
            if wait_s > 0.0:
                yield TooManyTokens(
                    _said(f"{limit} tokens a minute", wait_s, tokens), retry_after_s=wait_s
                )
        if limit := limits.tokens_per_day:
            used = self._day.tokens(ticket.caller.name) + account.reserved
            if used and used + tokens > limit:
                wait_s = self._day.left_s()
                yield TooManyTokensToday(
                    _said(f"{limit} tokens a day (UTC)", wait_s, tokens), retry_after_s=wait_s
                )
        limit = limits.requests_at_once
        if limit and len(account.held) >= limit:
            soonest_s = min(hold.ends_at for hold in account.held.values()) - now
            wait_s = soonest_s if soonest_s > 0.0 else OVERDUE_S
            yield TooManyAtOnce(_said(f"{limit} requests at once", wait_s), retry_after_s=wait_s)


def _expected(ticket: Ticket) -> int:
    return ticket.cost.prompt_tokens + ticket.cost.answer_tokens


def _in_vain(record: RequestRecord) -> bool:
    return record.outcome == "failed" and record.first_token_s is None


def _said(limit: str, wait_s: float, tokens: int | None = None) -> str:
    needs = "" if tokens is None else f" This request needs about {tokens}."
    return f"This key may have {limit}.{needs} Come back in {_words(wait_s)}."


def _words(wait_s: float) -> str:
    """A time for people."""
    if wait_s < 2 * MINUTE_S:
        return f"{wait_s:.1f} s"
    minutes = math.ceil(wait_s / MINUTE_S)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
