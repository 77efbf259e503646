from datetime import UTC, datetime

import pytest

from gateway.cli.expiry import ExpiryError, moment_words, parse_expiry

NOW = datetime(2026, 11, 22, 10, 30, 15, 999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", "2026-12-22T10:30:15Z"),
        ("12h", "2026-11-22T22:30:15Z"),
        ("2w", "2026-12-06T10:30:15Z"),
        ("2027-01-31", "2027-01-31T00:00:00Z"),
        ("2027-01-31T18:00:00Z", "2027-01-31T18:00:00Z"),
        ("2027-01-31T18:00:00+02:00", "2027-01-31T16:00:00Z"),
    ],
)
def test_a_length_a_day_and_a_moment_are_understood(text: str, moment: str) -> None:
    assert parse_expiry(text, NOW) == datetime.fromisoformat(moment)


def test_never_is_no_moment() -> None:
    assert parse_expiry("never", NOW) is None


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "0d", "-1d", "1y", "1.5d", "2027-13-01", "2027-01-31T18:00:00", "999999w", "x"],
)
def test_anything_else_says_what_would_be_right(text: str) -> None:
    with pytest.raises(ExpiryError, match="30d"):
        parse_expiry(text, NOW)


@pytest.mark.parametrize("text", ["2020-01-01", "2026-11-22T10:30:15Z"])
def test_the_past_is_refused(text: str) -> None:
    with pytest.raises(ExpiryError, match="is in the past"):
        parse_expiry(text, NOW)


def test_a_day_is_told_as_a_day_and_a_moment_to_the_minute() -> None:
    assert moment_words(datetime(2027, 1, 1, tzinfo=UTC)) == "2027-01-01"
    assert moment_words(NOW) == "2026-11-22 10:30Z"
