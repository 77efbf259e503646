"""A virtual clock: what is due happens in its order, and time jumps from one to the next."""

import heapq
import itertools
from collections.abc import Callable


class Event:
    """Something that will happen, unless it is cancelled before."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Events:
    """All that will happen; owns `now`, in seconds from 0.

    Equal moments keep the order in which they were asked for, so that a run is the
    same each time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> Event:
        """Call it at that moment; a moment that has passed is now."""
        event = Event(call)
        heapq.heappush(self._heap, (max(when, self.now), next(self._numbers), event))
        return event

    def run(self, *, settled: Callable[[], None] | None = None) -> None:
        """Let everything happen, until nothing is left to happen.

        Args:
            settled: Called after each thing that happened.
        """
        heap = self._heap
        while heap:
            when, _, event = heapq.heappop(heap)
            call = event.call
            if call is None:
                continue
            self.now = when
            call()
            if settled is not None:
                settled()
