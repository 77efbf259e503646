import attrs
import pytest

from gateway.cli.deep.engine_facts import EngineFacts, ModelFacts
from gateway.cli.deep.judge_engine import (
    KEEP_ALIVE_S_MIN,
    duration_s,
    engine,
    exposure,
    holes,
    keep_alive,
    parallel,
)
from gateway.config.schema import Config, ModelSettings, SlotCount

OLLAMA = EngineFacts(
    name="default",
    kind="ollama",
    url="http://localhost:11434",
    answer_s=0.003,
    version="0.24.0",
    names={"m": "m:latest"},
    models={"m:latest": ModelFacts(name="m:latest", file_bytes=1)},
    local=True,
    environ={},
)


def with_environ(**environ: str) -> EngineFacts:
    return attrs.evolve(OLLAMA, environ=environ)


# --- Does it answer ---------------------------------------------------------------


def test_an_engine_that_answers_is_told_with_its_time() -> None:
    found = engine(OLLAMA)
    assert (found.verdict, found.what) == (
        "ok",
        "ollama 0.24.0 answers at http://localhost:11434 in 3 ms",
    )
    assert engine(attrs.evolve(OLLAMA, answer_s=3.0)).verdict == "warn"


def test_an_engine_that_does_not_is_told_with_the_reason_and_the_cure() -> None:
    found = engine(attrs.evolve(OLLAMA, fault="connection refused"))
    assert found.verdict == "fail"
    assert found.what == "no answer from http://localhost:11434: connection refused"
    assert "systemctl start ollama" in found.fix
    other = engine(attrs.evolve(OLLAMA, kind="openai", fault="x"))
    assert "api_key" in other.fix


def test_the_embedded_engine_in_ollamas_place_is_a_warning() -> None:
    facts = EngineFacts(name="default", kind="e", url="http://localhost:11434", fallen_back=True)
    assert engine(facts).verdict == "warn"
    assert engine(attrs.evolve(facts, url="", fallen_back=False)).verdict == "ok"
    missing = attrs.evolve(facts, url="", fallen_back=False, fault="It is not installed: pip x.")
    assert (engine(missing).verdict, engine(missing).what) == ("fail", "It is not installed: pip x")


# --- Is it safe ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("0.1.33", ["CVE-2024-37032", "CVE-2026-7482"]),
        ("0.1.34", ["CVE-2026-7482"]),
        ("0.17.0", ["CVE-2026-7482"]),
        ("0.17.1", []),
        ("0.17.1-rc3", []),
        ("0.24.0", []),
        ("1.0", []),
    ],
)
def test_a_version_with_known_holes_is_named_with_them(version: str, named: list[str]) -> None:
    found = holes(attrs.evolve(OLLAMA, version=version))
    assert found is not None
    assert found.verdict == ("warn" if named else "ok")
    assert all(name in found.what for name in named)
    assert found.what.count("CVE") == len(named)


@pytest.mark.parametrize("version", ["0.0.0", "", "unknown"])
def test_a_build_without_a_version_is_not_judged(version: str) -> None:
    found = holes(attrs.evolve(OLLAMA, version=version))
    assert found is not None
    assert found.verdict == "skip"


def test_only_an_ollama_that_answers_has_a_version_to_judge() -> None:
    assert holes(attrs.evolve(OLLAMA, kind="openai")) is None
    assert holes(attrs.evolve(OLLAMA, fault="silent")) is None


def test_an_engine_that_others_reach_too_is_a_way_round_the_queue() -> None:
    assert exposure(OLLAMA) is None
    found = exposure(attrs.evolve(OLLAMA, exposed_on=("every address",)))
    assert found is not None
    assert found.verdict == "warn"
    assert "OLLAMA_HOST=127.0.0.1" in found.fix


# --- Is it set up for several callers -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300.0),
        ("5m0s", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("3600", 3600.0),
        ("-1", -1.0),
        ("-1m", -60.0),
        ("500ms", 0.5),
        ("0", 0.0),
        ("", None),
        ("5 minutes", None),
        ("m", None),
    ],
)
def test_a_duration_is_read_as_ollama_does(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("set_to", "verdict"),
    [("", "warn"), ("5m", "warn"), ("24h", "ok"), ("-1", "ok"), ("x", "skip")],
)
def test_a_model_that_leaves_the_memory_soon_is_a_warning(set_to: str, verdict: str) -> None:
    found = keep_alive(with_environ(OLLAMA_KEEP_ALIVE=set_to), Config(), "m")
    assert found is not None
    assert found.verdict == verdict
    if verdict == "warn":
        assert "5 minutes" in found.what
        assert '[models."m"] keep_alive' in found.fix


def test_the_configuration_says_it_before_ollama_does() -> None:
    config = Config(models={"m": ModelSettings(keep_alive="-1m")})
    found = keep_alive(with_environ(OLLAMA_KEEP_ALIVE="5m"), config, "m")
    assert found is not None
    assert found.verdict == "ok"
    short = Config(models={"m": ModelSettings(keep_alive="1m")})
    found = keep_alive(with_environ(OLLAMA_KEEP_ALIVE="-1"), short, "m")
    assert found is not None
    assert found.verdict == "warn"


def test_what_can_not_be_read_is_learned_from_a_loaded_model_or_not_at_all() -> None:
    def seen(expires_s: float | None) -> str:
        model = ModelFacts(name="m:latest", file_bytes=1, expires_s=expires_s)
        facts = attrs.evolve(OLLAMA, environ=None, models={"m:latest": model})
        found = keep_alive(facts, Config(), "m")
        assert found is not None
        return found.verdict

    assert seen(KEEP_ALIVE_S_MIN) == "ok"
    # It may have been longer before that, so nothing is said against it.
    assert seen(KEEP_ALIVE_S_MIN - 1) == "skip"
    assert seen(None) == "skip"


def test_there_is_nothing_to_keep_alive_of_a_model_that_is_not_there() -> None:
    assert keep_alive(OLLAMA, Config(), "other") is None


@pytest.mark.parametrize(
    ("slots", "runs", "verdict"),
    [
        ("auto", "", "ok"),
        ("auto", "4", "ok"),
        (1, "", "ok"),
        (4, "4", "ok"),
        (4, "", "warn"),
        (1, "4", "warn"),
        (1, "0", "ok"),
    ],
)
def test_gateway_and_ollama_should_mean_the_same_number(
    slots: SlotCount, runs: str, verdict: str
) -> None:
    found = parallel(with_environ(OLLAMA_NUM_PARALLEL=runs), slots)
    assert found is not None
    assert found.verdict == verdict
    assert bool(found.fix) == (verdict == "warn" or (slots == "auto" and runs == "4"))


def test_a_number_that_can_not_be_read_is_not_judged() -> None:
    facts = attrs.evolve(OLLAMA, environ=None)
    for slots, verdict in (("auto", "ok"), (2, "skip")):
        found = parallel(facts, slots)  # type: ignore[arg-type]
        assert found is not None
        assert found.verdict == verdict
