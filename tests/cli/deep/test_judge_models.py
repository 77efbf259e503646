import attrs
import pytest

from gateway.cli.deep.engine_facts import EngineFacts, ModelFacts
from gateway.cli.deep.finding import GIB, Finding
from gateway.cli.deep.judge_models import Memory, memory, need_bytes, presence, wanted
from gateway.config.schema import Config, Generation, ModelSettings

MODEL = ModelFacts(name="m:latest", file_bytes=2 * GIB, token_bytes=131_072)
OLLAMA = EngineFacts(
    name="default",
    kind="ollama",
    names={"m": "m:latest"},
    models={"m:latest": MODEL},
    local=True,
    environ={},
)
CONFIG = Config(generation=Generation(default_model="m"))


def judged(
    facts: EngineFacts = OLLAMA,
    *,
    config: Config = CONFIG,
    available: float = 8.0,
    total: float = 8.0,
    gpu: bool = False,
) -> Finding:
    machine = Memory(total=round(total * GIB), available=round(available * GIB))
    (found,) = memory(facts, config, ["m"], machine, gpu=gpu)
    return found


# --- Are they there ---------------------------------------------------------------------


def test_wanted_are_the_default_model_what_aliases_mean_and_what_is_configured() -> None:
    models = {
        "gpt": ModelSettings(target="other"),
        "fast": ModelSettings(target="default"),
        "own": ModelSettings(num_ctx=1),
    }
    assert wanted(attrs.evolve(CONFIG, models=models), "m") == {
        "m": "the default model",
        "other": "what gpt means",
        "own": "configured",
    }


def test_a_missing_model_is_told_with_its_cure_and_the_default_one_is_a_fault() -> None:
    facts = [OLLAMA, attrs.evolve(OLLAMA, name="gpu", names={"x": "x:latest"})]
    found = list(presence({"d": "the default model", "m": "b", "x": "c", "y": "e"}, facts))
    assert [(one.verdict, one.what) for one in found] == [
        ("fail", "on no engine; the default model"),
        ("ok", "on default; b"),
        ("ok", "on gpu; c"),
        ("warn", "on no engine; e"),
    ]
    assert found[0].fix == "ollama pull d"


def test_a_silent_engine_may_have_it() -> None:
    facts = [OLLAMA, attrs.evolve(OLLAMA, name="gpu", names={}, fault="silent")]
    (found,) = presence({"y": "configured"}, facts)
    assert found.verdict == "skip"
    assert "gpu" in found.what


# --- Do they fit ----------------------------------------------------------------------


def test_a_model_takes_its_weights_its_contexts_and_some_more() -> None:
    plain = need_bytes(MODEL, 0, 1)
    assert plain > MODEL.file_bytes
    assert need_bytes(MODEL, 8192, 1) > plain + GIB
    assert need_bytes(MODEL, 8192, 4) == need_bytes(MODEL, 4 * 8192, 1)


def test_what_fits_is_well_and_what_never_will_is_a_fault() -> None:
    assert judged().verdict == "ok"
    assert judged(available=2.5).verdict == "warn"
    assert judged(available=2.5, total=2.5).verdict == "fail"
    assert judged(available=2.5, total=2.5, gpu=True).verdict == "skip"


@pytest.mark.parametrize(
    ("facts", "config", "context"),
    [
        (OLLAMA, CONFIG, "4096"),
        (attrs.evolve(OLLAMA, environ={"OLLAMA_CONTEXT_LENGTH": "1000"}), CONFIG, "1000"),
        (
            attrs.evolve(
                OLLAMA,
                models={"m:latest": attrs.evolve(MODEL, context=2000)},
                environ={"OLLAMA_CONTEXT_LENGTH": "1000"},
            ),
            CONFIG,
            "2000",
        ),
        (
            attrs.evolve(OLLAMA, models={"m:latest": attrs.evolve(MODEL, context=2000)}),
            attrs.evolve(CONFIG, models={"m": ModelSettings(num_ctx=3000)}),
            "3000",
        ),
        (attrs.evolve(OLLAMA, environ={"OLLAMA_NUM_PARALLEL": "3"}), CONFIG, "4096 times 3"),
    ],
)
def test_the_context_is_the_one_that_will_be_allocated(
    facts: EngineFacts, config: Config, context: str
) -> None:
    assert f"with a context of {context}" in judged(facts, config=config, available=64).what


def test_a_model_that_is_loaded_is_told_as_it_is() -> None:
    loaded = attrs.evolve(MODEL, loaded_bytes=3 * GIB, gpu_bytes=GIB)
    found = judged(attrs.evolve(OLLAMA, models={"m:latest": loaded}), available=0.1)
    assert found.verdict == "ok"
    assert found.what == "it is loaded and takes 3.0 GiB, 1.0 GiB of it a GPU's"


def test_what_another_model_holds_can_be_had() -> None:
    other = ModelFacts(name="o:latest", file_bytes=1, loaded_bytes=4 * GIB, gpu_bytes=0)
    facts = attrs.evolve(OLLAMA, models={"m:latest": MODEL, "o:latest": other})
    assert judged(facts, available=0.1).verdict == "ok"


def test_a_model_that_says_little_takes_at_least_its_file() -> None:
    facts = attrs.evolve(OLLAMA, models={"m:latest": attrs.evolve(MODEL, token_bytes=None)})
    assert "more than 2.2 GiB" in judged(facts).what


def test_the_memory_of_another_machine_is_nobodys_to_judge() -> None:
    (found,) = memory(attrs.evolve(OLLAMA, local=False), CONFIG, ["m"], Memory(GIB, GIB), gpu=False)
    assert found.verdict == "skip"
    (found,) = memory(OLLAMA, CONFIG, ["m"], None, gpu=False)
    assert found.verdict == "skip"
    assert list(memory(OLLAMA, CONFIG, ["other"], None, gpu=False)) == []
