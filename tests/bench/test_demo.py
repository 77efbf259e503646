from bench.demo import legend_of, lines
from bench.panels import Query
from bench.prometheus import Series

MEMORY = Query(row="Process", panel="Memory", legend="{{instance}} holds", unit="bytes", expr="x")


def series(instance: str, *values: float) -> Series:
    return Series({"instance": instance}, list(enumerate(values)))


def test_the_highest_lines_come_first_in_units_that_people_read() -> None:
    answer = [series("a", 2.0**20, 2.0**21), series("b", 2.0**23, 2.0**22)]
    assert lines(MEMORY, answer) == [
        ("b holds", "4", "8", "MiB"),
        ("a holds", "2", "2", "MiB"),
    ]


def test_lines_that_stayed_at_0_are_told_only_if_all_did() -> None:
    assert [line[0] for line in lines(MEMORY, [series("a", 0), series("b", 1)])] == ["b holds"]
    assert [line[1] for line in lines(MEMORY, [series("a", 0), series("b", 0)])] == ["0"]


def test_a_panel_without_data_says_so() -> None:
    assert lines(MEMORY, []) == [("instance holds", "no data", "", "")]


def test_a_label_that_a_series_lacks_is_left_out() -> None:
    assert legend_of("{{operation}} {{error}}", Series({"operation": "chat"}, [])) == "chat"
