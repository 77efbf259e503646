"""Saying a thing a few times and counting it after that."""

from collections.abc import Hashable
from typing import Final

import attrs

WINDOW_S: Final = 1.0


@attrs.define
class _Window:
    began_at: float
    said: int = 0
    kept_quiet: int = 0


class Seldom:
    """Lets `burst` of a kind through in a second. Pure.

    Of every kind, asked = let through + kept quiet, and each one kept quiet is
    in exactly one answer of `admit` later on, unless its kind is pushed out.

    Args:
        kinds_max: Kinds that are known at once; the oldest goes for a new one.
    """

    def __init__(self, burst: int = 5, kinds_max: int = 256) -> None:
        self._burst = burst
        self._kinds_max = kinds_max
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, kind: Hashable, now: float) -> int | None:
        """How many were kept quiet since the last that was let through; None: keep quiet.

        Args:
            now: Clock seconds.
        """
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= self._kinds_max:
                del self._windows[next(iter(self._windows))]
            window = self._windows[kind] = _Window(now)
        elif now - window.began_at >= WINDOW_S:
            window.began_at, window.said = now, 0
        if window.said == self._burst:
            window.kept_quiet += 1
            return None
        window.said += 1
        quiet, window.kept_quiet = window.kept_quiet, 0
        return quiet
