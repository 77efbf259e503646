import json
from typing import Any

import attrs
import pytest

from gateway.core.models import ModelInfo
from gateway.dialects import ollama_models

KNOWN = ModelInfo(
    id="smollm2:135m",
    created=1_700_000_000,
    context_length=4096,
    context_length_max=8192,
    size_bytes=96_576_768,
    capabilities=("completion", "tools"),
    format="gguf",
    parameter_count=134_515_008,
    quantization="Q4_1",
)
UNKNOWN = ModelInfo(id="some/model")


def shown(model: ModelInfo) -> Any:
    return json.loads(ollama_models.shown(model))


def test_an_entry_tells_what_is_known() -> None:
    entry = ollama_models.installed(KNOWN)
    assert entry["name"] == entry["model"] == "smollm2:135m"
    assert entry["modified_at"] == "2023-11-14T22:13:20Z"
    assert entry["size"] == 96_576_768
    assert entry["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    }


def test_an_entry_of_which_nothing_is_known_has_all_that_the_cli_reads() -> None:
    for entry in (ollama_models.installed(UNKNOWN), ollama_models.running(UNKNOWN)):
        assert entry["size"] == 0
        assert len(entry["digest"][:12]) == 12
        assert entry["details"]["parameter_size"] == ""
    # To Go that is no time at all.
    assert ollama_models.installed(UNKNOWN)["modified_at"].startswith("0001-01-01T")


def test_a_digest_stays_and_tells_models_apart() -> None:
    digests = [
        ollama_models.installed(model)["digest"]
        for model in (KNOWN, UNKNOWN, attrs.evolve(KNOWN, size_bytes=1))
    ]
    assert len(set(digests)) == 3
    assert ollama_models.running(attrs.evolve(KNOWN, created=1))["digest"] == digests[0]
    alias = attrs.evolve(KNOWN, id="gpt", alias_of=KNOWN.id)
    assert ollama_models.installed(alias)["digest"] == digests[0]


def test_what_is_in_memory_for_good_leaves_it_in_a_time_that_never_comes() -> None:
    entry = ollama_models.running(KNOWN)
    assert entry["expires_at"] > "2150"
    assert entry["context_length"] == 4096
    assert "size_vram" not in entry


def test_a_model_is_described_by_names_that_clients_look_for() -> None:
    document = shown(KNOWN)
    info = document["model_info"]
    assert info[f"{info['general.architecture']}.context_length"] == 8192
    assert info["general.parameter_count"] == 134_515_008
    assert document["capabilities"] == ["completion", "tools"]


def test_a_model_that_talks_is_none_that_embeds() -> None:
    both = attrs.evolve(KNOWN, capabilities=("completion", "embedding"))
    assert shown(both)["capabilities"] == ["completion"]
    embeds = attrs.evolve(KNOWN, capabilities=("embedding",))
    assert shown(embeds)["capabilities"] == ["embedding"]


def test_a_model_that_nothing_is_said_of_can_at_least_answer() -> None:
    document = shown(UNKNOWN)
    assert document["capabilities"] == ["completion"]
    assert document["model_info"] == {"general.architecture": "unknown"}
    assert shown(attrs.evolve(UNKNOWN, context_length=512))["model_info"] == {
        "general.architecture": "unknown",
        "unknown.context_length": 512,
    }


@pytest.mark.parametrize(
    ("count", "size"),
    [(None, ""), (12, "12"), (22_000, "22K"), (134_515_008, "134.52M"), (8_030_261_312, "8.0B")],
)
def test_sizes_are_written_as_ollama_writes_them(count: int | None, size: str) -> None:
    model = attrs.evolve(UNKNOWN, parameter_count=count)
    assert ollama_models.installed(model)["details"]["parameter_size"] == size


def test_an_ollamas_own_words_are_kept_but_for_the_name() -> None:
    told = {"name": "a:latest", "model": "a:latest", "digest": "d", "new_field": 1}
    assert ollama_models.named(told, "gpt") == {**told, "name": "gpt", "model": "gpt"}
    assert json.loads(ollama_models.listing([told])) == {"models": [told]}


def test_the_version_is_the_engines_own_or_that_of_the_api() -> None:
    assert json.loads(ollama_models.version("0.30.1")) == {"version": "0.30.1"}
    said = json.loads(ollama_models.version())["version"]
    # Clients take it apart, and want this or a later one for tools.
    assert tuple(map(int, said.split("."))) >= (0, 6, 4)
