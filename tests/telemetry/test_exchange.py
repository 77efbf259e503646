import pytest

from gateway.core.messages import Timings, Usage
from gateway.telemetry.exchange import cached_tokens, tokens_per_s
from tests.telemetry.records import record


def test_speed_is_by_the_engines_clock_where_it_has_one() -> None:
    assert tokens_per_s(record(timings=Timings(decode_s=4.0))) == 5.0


def test_speed_without_the_engines_clock_leaves_the_first_token_out() -> None:
    assert tokens_per_s(record(timings=Timings())) == pytest.approx(19 / 1.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": Usage()},
        {"usage": Usage(completion=-1)},
        {"timings": Timings(decode_s=0.0)},
        {"timings": Timings(decode_s=-1.0)},
        {"timings": Timings(decode_s=float("nan"))},
        {"timings": Timings(), "first_token_s": None},
        {"timings": Timings(), "usage": Usage(completion=1)},
        {"timings": Timings(), "first_token_s": 2.0},
        {"rejoined": True},
    ],
)
def test_no_speed_where_none_can_be_said(changes: dict[str, object]) -> None:
    assert tokens_per_s(record(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "cached"),
    [
        ({"usage": Usage(prompt=100, cached=30), "prompt_chars": 10, "cached_chars": 10}, 30),
        ({"usage": Usage(prompt=100, cached=0), "prompt_chars": 10, "cached_chars": 10}, 0),
        ({"usage": Usage(prompt=100), "prompt_chars": 400, "cached_chars": 100}, 25),
        ({"usage": Usage(prompt=100), "prompt_chars": 400, "cached_chars": 400}, 100),
        ({"usage": Usage(prompt=100)}, 0),
        ({"usage": Usage(), "prompt_chars": 400, "cached_chars": 100}, 0),
        ({"usage": Usage(prompt=100, cached=170)}, 100),
        ({"usage": Usage(prompt=-1, cached=-1)}, 0),
    ],
)
def test_cached_tokens_are_told_by_the_engine_or_estimated_from_characters(
    changes: dict[str, object], cached: int
) -> None:
    assert cached_tokens(record(**changes)) == cached
