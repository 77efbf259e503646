"""What overhead.py makes of what it measured."""

import attrs
import pytest

from bench import overhead
from bench.figures import MIB
from bench.loads import BLAST, SHORT, Tally
from bench.overhead import Round, Seen, comparison, verdicts
from bench.scripted_ollama import MODEL_NAMES
from bench.wire import Exchange, ollama_chat

ROUND = Round(
    latency_ms=0.2,
    first_token_ms=0.3,
    requests_per_s=5000.0,
    cpu_us_per_request=100.0,
    chunks_per_s=200_000.0,
    cpu_us_per_chunk_blast=2.0,
    cpu_us_per_chunk_paced=40.0,
)


def seen_of(gateway: Round) -> dict[str, Seen]:
    def child(one: Round) -> Seen:
        return Seen([one] * 3, [250.0] * 3, [40 * MIB] * 3, 45 * MIB)

    return {"direct": Seen([ROUND] * 3), "gateway": child(gateway), "raw": child(ROUND)}


def test_targets_are_ratios_to_the_raw_proxy() -> None:
    ours = attrs.evolve(ROUND, cpu_us_per_request=130.0, cpu_us_per_chunk_blast=1.0)
    found = verdicts(seen_of(ours))
    assert [(figure.measured, figure.verdict) for figure in found] == [
        ("1.30× (best rounds 1.30×)", "MISS"),
        ("0.50× (best rounds 0.50×)", "PASS"),
        ("1.00× (best rounds 1.00×)", "PASS"),
        ("45.0 MB", "PASS"),
    ]


def test_a_target_just_reached_is_reached() -> None:
    found = verdicts(seen_of(attrs.evolve(ROUND, cpu_us_per_request=125.0)))
    assert found[0].verdict == "PASS"


def test_the_table_shows_what_each_adds_to_the_direct_way() -> None:
    ours = attrs.evolve(ROUND, latency_ms=0.55)
    head, direct, gateway, raw = comparison(seen_of(ours)).splitlines()
    assert head.split()[0] == "added"
    assert direct.split()[:2] == ["direct", "0.000"]
    assert gateway.split()[:2] == ["gateway", "0.350"]
    assert "40→45" in raw


def test_every_model_that_is_asked_for_is_listed() -> None:
    """A gateway may refuse a model that its engine does not list."""
    asked = [SHORT, BLAST, overhead.QUICK.paced_model, overhead.FULL.paced_model]
    assert set(asked) <= set(MODEL_NAMES)


def exchange(*, whole: bool) -> Exchange:
    body = b'{"message":{"content":" w0"},"done":%b}' % (b"true" if whole else b"false")
    return Exchange(
        ollama_chat("tokens:1", stream=False),
        sent_at=10.0,
        head=b"HTTP/1.1 200 OK\r\n",
        raw_body=body,
        first_token_at=10.5,
        ended_at=11.0,
    )


def test_a_tally_counts_per_second_and_per_piece() -> None:
    tally = Tally([exchange(whole=True)] * 4, [], wall_s=2.0, cpu_s=0.001)
    assert (tally.per_s, tally.tokens_per_s) == (2.0, 2.0)
    assert (tally.cpu_us_per_request, tally.cpu_us_per_token) == pytest.approx((250.0, 250.0))
    assert (tally.latency_p50_s, tally.first_token_p50_s) == (1.0, 0.5)
    assert not tally.faults()


def test_a_tally_counts_wrong_and_missing_answers() -> None:
    tally = Tally([exchange(whole=True), exchange(whole=False)], ["closed"], 1.0, 0.0)
    assert tally.faults() == {"closed": 1, "the answer is not done": 1}
