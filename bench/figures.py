"""The arithmetic of the benches: what was read from /proc, and what is made of it. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final

import attrs

KIB: Final = 1024
MIB: Final = 1024 * 1024
NS_PER_S: Final = 1e9

# A line of /metrics that is a sample; the value follows the last blank.
_SAMPLE: Final = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*(?:\{.*\})?) \S+(?: \d+)?$")
TCP_ESTABLISHED: Final = "01"


@attrs.frozen(kw_only=True)
class Figure:
    """One line of a report.

    Attributes:
        goal: What was promised, in words; "" where nothing was.
        measured: What came out, in words.
        passed: None where there is no goal, or where it could not be measured here.
        values: The numbers behind `measured`, for the JSON report.
    """

    name: str
    goal: str
    measured: str
    passed: bool | None
    values: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def verdict(self) -> str:
        if self.passed is None:
            return "-"
        return "PASS" if self.passed else "MISS"


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank); NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    # The rank is rounded up; the epsilon keeps 0.99 * 100 from becoming 100.
    rank = int(share * len(ordered) + 1 - 1e-9)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours ÷ theirs.

    Both sides of each ratio are of one round, seconds apart: what the machine
    did to one it did to the other, and a drift over the run cancels out.
    """
    return median(
        our / their if their else float("nan") for our, their in zip(ours, theirs, strict=True)
    )


def median_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours − theirs, both of the same round."""
    return median(our - their for our, their in zip(ours, theirs, strict=True))


def ratio(
    name: str, ours: Sequence[float], theirs: Sequence[float], *, most: float, beside: str
) -> Figure:
    """How much more ours costs than theirs, of the same rounds, and whether it is `most` at most.

    Args:
        beside: What theirs is, for the goal.
    """
    value = median_ratio(ours, theirs)
    # What disturbs a machine only ever adds: the best rounds are nearest to the truth
    # on one that others use.
    best = min(ours) / min(theirs)
    return Figure(
        name=name,
        goal=f"≤ {most:.2f}× {beside}",
        measured=f"{value:.2f}× (best rounds {best:.2f}×)",
        passed=value <= most,
        values={"ratio": value, "best_ratio": best},
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of y over x; 0 where x never changes."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def cpu_s_in_schedstat(text: str) -> float:
    """Seconds that a thread ran, of its /proc/PID/task/TID/schedstat.

    The first number is the time on a CPU in nanoseconds (Linux,
    Documentation/scheduler/sched-stats.rst); /proc/PID/stat counts in ticks of
    10 ms, too coarse for a quarter of a second.
    """
    return int(text.split(maxsplit=1)[0]) / NS_PER_S


def cpu_s_in_stat(text: str, *, ticks_per_s: int) -> float:
    """Seconds of utime + stime in /proc/PID/stat (proc(5): fields 14 and 15)."""
    # The command's name, in parentheses, may itself hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_s


def bytes_in_status(text: str, field: str) -> int:
    """A size of /proc/PID/status, such as VmRSS or VmHWM, which stand there in kB."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIB
    raise ValueError(f"no {field} in /proc/PID/status")


def established_in_tcp(text: str, port: int) -> int:
    """Connections that the owner of a listening port still holds open, of /proc/net/tcp."""
    suffix = f":{port:04X}"
    return sum(
        1
        for fields in map(str.split, text.splitlines()[1:])
        if fields[1].endswith(suffix) and fields[3] == TCP_ESTABLISHED
    )


def series_in_metrics(text: str) -> set[str]:
    """The time series of a Prometheus exposition: names with their labels."""
    return {match[1] for line in text.splitlines() if (match := _SAMPLE.match(line))}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as text; the first column stands left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def report(figures: Sequence[Figure]) -> str:
    """Figures, one on a line: name, goal, measured, verdict."""
    rows = [(one.name, one.goal, one.measured, one.verdict) for one in figures]
    return table([("figure", "goal", "measured", ""), *rows])
