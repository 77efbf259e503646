"""What could have been done by who knows the future. Pure; one slot.

Each of them is a bound for one question, and says which:

- `in_turn`: admission alone. It knows how long each request will take, and lets in,
  in the order of arrival, what will be done in time behind those it let in before.
- `most`: admission and order. Of requests that are all there, as many as any order
  can do in time.
- `fewest_changes`: order alone, between two models or two conversations. All are done,
  none waits longer than it may, the slot is never idle while somebody waits, and changes
  from one to the other as seldom as can be.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

_ROUNDING_S: Final = 1e-3


@attrs.frozen
class Job:
    """A request to who knows all of it.

    Attributes:
        due_at: When it must be done.
    """

    at: float
    service_s: float
    due_at: float = math.inf


def in_turn(jobs: Iterable[Job]) -> list[Job]:
    """First come, first served, without those that would be late."""
    done: list[Job] = []
    free_at = 0.0
    for job in sorted(jobs, key=lambda job: job.at):
        ends_at = max(free_at, job.at) + job.service_s
        if ends_at <= job.due_at:
            done.append(job)
            free_at = ends_at
    return done


def most(jobs: Iterable[Job]) -> list[Job]:
    """As many as can be done in time of jobs that are all there at 0.

    In the order of due times; when one would be late the longest so far is left out
    (Moore 1968, Hodgson's algorithm), which is optimal for their number.
    """
    kept: list[tuple[float, int, Job]] = []
    busy_s = 0.0
    for number, job in enumerate(sorted(jobs, key=lambda job: job.due_at)):
        heapq.heappush(kept, (-job.service_s, number, job))
        busy_s += job.service_s
        if busy_s > job.due_at:
            busy_s += heapq.heappop(kept)[0]
    return [job for _, _, job in kept]


def fewest_changes(
    one: Sequence[Job],
    other: Sequence[Job],
    *,
    change_s: float,
    wait_max_s: float,
    begins_with: int | None = None,
) -> int | None:
    """Changes that it takes to do all jobs of two kinds, each kind in the order of arrival.

    Never is the slot idle while a job is there. Dynamic programming over how many of
    each are done and which was last. To be late can be better than to be early, since
    then more is there to choose from, so all ways to a state are kept; they are few,
    because the moment follows from the changes, but for the time that the slot was idle.

    Args:
        change_s: What a change takes.
        wait_max_s: From a job's arrival until its slot, a change not included.
        begins_with: The kind that needs no change at first, 0 or 1; None: neither.

    Returns:
        None where no way was found.
    """
    kinds = (one, other)
    # By (done of one, done of other, last kind): the ways there, (changes, time).
    level: dict[tuple[int, int, int], set[tuple[int, float]]] = {
        (0, 0, -1 if begins_with is None else begins_with): {(0, 0.0)}
    }
    for _ in range(len(one) + len(other)):
        following: dict[tuple[int, int, int], set[tuple[int, float]]] = {}
        for (ones, others, last), ways in level.items():
            next_at = [
                kinds[kind][done].at if done < len(kinds[kind]) else math.inf
                for kind, done in ((0, ones), (1, others))
            ]
            for changed, free_at in ways:
                slot_at = max(free_at, min(next_at))
                if slot_at - min(next_at) > wait_max_s + _ROUNDING_S:
                    continue
                for kind in (0, 1):
                    if next_at[kind] <= slot_at:
                        job = kinds[kind][(ones, others)[kind]]
                        change = int(kind != last)
                        state = (ones + (kind == 0), others + (kind == 1), kind)
                        ends_at = round(slot_at + change * change_s + job.service_s, 6)
                        following.setdefault(state, set()).add((changed + change, ends_at))
        level = following
    return min((min(ways)[0] for ways in level.values()), default=None)
