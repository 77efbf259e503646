"""Numbers that engines tell, which may be missing, strings, negative or absurd: never an error."""

from typing import Any, Final

_WHOLE_MAX: Final = 2**53
"""Beyond this a JSON number is no count of anything."""


def natural(value: Any) -> int | None:
    """A count, if it is one."""
    return value if type(value) is int and 0 <= value <= _WHOLE_MAX else None


def seconds(value: Any, unit_s: float) -> float | None:
    """A length told in units of `unit_s`, if it is one."""
    if type(value) in (int, float) and 0 <= value <= _WHOLE_MAX:
        return float(value) * unit_s
    return None
