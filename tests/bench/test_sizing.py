import re
from pathlib import Path
from typing import Final

import pytest

from bench import sizing
from bench.sizing import MIB, Model
from gateway.cli.deep.engine_facts import token_bytes

PAGE: Final = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text("utf-8")
SMOLLM2: Final = Model("smollm2:135m", 0.1, 30, 3, 64)


@pytest.mark.parametrize(
    ("cache", "context", "slots", "mib"), [("f16", 2048, 1, 45.0), ("q8_0", 2048, 2, 47.81)]
)
def test_a_context_takes_what_ollama_was_seen_to_take(
    cache: str, context: int, slots: int, mib: float
) -> None:
    took = SMOLLM2.context_bytes(cache, context=context, slots=slots) / MIB
    assert took == pytest.approx(mib, abs=0.005)
    assert f"{mib:.2f} MiB | {mib:.2f} MiB |" in PAGE


@pytest.mark.parametrize("model", sizing.MODELS, ids=lambda model: model.name)
def test_the_deep_check_reckons_the_same(model: Model) -> None:
    told = {
        "general.architecture": "x",
        "x.block_count": model.layers,
        "x.attention.head_count": 32,
        "x.attention.head_count_kv": model.kv_heads,
        "x.attention.key_length": model.head_size,
        "x.attention.value_length": model.head_size,
    }
    assert token_bytes(told) == model.token_bytes("f16")


@pytest.mark.parametrize("name", ["caches", "fits"])
def test_the_page_has_the_tables_as_they_are_reckoned(name: str) -> None:
    there = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert there is not None
    assert there[1].splitlines() == list(getattr(sizing, name)())


def test_the_most_that_fits_does_fit_and_a_step_more_does_not() -> None:
    room = sizing.MACHINE_BYTES - sizing.SYSTEM_BYTES
    for model in sizing.MODELS:
        most = model.contexts_max("q8_0")
        fixed = model.file_gb * 1e9 + sizing.GRAPH_BYTES
        assert fixed + model.context_bytes("q8_0", context=most, slots=1) <= room
        assert fixed + model.context_bytes("q8_0", context=most + 1024, slots=1) > room
