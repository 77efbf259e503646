"""A strict reader of Prometheus' text format 0.0.4, for pages that we wrote.

Source: "Text-based format" in "Exposition formats", prometheus.io/docs. It
refuses whatever a scraper may refuse, and what only a bug would write: a series
twice, a family in two places, a histogram that doesn't add up.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

import attrs

Labels = tuple[tuple[str, str], ...]

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE: Final = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$)')
_ESCAPE: Final = re.compile(r'\\(["\\n])')
_TYPES: Final = ("counter", "gauge", "histogram")


@attrs.frozen
class Page:
    """What a scraper understands.

    Attributes:
        types: Each family's type, by name.
        series: Each series' value, by name and labels (sorted by label).
    """

    types: Mapping[str, str]
    series: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        return self.series[name, tuple(sorted(labels.items()))]

    def labels(self, family: str) -> set[tuple[str, ...]]:
        """The sets of label names that a family's series have."""
        return {tuple(key for key, _ in labels) for name, labels in self.series if name == family}

    def values(self, label: str) -> set[str]:
        """All values that a label has, in any family."""
        return {value for _, labels in self.series for key, value in labels if key == label}


def read(page: bytes) -> Page:
    """Raises AssertionError, with the line, for what is not allowed."""
    text = page.decode("utf-8")
    assert text.endswith("\n"), "the last line has no end"
    types: dict[str, str] = {}
    helped: set[str] = set()
    series: dict[tuple[str, Labels], float] = {}
    family = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family, _, doc = line[len("# HELP ") :].partition(" ")
            assert family not in helped, f"a second HELP: {line!r}"
            assert doc, f"no help: {line!r}"
            assert not re.search(r"\\(?![\\n])", doc.replace(r"\\", "")), f"bad escape: {line!r}"
            helped.add(family)
        elif line.startswith("# TYPE "):
            name, kind = line[len("# TYPE ") :].split(" ")
            assert name == family, f"a TYPE without its HELP: {line!r}"
            assert name not in types, f"a second TYPE: {line!r}"
            assert kind in _TYPES, f"no type: {line!r}"
            types[name] = kind
        else:
            name, labels, value = _sample(line)
            assert name in _names(family, types[family]), f"not in family {family}: {line!r}"
            assert (name, labels) not in series, f"twice: {line!r}"
            if types[family] != "gauge":
                assert value >= 0.0, f"a negative count: {line!r}"
            series[name, labels] = value
    for name, kind in types.items():
        if kind == "histogram":
            _check_histogram(name, series)
        if kind == "counter":
            assert name.endswith("_total"), f"{name} should end in _total"
    return Page(types, series)


def _sample(line: str) -> tuple[str, Labels, float]:
    match = _SAMPLE.fullmatch(line)
    assert match, f"not a sample: {line!r}"
    name, inner, value = match.groups()
    labels: dict[str, str] = {}
    position = 0
    while inner and position < len(inner):
        label = _LABEL.match(inner, position)
        assert label, f"not a label, at {position}: {line!r}"
        assert label[1] not in labels, f"a label twice: {line!r}"
        labels[label[1]] = _ESCAPE.sub(lambda e: "\n" if e[1] == "n" else e[1], label[2])
        position = label.end()
    return name, tuple(sorted(labels.items())), float(value)


def _names(family: str, kind: str) -> tuple[str, ...]:
    if kind == "histogram":
        return (f"{family}_bucket", f"{family}_sum", f"{family}_count")
    return (family,)


def _check_histogram(family: str, series: Mapping[tuple[str, Labels], float]) -> None:
    histograms: dict[Labels, list[tuple[float, float]]] = {}
    for (name, labels), count in series.items():
        if name == f"{family}_bucket":
            others = tuple(label for label in labels if label[0] != "le")
            histograms.setdefault(others, []).append((float(dict(labels)["le"]), count))
    for labels, buckets in histograms.items():
        counts = [count for _, count in buckets]
        assert buckets == sorted(buckets), f"{family}: buckets out of order"
        assert counts == sorted(counts), f"{family}: counts fall"
        whole = (math.inf, series.get((f"{family}_count", labels)))
        assert buckets[-1] == whole, f"{family}: no +Inf"
        assert (f"{family}_sum", labels) in series, f"{family}: no sum"
