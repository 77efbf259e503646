"""When a client asks again: the rule of openai-python 3.54 (`_base_client.py`). Pure."""

import email.utils
import math
import random
import sys
from collections.abc import Mapping
from typing import Final, Self

import attrs

_AGAIN: Final = (408, 409, 429)
_JITTER: Final = 0.25
_INFINITY: Final = ("inf", "+inf", "infinity", "+infinity")


@attrs.frozen(kw_only=True)
class Retries:
    """How often a client tries again, and how long it waits; the defaults are the SDK's.

    Attributes:
        count_max: After the first try.
        told_s_max: A server that says "later than this" is not asked again.
        backoff_s: The first wait where the server says nothing; doubles each time.
    """

    count_max: int = 2
    told_s_max: float = 120.0
    backoff_s: float = 0.5
    backoff_s_max: float = 8.0

    def scaled(self, scale: float) -> Self:
        """Waits for a world that goes `scale` times as fast."""
        return attrs.evolve(
            self,
            told_s_max=self.told_s_max / scale,
            backoff_s=self.backoff_s / scale,
            backoff_s_max=self.backoff_s_max / scale,
        )

    def again(self, status: int, headers: Mapping[str, str], *, wall_s: float) -> bool:
        """Whether an answer of that status is one to come back after.

        Args:
            headers: Of any case, if the mapping bears that.
            wall_s: Seconds since the epoch, for a Retry-After that is a date.
        """
        told = told_s(headers, wall_s=wall_s)
        if told is not None and math.isfinite(told) and told > self.told_s_max:
            return False
        if (should := headers.get("x-should-retry")) in ("true", "false"):
            return should == "true"
        return status in _AGAIN or status >= 500

    def wait_s(
        self,
        headers: Mapping[str, str],
        *,
        taken: int,
        dice: random.Random,
        wall_s: float = 0.0,
    ) -> float:
        """How long to wait before the try that follows; no headers: the connection broke.

        Args:
            taken: How many retries there were so far.
        """
        told = told_s(headers, wall_s=wall_s)
        if told is not None and 0.0 < told <= self.told_s_max:
            return told
        # A float's exponent ends at 1023.
        backoff_s = min(self.backoff_s * 2.0 ** min(taken, 1000), self.backoff_s_max)
        return backoff_s * (1.0 - _JITTER * dice.random())


def told_s(headers: Mapping[str, str], *, wall_s: float) -> float | None:
    """When a refusal says to come back, from now; None where it says nothing readable."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            told = float(headers[name])
        except (KeyError, ValueError):
            continue
        if told == math.inf and headers[name].strip().lower() not in _INFINITY:
            # A number too large for a float is late, and not unreadable.
            return sys.float_info.max
        return told / divisor
    try:
        moment = email.utils.parsedate_tz(headers["retry-after"])
        return None if moment is None else email.utils.mktime_tz(moment) - wall_s
    except (KeyError, ValueError, OverflowError):
        return None
