"""What callers may still ask for, on values and a time that the test sets."""

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.limits import MINUTE_S, OVERDUE_S, Allowance, Limits, Meter
from gateway.core.errors import (
    RateLimited,
    TooManyAtOnce,
    TooManyTokens,
    TooManyTokensToday,
)
from gateway.core.messages import Usage
from gateway.core.ticket import Caller, CallerLimits, Cost, Outcome, RequestRecord, Ticket
from tests.engines import request

NOW = 1000.0


@attrs.define
class Today:
    """A day of which the test says how much of it was used."""

    used: int = 0
    ends_in_s: float = 3600.0

    def tokens(self, caller: str) -> int:
        return self.used

    def left_s(self) -> float:
        return self.ends_in_s


def ticket(
    limits: CallerLimits, *, prompt: int = 0, answer: int = 0, service_s: float = 1.0
) -> Ticket:
    return Ticket(
        request_id="r",
        number=0,
        caller=Caller(name="one", limits=limits),
        request=request(),
        arrived_at=NOW,
        deadline_at=NOW + 60.0,
        cost=Cost(prefill_s=service_s, prompt_tokens=prompt, answer_tokens=answer),
    )


def ended(prompt: int = 0, completion: int = 0, outcome: Outcome = "completed") -> RequestRecord:
    return RequestRecord(
        request_id="r",
        caller="one",
        model="m",
        stream=False,
        outcome=outcome,
        status=200,
        first_token_s=None if outcome == "failed" else 0.1,
        charged=Usage(prompt=prompt, completion=completion),
    )


def refused(limits: Limits, wanted: Ticket, now: float = NOW) -> RateLimited:
    error = limits.refusal(wanted, now)
    assert error is not None
    return error


def test_who_has_no_limits_is_never_refused_and_leaves_nothing_behind() -> None:
    limits = Limits(Today(used=10**9))
    for _ in range(100):
        one = ticket(CallerLimits(max_tokens=5), prompt=10**6)
        assert limits.refusal(one, NOW) is None
        limits.take(one, NOW)
    assert limits.standing(one.caller, NOW) == {}
    assert limits._accounts == {}


# --- Requests by the minute -----------------------------------------------------------


def test_a_minutes_worth_may_come_at_once_and_then_one_after_the_other() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(requests_per_minute=30)
    for _ in range(30):
        assert limits.refusal(ticket(per_minute), NOW) is None
        limits.take(ticket(per_minute), NOW)
    error = refused(limits, ticket(per_minute))
    assert (error.status, error.code, error.reason) == (
        429,
        "rate_limit_exceeded",
        "requests_per_minute",
    )
    assert error.retry_after_s == pytest.approx(2.0)
    assert limits.refusal(ticket(per_minute), NOW + 2.0) is None
    limits.take(ticket(per_minute), NOW + 2.0)
    assert refused(limits, ticket(per_minute), NOW + 2.0).retry_after_s == pytest.approx(2.0)


def test_a_refused_request_has_used_nothing() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(requests_per_minute=1)
    limits.take(ticket(per_minute), NOW)
    for second in range(59):
        refused(limits, ticket(per_minute), NOW + second)
    assert limits.refusal(ticket(per_minute), NOW + MINUTE_S) is None


def test_of_sixty_requests_59_are_left_after_one_and_it_is_back_in_a_second() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(requests_per_minute=60)
    one = ticket(per_minute)
    limits.take(one, NOW)
    [(name, allowance)] = limits.standing(one.caller, NOW).items()
    assert (name, allowance.limit, allowance.left) == ("requests_per_minute", 60, 59)
    assert allowance.reset_s == pytest.approx(1.0)
    assert limits.standing(one.caller, NOW + 1.0)[name] == Allowance(60, 60)


def test_a_request_that_failed_before_its_answer_began_counts_as_never_sent() -> None:
    limits = Limits(Today())
    both = CallerLimits(requests_per_minute=1, tokens_per_minute=10)
    one = ticket(both, prompt=5, answer=5)
    limits.take(one, NOW)
    refused(limits, ticket(both), NOW)
    limits.settle(one, ended(outcome="failed"), NOW)
    assert limits.refusal(ticket(both, prompt=5, answer=5), NOW) is None


def test_one_that_was_cancelled_has_been_sent() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(requests_per_minute=1)
    one = ticket(per_minute)
    limits.take(one, NOW)
    limits.settle(one, ended(outcome="cancelled"), NOW)
    refused(limits, ticket(per_minute))


# --- Tokens ---------------------------------------------------------------------------


def test_tokens_are_reserved_as_expected_and_settled_as_they_were() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(tokens_per_minute=600)
    one = ticket(per_minute, prompt=100, answer=400)
    limits.take(one, NOW)
    assert limits.standing(one.caller, NOW)["tokens_per_minute"].left == 100
    error = refused(limits, ticket(per_minute, prompt=150, answer=50))
    assert isinstance(error, TooManyTokens)
    assert error.reason == "tokens_per_minute"
    assert error.retry_after_s == pytest.approx(10.0)
    limits.settle(one, ended(prompt=90, completion=10), NOW)
    assert limits.standing(one.caller, NOW)["tokens_per_minute"].left == 500


def test_what_was_more_than_expected_is_paid_off_by_the_next() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(tokens_per_minute=60)
    one = ticket(per_minute, prompt=10)
    limits.take(one, NOW)
    limits.settle(one, ended(prompt=10, completion=80), NOW)
    assert limits.standing(one.caller, NOW)["tokens_per_minute"] == Allowance(60, 0, 90.0)
    assert refused(limits, ticket(per_minute, prompt=10)).retry_after_s == pytest.approx(40.0)


def test_what_is_larger_than_the_whole_limit_is_let_in_when_all_of_it_is_left() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(tokens_per_minute=60, tokens_per_day=50)
    large = ticket(per_minute, prompt=120)
    assert limits.refusal(large, NOW) is None
    limits.take(large, NOW)
    again = ticket(attrs.evolve(per_minute, tokens_per_day=0), prompt=120)
    assert refused(limits, again).retry_after_s == pytest.approx(120.0)


def test_a_day_is_over_when_its_tokens_are_and_says_when_the_next_begins() -> None:
    today = Today(used=90, ends_in_s=7200.0)
    limits, per_day = Limits(today), CallerLimits(tokens_per_day=100)
    assert limits.refusal(ticket(per_day, prompt=10), NOW) is None
    error = refused(limits, ticket(per_day, prompt=11))
    assert isinstance(error, TooManyTokensToday)
    assert (error.reason, error.retry_after_s) == ("tokens_per_day", 7200.0)
    assert "120 min" not in error.message
    assert "2 h 0 min" in error.message


def test_what_runs_counts_towards_the_day_as_it_is_expected() -> None:
    today = Today(used=50)
    limits, per_day = Limits(today), CallerLimits(tokens_per_day=100)
    one = ticket(per_day, prompt=20, answer=20)
    limits.take(one, NOW)
    assert limits.standing(one.caller, NOW)["tokens_per_day"] == Allowance(100, 10, 3600.0)
    refused(limits, ticket(per_day, prompt=11))
    today.used += 5
    limits.settle(one, ended(prompt=5), NOW)
    assert limits.standing(one.caller, NOW)["tokens_per_day"].left == 45


# --- At once --------------------------------------------------------------------------


def test_as_many_as_may_run_or_wait_at_once_and_the_next_comes_when_one_should_have_ended() -> None:
    limits, at_once = Limits(Today()), CallerLimits(requests_at_once=2)
    slow, fast = ticket(at_once, service_s=9.0), ticket(at_once, service_s=4.0)
    limits.take(slow, NOW)
    limits.take(fast, NOW)
    error = refused(limits, ticket(at_once), NOW + 1.0)
    assert isinstance(error, TooManyAtOnce)
    assert (error.reason, error.retry_after_s) == ("requests_at_once", 3.0)
    assert refused(limits, ticket(at_once), NOW + 20.0).retry_after_s == OVERDUE_S
    limits.settle(fast, ended(), NOW + 20.0)
    assert limits.refusal(ticket(at_once), NOW + 20.0) is None


def test_settling_twice_gives_back_once() -> None:
    limits, at_once = Limits(Today()), CallerLimits(requests_at_once=1, tokens_per_minute=100)
    one, two = ticket(at_once, prompt=40), ticket(at_once, prompt=40)
    limits.take(one, NOW)
    limits.settle(one, ended(), NOW)
    limits.take(two, NOW)
    limits.settle(one, ended(), NOW)
    assert limits.standing(two.caller, NOW)["requests_at_once"].left == 0
    assert limits.standing(two.caller, NOW)["tokens_per_minute"].left == 60


# --- Together -------------------------------------------------------------------------


def test_of_several_limits_the_one_is_told_that_lasts_longest() -> None:
    limits = Limits(Today())
    both = CallerLimits(requests_per_minute=60, tokens_per_minute=60)
    for _ in range(60):
        limits.take(ticket(both, prompt=1), NOW)
    assert isinstance(refused(limits, ticket(both, prompt=10)), TooManyTokens)


def test_new_limits_hold_from_the_next_request_on_and_what_was_used_counts() -> None:
    limits = Limits(Today())
    for _ in range(5):
        limits.take(ticket(CallerLimits(requests_per_minute=100)), NOW)
    refused(limits, ticket(CallerLimits(requests_per_minute=5)))
    assert limits.refusal(ticket(CallerLimits(requests_per_minute=6)), NOW) is None
    assert limits.refusal(ticket(CallerLimits()), NOW) is None


def test_callers_have_limits_of_their_own() -> None:
    limits, per_minute = Limits(Today()), CallerLimits(requests_per_minute=1)
    limits.take(ticket(per_minute), NOW)
    other = attrs.evolve(ticket(per_minute), caller=Caller(name="two", limits=per_minute))
    assert limits.refusal(other, NOW) is None


GAPS = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.integers(1, 300), st.integers(1, 5)), max_size=40
)


@settings(max_examples=50, deadline=None)
@given(limit=st.integers(1, 500), moves=GAPS)
def test_in_any_stretch_of_time_no_more_is_let_in_than_the_limit_and_what_flowed_off(
    limit: int, moves: Sequence[tuple[float, int, int]]
) -> None:
    meter, now = Meter(), NOW
    let_in: list[tuple[float, int]] = []
    for gap_s, units, tries in moves:
        now += gap_s
        for _ in range(tries):
            units = min(units, limit)
            if meter.wait_s(units, limit, now) == 0.0:
                meter.add(units, limit, now)
                let_in.append((now, units))
    for first, (begin, _) in enumerate(let_in):
        total = 0
        for end, units in let_in[first:]:
            total += units
            assert total <= limit * (1.0 + (end - begin) / MINUTE_S) + 1e-3


LIMITS = st.builds(
    CallerLimits,
    requests_per_minute=st.sampled_from([0, 1, 7, 60]),
    tokens_per_minute=st.sampled_from([0, 1, 50, 999]),
    requests_at_once=st.sampled_from([0, 1, 3]),
)
HISTORY = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "end", "wait"]), st.integers(0, 200)), max_size=60
)


@settings(deadline=None)
@given(limited=LIMITS, moves=HISTORY)
def test_whoever_comes_back_as_told_is_let_in_and_what_is_held_is_given_back(
    limited: CallerLimits, moves: Sequence[tuple[str, int]]
) -> None:
    limits, now = Limits(Today()), NOW
    running: list[Ticket] = []
    for move, number in moves:
        match move:
            case "ask":
                wanted = ticket(limited, prompt=number, service_s=1.0 + number)
                error = limits.refusal(wanted, now)
                if error is None:
                    limits.take(wanted, now)
                    running.append(wanted)
                else:
                    assert error.retry_after_s is not None
                    assert error.retry_after_s > 0.0
                    back = limits.refusal(wanted, now + error.retry_after_s)
                    # What is told of one's own requests is when they should have ended.
                    assert back is None or isinstance(back, TooManyAtOnce)
            case "end" if running:
                outcome: Outcome = "failed" if number % 3 == 0 else "completed"
                one = running.pop(number % len(running))
                limits.settle(one, ended(prompt=number, outcome=outcome), now)
            case "wait":
                now += number / 10.0
        if limited.requests_at_once:
            assert len(running) <= limited.requests_at_once
    for one in running:
        limits.settle(one, ended(), now)
    standing = limits.standing(ticket(limited).caller, now + 1e6)
    assert all(one.left == one.limit and one.reset_s == 0.0 for one in standing.values())
