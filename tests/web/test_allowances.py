import pytest

from gateway.admission.limits import Allowance, Limits
from gateway.core.ticket import Caller, CallerLimits
from gateway.web.allowances import Allowances, duration, for_anthropic, tightest
from tests.fakes import ManualClock
from tests.waist import RecordedDay


def teller(limits: CallerLimits, path: str = "/v1/chat/completions") -> dict[str, str] | None:
    clock = ManualClock(now=5.0, wall=1_795_386_335.0)
    allowances = Allowances(Limits(RecordedDay([])), clock)
    tell = allowances.teller(Caller(name="one", limits=limits), path)
    return None if tell is None else dict(tell(clock.now()))


def test_who_has_no_limits_is_told_of_none() -> None:
    assert teller(CallerLimits(max_tokens=10)) is None


def test_only_limits_that_there_are_have_headers() -> None:
    assert teller(CallerLimits(requests_at_once=3)) == {}
    assert teller(CallerLimits(requests_per_minute=60)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "60",
        "x-ratelimit-reset-requests": "0s",
    }


def test_anthropics_clients_are_told_in_both_ways() -> None:
    told = teller(CallerLimits(requests_per_minute=60, tokens_per_day=100), "/v1/messages")
    assert told is not None
    assert told["x-ratelimit-limit-tokens"] == "100"
    assert told["anthropic-ratelimit-requests-limit"] == "60"
    assert told["anthropic-ratelimit-requests-reset"] == "2026-11-22T22:25:35Z"
    assert told["anthropic-ratelimit-tokens-remaining"] == "100"
    assert len(told) == 12


def test_of_two_limits_on_tokens_the_one_is_told_that_leaves_fewer() -> None:
    minute, day = Allowance(100, 50), Allowance(1000, 60)
    assert tightest({"tokens_per_minute": minute, "tokens_per_day": day}) == [("tokens", minute)]
    day = Allowance(1000, 40)
    assert tightest({"tokens_per_minute": minute, "tokens_per_day": day}) == [("tokens", day)]


def test_a_moment_is_not_before_it_is_true() -> None:
    told = dict(for_anthropic("requests", Allowance(1, 0, 1.2), 1_795_386_335.0))
    assert told["anthropic-ratelimit-requests-reset"] == "2026-11-22T22:25:37Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (-1.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (1.2, "1.2s"),
        (1.2001, "1.201s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (90.5, "1m30.5s"),
        (3 * 3600.0, "3h0m0s"),
        (86_399.0, "23h59m59s"),
    ],
)
def test_a_length_is_written_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
