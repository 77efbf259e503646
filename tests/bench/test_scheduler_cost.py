import pytest

from bench import scheduler_cost
from bench.scheduler_cost import GOALS_US, Line


def test_each_depth_is_measured_beside_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler_cost.main(["--rounds", "1", "--requests", "2"])
    shown = capsys.readouterr().out
    for depth, goal in GOALS_US.items():
        assert f"{depth} waiting" in shown
        assert f"<= {goal:.0f}" in shown


def test_as_many_wait_after_each_step_and_all_would_be_in_time() -> None:
    line = Line(20)
    line.seconds(50)
    waiting = line._waiting
    assert len(waiting) == 20
    assert not any(line._scheduler.too_late(ticket, line._now) for ticket in waiting)
