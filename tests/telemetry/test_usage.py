import pytest

from gateway.core.messages import Usage
from gateway.core.ticket import Outcome, RequestRecord
from gateway.telemetry.usage import Counts, Key, counts_of, document_of, first_day, merge, totals

NOON = 1_795_348_800.0
"""2026-11-22, 12:00 UTC."""


def record(outcome: Outcome = "completed", status: int = 200) -> RequestRecord:
    return RequestRecord(
        request_id="r",
        caller="alice",
        model="m",
        stream=False,
        outcome=outcome,
        status=status,
        usage=Usage(prompt=9, completion=5, cached=4),
        charged=Usage(prompt=9, completion=5),
        service_s=1.5,
    )


def test_a_request_counts_as_what_it_is_charged() -> None:
    assert counts_of(record()) == Counts(1, 0, 0, 9, 4, 5, 1.5)
    assert counts_of(record("failed", 502)).failures == 1
    assert counts_of(record("cancelled", 499)).requests == 1


def test_a_refusal_is_no_request_and_who_left_before_was_not_refused() -> None:
    refused = counts_of(record("refused", 429))
    assert (refused.requests, refused.refusals) == (0, 1)
    gone = counts_of(record("refused", 499))
    assert (gone.requests, gone.refusals) == (0, 0)


def test_counts_of_one_key_are_added_and_the_given_ones_stay_as_they_are() -> None:
    one = Counts(requests=1, slot_s=0.5)
    into: dict[str, Counts] = {}
    merge(into, [("a", one), ("a", one), ("b", one)])
    assert into == {"a": Counts(requests=2, slot_s=1.0), "b": one}
    assert one == Counts(requests=1, slot_s=0.5)


def test_totals_are_of_one_part_of_the_key_from_a_day_on() -> None:
    counts = {
        Key("2026-11-20", "alice", "m"): Counts(requests=1),
        Key("2026-11-21", "alice", "m"): Counts(requests=2),
        Key("2026-11-22", "alice", "n"): Counts(requests=4),
        Key("2026-11-22", "bob", "m"): Counts(requests=8),
    }
    since = "2026-11-21"
    assert totals(counts, since, "caller") == {"alice": Counts(6), "bob": Counts(8)}
    assert totals(counts, since, "model") == {"m": Counts(10), "n": Counts(4)}
    assert totals(counts, since, "day") == {"2026-11-21": Counts(2), "2026-11-22": Counts(12)}


@pytest.mark.parametrize(
    ("since", "day"),
    [
        ("1d", "2026-11-22"),
        ("0d", "2026-11-22"),
        ("7d", "2026-11-16"),
        ("2026-01-02", "2026-01-02"),
        ("99999d", "1753-02-08"),
    ],
)
def test_so_many_days_are_counted_with_today(since: str, day: str) -> None:
    assert first_day(since, NOON) == day


@pytest.mark.parametrize("since", ["", "7", "d", "-1d", "1w", "2026-13-01", "100000d", "yesterday"])
def test_anything_else_is_no_day(since: str) -> None:
    with pytest.raises(ValueError, match="such as 7d"):
        first_day(since, NOON)


def test_whoever_has_used_most_stands_first_and_of_days_the_earliest() -> None:
    counts = {"b": Counts(prompt_tokens=1), "a": Counts(completion_tokens=2)}
    names = [entry["name"] for entry in document_of(counts, "2026-11-22", "caller")["data"]]
    assert names == ["a", "b"]
    days = {"2026-11-22": Counts(prompt_tokens=9), "2026-11-21": Counts(prompt_tokens=1)}
    shown = document_of(days, "2026-11-21", "day")["data"]
    assert [entry["name"] for entry in shown] == ["2026-11-21", "2026-11-22"]
