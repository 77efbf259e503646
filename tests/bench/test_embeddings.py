"""What embeddings.py compares, and what it makes of it."""

import math
from pathlib import Path

import pytest

from bench import embeddings
from bench.embeddings import CLIENTS, TEXTS, Ask, Round, cosine, differing, table
from gateway.config.load import load


def asker(*, but: str = "") -> Ask:
    """An engine; one text has the vector of another there."""

    async def ask(text: str) -> list[float]:
        angle = TEXTS.index(TEXTS[-1] if text == but else text) / len(TEXTS)
        return [math.cos(angle), math.sin(angle)]

    return ask


@pytest.mark.parametrize("joined", [True, False])
def test_the_gateways_differ_in_joining_alone(tmp_path: Path, joined: bool) -> None:
    path = tmp_path / "gateway.toml"
    engine = 'kind = "ollama"\nurl = "http://127.0.0.1:11500"'
    path.write_text(embeddings.settings(port=8001, engine=engine, joined=joined))
    config = load(path, {})
    assert (config.server.port, config.backend.url) == (8001, "http://127.0.0.1:11500")
    if joined:
        assert config.queue.embed_batch_items_max >= CLIENTS
    else:
        assert config.queue.embed_batch_items_max == 1
    assert not config.scheduling.deadlines


def test_the_cosine_is_that_of_the_angle_whatever_the_lengths() -> None:
    assert cosine([3.0, 0.0], [5.0, 0.0]) == pytest.approx(1)
    assert cosine([1.0, 0.0], [0.0, 2.0]) == pytest.approx(0)
    assert cosine([1.0, 0.0], [2.0, 2.0]) == pytest.approx(math.sqrt(0.5))


async def test_a_vector_that_differs_when_it_is_joined_is_counted() -> None:
    assert await differing(asker(), asker()) == 0
    assert await differing(asker(), asker(but=TEXTS[1])) == 1


def test_ratios_are_medians_of_those_within_a_round() -> None:
    # The machine is at half its speed in the second round, and one way is disturbed in the third.
    rounds = [Round(10.0, 20.0, 30.0), Round(5.0, 10.0, 15.0), Round(10.0, 20.0, 3.0)]
    lines = [" ".join(line.split()) for line in table(rounds).splitlines()]
    assert lines == [
        "one by one 10.0 texts/s",
        "apart 20.0 texts/s",
        "joined 15.0 texts/s",
        "joined ÷ one by one 3.00",
        "joined ÷ apart 1.50",
    ]
