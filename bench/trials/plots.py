"""What experiments found, as SVG: lines over an axis where there is one, else bars."""

import math
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.trials.measures import MEASURES
from bench.trials.tables import DIRECT, GATEWAY, PREDECESSOR, Finding

# Told apart by who confuses red and green too (Okabe and Ito 2008).
COLOURS: Final = {GATEWAY: "#0072b2", DIRECT: "#e69f00", PREDECESSOR: "#999999"}
STYLES: Final = ("-", "--", ":")
PLOT_INCHES: Final = (6.4, 4.0)


def write(finding: Finding, path: Path) -> None:
    """One plot for each measure that the experiment wants plotted, side by side."""
    plotted = finding.experiment.plotted
    width, height = PLOT_INCHES
    # A fixed salt, and no date: the same figures make the same file.
    with matplotlib.rc_context(
        {"svg.hashsalt": "gateway", "svg.fonttype": "none", "font.size": 9.0}
    ):
        figure = Figure(figsize=(width * len(plotted), height), layout="constrained")
        figure.suptitle(finding.experiment.title)
        for index, measure in enumerate(plotted):
            axes = figure.add_subplot(1, len(plotted), index + 1)
            _draw(axes, finding, measure)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(axes: Axes, finding: Finding, measure: str) -> None:
    if any(row.at is not None for row in finding.rows):
        _lines(axes, finding, measure)
        axes.set_xlabel(finding.experiment.axis)
    else:
        _bars(axes, finding, measure)
    axes.set_ylabel(MEASURES[measure].heading)
    axes.set_ylim(bottom=0.0)
    axes.grid(axis="y", alpha=0.3)
    if finding.sources(measure):
        axes.legend()


def _lines(axes: Axes, finding: Finding, measure: str) -> None:
    many = list(dict.fromkeys(row.series for row in finding.rows))
    for source in finding.sources(measure):
        for series, style in zip(many, STYLES, strict=False):
            points = [
                (row.at, value)
                for row in finding.rows
                if row.at is not None
                and row.series == series
                and not math.isnan(value := row.value(source, measure))
            ]
            if points:
                axes.plot(
                    [at for at, _ in points],
                    [value for _, value in points],
                    style,
                    marker="o",
                    color=COLOURS[source],
                    label=", ".join(filter(None, (source, series))),
                )


def _bars(axes: Axes, finding: Finding, measure: str) -> None:
    sources = finding.sources(measure)
    width = 0.8 / max(1, len(sources))
    for index, source in enumerate(sources):
        offset = (index - (len(sources) - 1) / 2) * width
        heights = [row.value(source, measure) for row in finding.rows]
        bars = axes.bar(
            [place + offset for place in range(len(finding.rows))],
            heights,
            width,
            color=COLOURS[source],
            label=source,
        )
        form = MEASURES[measure].form
        labels = ["" if math.isnan(height) else f"{height:{form}}" for height in heights]
        axes.bar_label(bars, labels, fontsize=7.0)
    # Where the last case has no bar the axis would end before it.
    axes.set_xlim(-0.5, len(finding.rows) - 0.5)
    axes.set_xticks(range(len(finding.rows)), [row.label for row in finding.rows])
