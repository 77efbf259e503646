import asyncio
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from gateway.backends import llamacpp
from gateway.backends.http import HttpClient
from gateway.backends.kinds import (
    AUTO_TIMEOUT_S,
    ECHO_SLOTS,
    LEARNED_SLOTS_MAX,
    Slots,
    choose,
    choose_auto,
    make,
    slots,
)
from gateway.config.schema import Backend, BackendKind, Embedded, Limits
from gateway.core.messages import GenerateRequest
from tests.backends.fake_engine import HANG, FakeEngine, Pause, whole
from tests.fakes import ManualClock

EMBEDDED = Embedded(slots=3)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """An embedded engine that could be started."""
    model = tmp_path / "model.gguf"
    model.touch()
    monkeypatch.setattr(llamacpp, "_LIBRARY", "pytest")
    return Embedded(model_path=str(model))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Embedded:
    monkeypatch.setattr(llamacpp, "_LIBRARY", "no_such_package")
    return Embedded()


@pytest.mark.parametrize("kind", ["ollama", "openai", "llamacpp", "echo"])
def test_every_kind_can_be_made(
    kind: Any, installed: Embedded, http: HttpClient, limits: Limits, clock: ManualClock
) -> None:
    backend = make(
        Backend(kind=kind),
        embedded=installed,
        contexts={"m": 1024},
        http=http,
        limits=limits,
        clock=clock,
    )
    assert backend.kind == kind
    asked = GenerateRequest(model="m", extensions={"num_ctx": 9}, params=frozenset({"num_ctx"}))
    assert backend.unsupported(asked) == ("num_ctx",), "no caller has a say in it"


@pytest.mark.parametrize("kind", ["ollama", "openai", "llamacpp", "echo"])
def test_a_number_of_slots_is_taken_at_its_word(kind: Any) -> None:
    assert slots(Backend(kind=kind, slots=5), EMBEDDED) == Slots(5, 5)


@pytest.mark.parametrize(
    ("kind", "most"), [("ollama", LEARNED_SLOTS_MAX["ollama"]), ("openai", 32)]
)
def test_the_slots_of_an_engine_that_does_not_tell_are_found_out_from_one_upwards(
    kind: Any, most: int
) -> None:
    assert slots(Backend(kind=kind), EMBEDDED) == Slots(1, most)


@pytest.mark.parametrize(("kind", "count"), [("llamacpp", EMBEDDED.slots), ("echo", ECHO_SLOTS)])
def test_an_engine_of_our_own_has_the_slots_that_it_was_given(kind: Any, count: int) -> None:
    assert slots(Backend(kind=kind), EMBEDDED) == Slots(count, count)


async def test_an_echo_answers_to_the_configured_names(
    http: HttpClient, limits: Limits, clock: ManualClock
) -> None:
    backend = make(
        Backend(kind="echo", models=("a", "b")),
        embedded=EMBEDDED,
        contexts={},
        http=http,
        limits=limits,
        clock=clock,
    )
    assert [info.id for info in (await backend.probe()).models] == ["echo", "a", "b"]


async def test_an_ollama_that_answers_wins(
    engine: FakeEngine, http: HttpClient, installed: Embedded
) -> None:
    engine.play(whole(b'{"version":"0.24.0"}'))
    kind, reason = await choose_auto(engine.url, installed, http=http)
    assert kind == "ollama"
    assert reason == f"an Ollama answers at {engine.url}"
    assert engine.requests[0].target == "/api/version"


@pytest.mark.parametrize("answer", [whole(b"<html>"), whole(b"[]"), whole(b"{}", 404)])
async def test_something_else_at_that_address_is_no_ollama(
    engine: FakeEngine, http: HttpClient, installed: Embedded, answer: bytes
) -> None:
    engine.play(answer)
    kind, reason = await choose_auto(engine.url, installed, http=http)
    assert kind == "llamacpp"
    assert "embedded model" in reason


async def test_nobody_there_means_the_embedded_model(http: HttpClient, installed: Embedded) -> None:
    kind, _ = await choose_auto("http://127.0.0.1:1", installed, http=http)
    assert kind == "llamacpp"


async def test_an_ollama_that_hangs_is_waited_for_one_second(
    engine: FakeEngine, http: HttpClient, installed: Embedded, clock: ManualClock
) -> None:
    asked = Pause()
    engine.play(asked, HANG)
    choosing = asyncio.ensure_future(choose_auto(engine.url, installed, http=http))
    await asked.reached.wait()
    asked.go.set()
    await clock.advance(AUTO_TIMEOUT_S)
    assert (await choosing)[0] == "llamacpp"


async def test_without_an_embedded_engine_the_ollama_is_waited_for(
    http: HttpClient, missing: Embedded
) -> None:
    kind, reason = await choose_auto("http://127.0.0.1:1", missing, http=http)
    assert kind == "ollama"
    assert "waiting for it" in reason
    assert "make install" in reason


async def test_choosing_keeps_all_the_rest(
    http: HttpClient, installed: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(kind="auto", url="http://127.0.0.1:1", slots=5, models=("a",))
    with caplog.at_level("INFO", "gateway.engine"):
        chosen = await choose(backend, installed, http=http)
    assert chosen == attrs.evolve(backend, kind="llamacpp")
    assert "serving the embedded model" in caplog.text


@pytest.mark.parametrize("kind", sorted(set(get_args(BackendKind)) - {"auto"}))
async def test_a_kind_that_is_said_is_not_asked_about(
    kind: Any, engine: FakeEngine, http: HttpClient
) -> None:
    backend = Backend(kind=kind, url=engine.url)
    assert await choose(backend, EMBEDDED, http=http) is backend
    assert engine.connections == 0
