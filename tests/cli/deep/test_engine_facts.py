import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.deep.engine_facts import modelfile_context, token_bytes

DATA = Path(__file__).parents[2] / "data"

LLAMA_8B: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.embedding_length": 4096,
}


def test_a_token_takes_a_key_and_a_value_for_each_head_in_each_layer() -> None:
    # llama.cpp tells 1024 MiB for the 8192 tokens of Llama 3 8B.
    assert token_bytes(LLAMA_8B) == 1024 * 1024**2 / 8192


def test_heads_may_have_sizes_of_their_own_and_layers_numbers_of_theirs() -> None:
    sizes = {**LLAMA_8B, "llama.attention.key_length": 256, "llama.attention.value_length": 128}
    assert token_bytes(sizes) == 32 * 8 * (256 + 128) * 2
    layers = {**LLAMA_8B, "llama.block_count": 3, "llama.attention.head_count_kv": [8, 0, 4]}
    assert token_bytes(layers) == 12 * 256 * 2
    assert token_bytes({**LLAMA_8B, "llama.attention.head_count_kv": None}) == 32 * 32 * 256 * 2


def test_a_real_answer_is_understood() -> None:
    shown = json.loads((DATA / "ollama_show.json").read_text())
    assert token_bytes(shown["model_info"]) == 30 * 3 * (64 + 64) * 2


@pytest.mark.parametrize(
    "info",
    [None, [], {}, {"general.architecture": "llama"}, {**LLAMA_8B, "llama.block_count": "x"}],
)
def test_who_says_too_little_says_nothing(info: Any) -> None:
    assert token_bytes(info) is None


def test_the_context_of_a_modelfile_is_found_among_its_parameters() -> None:
    parameters = 'stop                           "<|im_end|>"\nnum_ctx                        2048'
    assert modelfile_context(parameters) == 2048
    assert modelfile_context('stop "num_ctx 5"') is None
    assert modelfile_context(None) is None
