"""The arithmetic behind the figures."""

import math
from pathlib import Path

import pytest

from bench import figures
from bench.figures import Figure

STATUS = "Name:\tpython\nVmHWM:\t   45000 kB\nVmRSS:\t   43008 kB\nThreads:\t2\n"
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F40 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:C000 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0100007F:1F40 0100007F:C001 06 00000000:00000000 00:00000000 00000000     0        0 0 1
   4: 0100007F:1F41 0100007F:C002 01 00000000:00000000 00:00000000 00000000     0        0 4 1
"""
METRICS = """\
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{model="a b",status="200"} 3
requests_total{model="a b",status="503"} 1 1700000000000
active_requests 0
request_latency_seconds_bucket{le="+Inf"} NaN
"""


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    assert figures.quantile(range(1, 101), share) == value


def test_of_one_value_every_quantile_is_that() -> None:
    assert [figures.quantile([7.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [7.0] * 4


def test_of_nothing_there_is_no_quantile() -> None:
    assert math.isnan(figures.quantile([], 0.5))


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is half as fast in the second round: both pay, the ratio does not.
    assert figures.median_ratio([110.0, 220.0, 110.0], [100.0, 200.0, 100.0]) == pytest.approx(1.1)


def test_a_ratio_to_nothing_is_not_a_number() -> None:
    assert math.isnan(figures.median_ratio([1.0], [0.0]))


def test_differences_are_taken_within_a_round() -> None:
    assert figures.median_difference([1.5, 3.5, 1.0], [1.0, 3.0, 1.0]) == pytest.approx(0.5)


def test_unequal_numbers_of_rounds_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="longer"):
        figures.median_ratio([1.0], [1.0, 2.0])


def test_a_slope_is_found_through_noise() -> None:
    assert figures.slope([(0, 10), (1, 13), (2, 14), (3, 19)]) == pytest.approx(2.8)


def test_of_one_point_the_slope_is_none() -> None:
    assert figures.slope([(3, 10)]) == 0.0


def test_schedstat_is_nanoseconds_on_a_cpu() -> None:
    assert figures.cpu_s_in_schedstat("142947060 35282130 17\n") == pytest.approx(0.14294706)


def test_stat_is_read_past_a_hostile_name() -> None:
    text = "42 (a b) c) S " + " ".join(["0"] * 10) + " 150 50 0 0 20 0"
    assert figures.cpu_s_in_stat(text, ticks_per_s=100) == 2.0


def test_our_own_stat_can_be_read() -> None:
    assert figures.cpu_s_in_stat(Path("/proc/self/stat").read_text(), ticks_per_s=100) >= 0


def test_memory_is_read_from_status_in_bytes() -> None:
    assert figures.bytes_in_status(STATUS, "VmRSS") == 42 * figures.MIB
    assert figures.bytes_in_status(STATUS, "VmHWM") == 45000 * 1024


def test_a_missing_field_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="VmSwap"):
        figures.bytes_in_status(STATUS, "VmSwap")


def test_only_connections_that_the_server_holds_open_count() -> None:
    assert figures.established_in_tcp(TCP, 8000) == 1


def test_series_are_names_with_their_labels() -> None:
    assert figures.series_in_metrics(METRICS) == {
        'requests_total{model="a b",status="200"}',
        'requests_total{model="a b",status="503"}',
        "active_requests",
        'request_latency_seconds_bucket{le="+Inf"}',
    }


@pytest.mark.parametrize(("passed", "verdict"), [(True, "PASS"), (False, "MISS"), (None, "-")])
def test_a_figure_has_a_verdict(passed: bool | None, verdict: str) -> None:
    assert Figure(name="n", goal="g", measured="m", passed=passed).verdict == verdict


def test_a_table_stands_in_columns() -> None:
    rows = [("", "ms"), ("gateway", "1.25"), ("raw", "10")]
    assert figures.table(rows) == "           ms\ngateway  1.25\nraw        10"
