"""What experiments found, as Markdown: one row a case, ours beside the others. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from bench.trials.cases import Experiment
from bench.trials.measures import MEASURES

GATEWAY: Final = "gateway"
DIRECT: Final = "direct"
PREDECESSOR: Final = "predecessor"
SOURCES: Final = (GATEWAY, DIRECT, PREDECESSOR)


@attrs.frozen(kw_only=True)
class Row:
    """A case, and what each source has for it, by key of a measure."""

    label: str
    at: float | None = None
    series: str = ""
    found: Mapping[str, Mapping[str, float]]

    def value(self, source: str, measure: str) -> float:
        """NaN where there is none."""
        return self.found.get(source, {}).get(measure, math.nan)


@attrs.frozen(kw_only=True)
class Finding:
    """An experiment that was run."""

    experiment: Experiment
    rows: tuple[Row, ...]

    def sources(self, measure: str) -> tuple[str, ...]:
        """Those that have a value of that measure in any case."""
        return tuple(
            source
            for source in SOURCES
            if any(not math.isnan(row.value(source, measure)) for row in self.rows)
        )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head, the first column stands left."""
    head, *body = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def table(finding: Finding) -> str:
    columns = [
        (MEASURES[measure], source)
        for measure in finding.experiment.measures
        for source in finding.sources(measure)
    ]
    head = ["", *(f"{measure.heading}: {source}" for measure, source in columns)]
    body = [
        [
            row.label,
            *(_written(row.value(source, one.key), one.form) for one, source in columns),
        ]
        for row in finding.rows
    ]
    return markdown([head, *body])


def document(findings: Sequence[Finding], *, heading: str, notes: Sequence[str]) -> str:
    """All of it, with the plots that lie beside it."""
    parts = [f"# {heading}", "\n".join(f"- {note}" for note in notes)]
    for finding in findings:
        experiment = finding.experiment
        parts += [
            f"## {experiment.title}",
            table(finding),
            f"![{experiment.title}]({experiment.name}.svg)",
        ]
    return "\n\n".join(parts) + "\n"


def _written(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"
