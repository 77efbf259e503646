"""Fills a page's template with what a document says. Pure.

The same attributes are read by gateway/web/page/fill.js, so that what the server writes
and what the browser later keeps up to date is one template:

    data-text="queue.waiting"            the element's text
    data-text="uptime_s:duration"        the same, in words (FORMATS)
    data-show="queue.requests"           hidden unless there is something; !path: if there is
    data-set="title detail; href url"    attributes
    data-each="running"                  its <template> once for each entry, in which
                                         paths begin at the entry; `/` begins at the top
    data-bar="queue decode"              the entry's `queue_s` and `decode_s` as a stacked bar

Everything is put into a tree, so that nothing can be forgotten to be escaped.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from xml.etree import ElementTree  # nosec B405 # parses our own template alone
from xml.etree.ElementTree import Element  # nosec B405 # the same

from gateway.core.jsonio import Json

NOTHING: Final = "–"
"""What stands where there is no value."""

_UNITS: Final = (("min", 60.0), ("h", 3600.0), ("d", 86400.0))
_UNTIL: Final = 2.0
"""So many of the larger unit, before it is used."""


def fill(template: str, document: Json) -> str:
    """The page that a template and a document make.

    Args:
        template: Of HTML that is well-formed XML, without its doctype.
    """
    root = ElementTree.fromstring(template)  # nosec B314 # ours
    _fill(root, document, document)
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html")


def _fill(element: Element, here: Json, top: Json) -> None:
    if element.tag == "template":
        return  # For the browser, as it stands.
    if path := element.get("data-show"):
        there = bool(found(path.removeprefix("!"), here, top))
        _switch(element, "hidden", there is path.startswith("!"))
    if said := element.get("data-set"):
        for name, words in _pairs(said):
            element.set(name, words_of(words, here, top))
    if said := element.get("data-text"):
        element.text = words_of(said, here, top)
    if parts := element.get("data-bar"):
        _draw(element, parts.split(), here, longest_s(top))
    rows = element.get("data-each")
    for child in list(element):
        _fill(child, here, top)
    if rows:
        row = element.find("template")
        assert row is not None, "what is repeated needs a template"
        for entry in found(rows, here, top) or ():
            for child in row:
                made = copy.deepcopy(child)
                _fill(made, entry, top)
                element.append(made)


def found(path: str, here: Json, top: Json) -> Json:
    """What stands at a path; None where nothing does."""
    value = top if path.startswith("/") else here
    for name in path.strip("/").split("."):
        if name:
            value = value.get(name) if isinstance(value, Mapping) else None
    return value


def words_of(said: str, here: Json, top: Json) -> str:
    """What stands at `path`, or at `path:format` in words."""
    path, _, name = said.partition(":")
    value = found(path, here, top)
    if value is None or value == "":
        return NOTHING
    if name == "ago":
        value = max(0.0, found("/at", here, top) - value)
    return FORMATS[name](value)


def longest_s(top: Json) -> float:
    """The length of a whole bar: of the longest request that is shown."""
    had = [*(found("/running", top, top) or ()), *(found("/recent", top, top) or ())]
    waiting = found("/queue.requests", top, top) or ()
    lengths = [entry["total_s"] for entry in had]
    lengths += [entry["waited_s"] + entry["expected_wait_s"] for entry in waiting]
    return max(lengths, default=0.0) or 1.0


def _draw(svg: Element, parts: Sequence[str], entry: Json, whole_s: float) -> None:
    """A rectangle for each part, in percent of the whole; what it shows is its name."""
    for child in list(svg):
        svg.remove(child)
    ElementTree.SubElement(svg, "title").text = parts_in_words(parts, entry)
    x = 0.0
    for part in parts:
        width = 100.0 * entry[f"{part}_s"] / whole_s
        rectangle = {
            "class": part,
            "x": f"{x:.2f}",
            "width": f"{max(0.0, min(width, 100.0 - x)):.2f}",
            "height": "10",
        }
        ElementTree.SubElement(svg, "rect", rectangle)
        x = min(100.0, x + width)


def parts_in_words(parts: Sequence[str], entry: Json) -> str:
    """Such as `queue 1.2 s, load 0 s, prefill 80 ms, decode 3.4 s`."""
    return ", ".join(f"{spaced(part)} {duration(entry[f'{part}_s'])}" for part in parts)


def _pairs(said: str) -> Iterator[tuple[str, str]]:
    for pair in said.split(";"):
        name, _, words = pair.strip().partition(" ")
        yield name, words


def _switch(element: Element, name: str, on: bool) -> None:
    if on:
        element.set(name, "")
    else:
        element.attrib.pop(name, None)


# --- Values in words ------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Two digits are enough to compare by."""
    if seconds < 0.0005:
        return "0 s"
    if seconds < 0.9995:
        return f"{_rounded(seconds * 1000)} ms"
    value, unit = seconds, "s"
    for larger, unit_s in _UNITS:
        if seconds < _UNTIL * unit_s:
            break
        value, unit = seconds / unit_s, larger
    return f"{_short(value)} {unit}"


def size(count: float) -> str:
    """Bytes."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000.0
        units.pop(0)
    return f"{_rounded(value) if units[0] == 'B' else _short(value)} {units[0]}"


def count(value: float) -> str:
    """With a narrow space between thousands, at which no line ends."""
    return f"{math.floor(value):,}".replace(",", "\u202f")


def speed(per_s: float) -> str:
    return _tenths(per_s)


def percent(part: float) -> str:
    return f"{_rounded(part * 100)} %"


def plain(value: Json) -> str:
    """Text, whole numbers, and the words of JSON, with spaces for the underscores of a name."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def spaced(value: Json) -> str:
    """The name of a state or a reason, as words."""
    return plain(value).replace("_", " ")


def ago(seconds: float) -> str:
    if seconds < 1.0:
        return "now"
    return f"{math.floor(seconds)} s ago" if seconds < 10.0 else f"{duration(seconds)} ago"


def _short(value: float) -> str:
    return _tenths(value) if value < 9.95 else str(_rounded(value))


def _tenths(value: float) -> str:
    return f"{_rounded(value * 10) / 10:.1f}"


def _rounded(value: float) -> int:
    # As JavaScript does it, where a half goes up.
    return math.floor(value + 0.5)


FORMATS: Final[Mapping[str, Callable[[Json], str]]] = {
    "": plain,
    "spaced": spaced,
    "duration": duration,
    "size": size,
    "count": count,
    "speed": speed,
    "percent": percent,
    "ago": ago,
}
