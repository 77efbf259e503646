"""What a run came to, in numbers. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.figures import quantile
from bench.retries import told_s
from bench.simulation.clients import Story
from bench.simulation.policies import Attempt, End
from bench.simulation.world import History


def ends(stories: Iterable[Story]) -> Counter[End]:
    """How requests ended, by their last try."""
    return Counter(story.last.end for story in stories if story.last.end is not None)


def in_time(stories: Iterable[Story]) -> int:
    return sum(story.last.in_time for story in stories)


def accepted(stories: Iterable[Story]) -> list[Attempt]:
    """The tries that were let in."""
    return [attempt for story in stories for attempt in story.attempts if attempt.accepted]


def missed(stories: Iterable[Story], *, after: int = 0) -> int:
    """Tries that were let in and not answered in time, not even in part.

    Args:
        after: So many of the first tries to be let in don't count.
    """
    let_in = sorted(accepted(stories), key=lambda attempt: attempt.sent_at)[after:]
    return sum(
        attempt.end is End.TIMED_OUT or (attempt.end is End.WHOLE and not attempt.in_time)
        for attempt in let_in
    )


def cut(stories: Iterable[Story], *, after: int = 0) -> int:
    """As `missed`: those that were answered in part, since their time was over."""
    let_in = sorted(accepted(stories), key=lambda attempt: attempt.sent_at)[after:]
    return sum(attempt.end is End.CUT for attempt in let_in)


def goodput(history: History, *, until: float, since: float = 0.0) -> float:
    """The part of the slots' time that went into answers that came in time, whole."""
    useful_s = sum(
        _overlap(story.last, since, until) for story in history.stories if story.last.in_time
    )
    slots = history.world.setup.slots * len(history.boxes)
    return useful_s / ((until - since) * slots)


def waits(attempts: Iterable[Attempt]) -> list[float]:
    """Until their slots, of those who got one."""
    return [attempt.wait_s for attempt in attempts if attempt.slot_at is not None]


def slot_seconds(stories: Iterable[Story], *, since: float, until: float) -> dict[str, float]:
    """By caller, of all slots within that time."""
    found: dict[str, float] = {}
    for attempt in accepted(stories):
        name = attempt.ask.caller.name
        found[name] = found.get(name, 0.0) + _overlap(attempt, since, until)
    return found


def wait_p95(stories: Iterable[Story]) -> float:
    return quantile(waits(accepted(stories)), 0.95)


def returns_told(stories: Iterable[Story]) -> list[float]:
    """The moments at which refused clients were told to come back."""
    found = []
    for story in stories:
        for attempt in story.attempts:
            if attempt.end is End.REFUSED:
                told = told_s(attempt.headers, wall_s=0.0)
                if told is not None and attempt.ended_at is not None:
                    found.append(attempt.ended_at + told)
    return found


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median of several runs, and the ends of their range."""
    ordered = sorted(values)
    middle = quantile(ordered, 0.5)
    if len(ordered) < 2 or math.isclose(ordered[0], ordered[-1]):
        return f"{middle:{form}}"
    return f"{middle:{form}} ({ordered[0]:{form}}-{ordered[-1]:{form}})"


def _overlap(attempt: Attempt, since: float, until: float) -> float:
    """Of its time in a slot."""
    if attempt.slot_at is None or attempt.ended_at is None:
        return 0.0
    return max(0.0, min(attempt.ended_at, until) - max(attempt.slot_at, since))
