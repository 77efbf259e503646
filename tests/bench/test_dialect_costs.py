"""What dialect_costs.py measures, and what it makes of that."""

import pytest

from bench import dialect_costs, overhead
from bench.dialect_costs import CHAT, EMBEDDINGS, NAMES, Cost, Lengths, measure, table, verdicts
from bench.processes import Cores


def costs_of(**others: Cost) -> dict[str, list[Cost]]:
    """Three rounds, the last at half the speed: all cost what a chat does, but for these."""
    slow = (1.0, 1.0, 2.0)
    costs = {name: others.get(name, Cost(100.0, 4.0)) for name in NAMES}
    costs[EMBEDDINGS] = Cost(80.0, None)
    return {
        name: [
            Cost(
                one.cpu_us_per_request * factor,
                None if one.cpu_us_per_chunk is None else one.cpu_us_per_chunk * factor,
            )
            for factor in slow
        ]
        for name, one in costs.items()
    }


def test_each_dialect_with_a_stream_is_held_to_a_chat() -> None:
    found = verdicts(costs_of(**{"/v1/messages": Cost(100.0, 5.2), "/api/chat": Cost(90.0, 5.4)}))
    assert [(figure.name, figure.measured, figure.verdict) for figure in found] == [
        ("CPU per chunk, /v1/completions", "1.00× (best rounds 1.00×)", "PASS"),
        ("CPU per chunk, /v1/responses", "1.00× (best rounds 1.00×)", "PASS"),
        ("CPU per chunk, /v1/messages", "1.30× (best rounds 1.30×)", "PASS"),
        ("CPU per chunk, /api/chat", "1.35× (best rounds 1.35×)", "MISS"),
        ("CPU per chunk, /api/generate", "1.00× (best rounds 1.00×)", "PASS"),
    ]


def test_the_table_has_a_row_for_each_and_no_chunks_where_there_is_no_stream() -> None:
    _, *rows = table(costs_of(**{"/v1/responses": Cost(120.0, 5.0)})).splitlines()
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert tuple(cells) == NAMES
    assert cells[CHAT] == ["100.00", "1.00", "4.00", "1.00"]
    assert cells["/v1/responses"] == ["120.00", "1.20", "5.00", "1.25"]
    assert cells[EMBEDDINGS] == ["80.00", "0.80", "-", "-"]


@pytest.mark.slow
def test_a_gateway_answers_in_every_dialect_and_its_time_is_seen() -> None:
    costs, faults = measure(Lengths(1, 0.0, 0.0), Cores.of_this_machine())
    assert not faults
    for name in NAMES:
        (one,) = costs[name]
        assert one.cpu_us_per_request > 0
        assert (one.cpu_us_per_chunk is None) == (name == EMBEDDINGS)


def test_the_dialects_can_be_measured_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(lengths: Lengths, cores: Cores) -> tuple[dict[str, object], dict[str, int]]:
        print(f"{lengths.rounds} rounds")
        return {}, {"a wrong answer": 2}

    monkeypatch.setattr(dialect_costs, "compare", compare)
    monkeypatch.setattr("bench.processes.end_on_sigterm", lambda: None)
    assert overhead.main(["--dialects", "--quick", "--rounds", "5"]) == 1
    assert capsys.readouterr().out == "5 rounds\nERROR 2 × a wrong answer\n"
