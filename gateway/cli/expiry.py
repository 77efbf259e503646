"""Until when a key holds, as an operator writes it. Pure."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_LENGTH: Final = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_HOURS: Final = {"h": 1, "d": 24, "w": 24 * 7}


class ExpiryError(ValueError):
    """What would have been right."""


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """`30d`, `12h` or `4w` from now; a day or a moment of RFC 3339; `never`, which is None.

    A day is its beginning in UTC.

    Raises:
        ExpiryError: None of these, or in the past.
    """
    if text == "never":
        return None
    moment = _from_now(text, now) or _moment(text)
    if moment is None:
        raise ExpiryError(
            f"{text!r} must be a length such as 30d, 12h or 4w, a day such as 2027-01-31, a moment"
            " such as 2027-01-31T18:00:00Z, or never."
        )
    if moment <= now:
        raise ExpiryError(f"{text!r} is in the past.")
    return moment


def moment_words(moment: datetime) -> str:
    """A moment for people: its day in UTC where that is all there is to say."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d}" if utc.time() == time() else f"{utc:%Y-%m-%d %H:%M}Z"


def _from_now(text: str, now: datetime) -> datetime | None:
    found = _LENGTH.fullmatch(text)
    if found is None:
        return None
    try:
        return (now + timedelta(hours=int(found[1]) * _HOURS[found[2]])).replace(microsecond=0)
    except OverflowError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)
