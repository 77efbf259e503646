"""What the bench of traces says of its figures."""

from bench.tracing import ALL, OFF, UNSAMPLED, Cost, table, verdicts

COSTS = {
    OFF: [Cost(500.0, 0.9), Cost(1000.0, 1.8), Cost(600.0, 0.9)],
    UNSAMPLED: [Cost(510.0, 0.9), Cost(1020.0, 1.8), Cost(612.0, 0.9)],
    ALL: [Cost(550.0, 0.9), Cost(1100.0, 1.8), Cost(660.0, 0.9)],
}


def test_a_ratio_is_that_of_one_round() -> None:
    _, off, unsampled, sent = table(COSTS).splitlines()
    assert off.split() == ["off", "600", "1.00", "0.900"]
    assert unsampled.split()[-3:] == ["612", "1.02", "0.900"]
    assert sent.split()[-3:] == ["660", "1.10", "0.900"]


def test_too_dear_and_dropped_is_missed() -> None:
    dear = {**COSTS, ALL: [Cost(2 * one.cpu_us_per_request, 1.0) for one in COSTS[OFF]]}
    assert [figure.passed for figure in verdicts(COSTS, 0.0)] == [True, True]
    assert [figure.passed for figure in verdicts(dear, 3.0)] == [False, False]
