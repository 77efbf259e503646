import pytest
from aioprometheus.collectors import Counter, Histogram, Registry
from aioprometheus.formats.text import TextFormatter

from gateway.telemetry.series import (
    Budget,
    Distribution,
    Distributions,
    Tally,
    escape_help,
    fit_for_label,
)
from tests.telemetry.exposition import Page, read


class Shelf:
    """One tally and one histogram on a page of their own."""

    def __init__(self, *, left: int = 100, kinds: tuple[str, ...] = ("a", "b")) -> None:
        self.registry = Registry()
        self.budget = Budget(left)
        self.tally = Tally(
            Counter("things_total", "Things.", registry=self.registry),
            {"kind": kinds, "number": (1, 2, 3)},
            self.budget,
        )

    def page(self) -> Page:
        self.tally.copy_out()
        return read(TextFormatter().marshall(self.registry))


def test_what_is_in_no_set_counts_as_other() -> None:
    shelf = Shelf()
    shelf.tally.add(("a", 1))
    shelf.tally.add(("evil", 1))
    shelf.tally.add(("b", 99))
    page = shelf.page()
    assert page.value("things_total", kind="a", number="1") == 1
    assert page.value("things_total", kind="other", number="1") == 1
    assert page.value("things_total", kind="b", number="other") == 1


def test_amounts_add_up_whole_or_not() -> None:
    shelf = Shelf()
    shelf.tally.add(("a", 1), 3)
    shelf.tally.add(("a", 1), 0.25)
    shelf.tally.add(("evil", 1), 0.5)
    page = shelf.page()
    assert page.value("things_total", kind="a", number="1") == 3.25
    assert page.value("things_total", kind="other", number="1") == 0.5


def test_without_room_everything_new_is_other_and_counted() -> None:
    shelf = Shelf(left=2)  # one for the others, one to spare
    for number in (1, 2, 3, 1):
        shelf.tally.add(("a", number))
    page = shelf.page()
    assert page.value("things_total", kind="a", number="1") == 2
    assert page.value("things_total", kind="other", number="other") == 2
    assert shelf.budget.refused == 2


def test_a_scrape_between_two_events_changes_nothing() -> None:
    shelf = Shelf()
    shelf.tally.add(("a", 1))
    shelf.page()
    shelf.tally.add(("a", 1))
    assert shelf.page().value("things_total", kind="a", number="1") == 2


def test_forgetting_ends_the_series_and_gives_the_room_back() -> None:
    shelf = Shelf(left=2)
    shelf.tally.add(("a", 1))
    shelf.page()
    shelf.tally.forget("a")
    assert len(shelf.page().series) == 1
    shelf.tally.add(("b", 1))
    assert shelf.page().value("things_total", kind="b", number="1") == 1


@pytest.mark.parametrize(
    "odd", ['quo"te', "back\\slash", "new\nline", 'all\\"\n', "\r\t\x1b", "é🦙"]
)
def test_odd_label_values_survive_the_page(odd: str) -> None:
    shelf = Shelf(kinds=(odd,))
    shelf.tally.add((odd, 1))
    assert shelf.page().value("things_total", kind=odd, number="1") == 1


def test_help_is_escaped() -> None:
    assert escape_help("a\nb\\c") == "a\\nb\\\\c"


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\x1bb", "\ud800", "a\u2028b"])
def test_odd_names_are_not_fit_for_a_label(name: str) -> None:
    assert not fit_for_label(name)


@pytest.mark.parametrize("name", ["llama3.2:latest", "hf.co/a/b:Q4_K_M", 'my "model"', "模型"])
def test_names_of_models_are_fit_for_a_label(name: str) -> None:
    assert fit_for_label(name)


def test_a_histogram_counts_into_buckets_bounds_included() -> None:
    registry = Registry()
    collector = Histogram("d_seconds", "D.", registry=registry, buckets=(1, 2))
    distribution = Distribution(collector, (1, 2))
    for value in (0.5, 1.0, 1.5, 7.0):
        distribution.observe(value)
    distribution.copy_out()
    page = read(TextFormatter().marshall(registry))
    assert page.value("d_seconds_bucket", le="1.0") == 2
    assert page.value("d_seconds_bucket", le="2.0") == 3
    assert page.value("d_seconds_bucket", le="+Inf") == page.value("d_seconds_count") == 4
    assert page.value("d_seconds_sum") == 10.0


@pytest.mark.parametrize("odd", [-1.0, float("nan"), float("inf"), float("-inf")])
def test_a_histogram_takes_no_impossible_value(odd: float) -> None:
    registry = Registry()
    collector = Histogram("d_seconds", "D.", registry=registry, buckets=(1, 2))
    distribution = Distribution(collector, (1, 2))
    distribution.observe(odd)
    distribution.copy_out()
    assert read(TextFormatter().marshall(registry)).value("d_seconds_count") == 0


class Racks:
    """Histograms with labels on a page of their own; each is five series."""

    def __init__(self, *, left: int = 100) -> None:
        self.registry = Registry()
        self.budget = Budget(left)
        collector = Histogram("d_seconds", "D.", registry=self.registry, buckets=(1, 2))
        self.distributions = Distributions(
            collector, (1, 2), {"kind": ("a", 'b"'), "number": (1, 2)}, self.budget
        )

    def page(self) -> Page:
        self.distributions.copy_out()
        return read(TextFormatter().marshall(self.registry))


def test_each_histogram_counts_for_itself_and_others_together() -> None:
    racks = Racks()
    racks.distributions.observe(("a", 1), 0.5)
    racks.distributions.observe(('b"', 1), 1.5)
    racks.distributions.observe(("evil", 1), 1.5)
    racks.distributions.observe(("foul", 1), 2.5)
    page = racks.page()
    assert page.value("d_seconds_bucket", kind="a", number="1", le="1.0") == 1
    assert page.value("d_seconds_bucket", kind='b"', number="1", le="1.0") == 0
    assert page.value("d_seconds_sum", kind='b"', number="1") == 1.5
    assert page.value("d_seconds_count", kind="other", number="1") == 2


def test_a_histogram_that_has_begun_is_there_at_zero() -> None:
    racks = Racks()
    assert racks.page().series == {}
    racks.distributions.begin(("a", 1))
    assert racks.page().value("d_seconds_count", kind="a", number="1") == 0


def test_without_room_for_a_whole_histogram_it_is_other_and_counted() -> None:
    racks = Racks(left=5 + 5 + 4)  # the others, one to spare, and not quite another
    for number in (1, 2, 2):
        racks.distributions.observe(("a", number), 1.5)
    page = racks.page()
    assert page.value("d_seconds_count", kind="a", number="1") == 1
    assert page.value("d_seconds_count", kind="other", number="other") == 2
    assert racks.budget.refused == 2


def test_forgetting_ends_the_histograms_and_gives_their_room_back() -> None:
    racks = Racks(left=5 + 5)
    racks.distributions.observe(("a", 1), 1.5)
    racks.page()
    racks.distributions.forget("a")
    assert racks.page().series == {}
    racks.distributions.observe(('b"', 1), 1.5)
    assert racks.page().value("d_seconds_count", kind='b"', number="1") == 1
