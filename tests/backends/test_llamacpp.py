import asyncio
import json
import os
import signal
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends import llamacpp
from gateway.backends.http import HttpClient
from gateway.backends.llamacpp import (
    LlamaCppBackend,
    available,
    begin_call,
    model_path,
    tokens_at_most,
)
from gateway.config.schema import Embedded, Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    ConfigError,
    ModelNotFound,
    UpstreamUnreachable,
)
from gateway.core.messages import (
    EmbedRequest,
    GenerateRequest,
    JsonObject,
    Message,
    NamedTool,
    Role,
    Tool,
    ToolCall,
)
from tests.backends.children import Told, command, is_alive, running
from tests.fakes import ManualClock

ASK = Message(role=Role.USER, content="What time is it?")
REQUEST = GenerateRequest(
    model="m", messages=(ASK,), tools=(Tool(name="get_time"), Tool(name="get_weather"))
)


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return Embedded(model_path=str(path), model_name="m")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def backend(
    embedded: Embedded, http: HttpClient, limits: Limits, clock: ManualClock, told: Told
) -> LlamaCppBackend:
    return LlamaCppBackend(
        embedded=embedded,
        http=http,
        limits=limits,
        clock=clock,
        on_change=told,
        command=command("serves"),
    )


# --- The child ----------------------------------------------------------------


async def test_before_the_model_is_loaded_nobody_waits(backend: LlamaCppBackend) -> None:
    with pytest.raises(UpstreamUnreachable) as caught:
        async with backend.open(REQUEST):
            pass
    assert caught.value.retry_after_s == 1.0
    with pytest.raises(UpstreamUnreachable):
        await backend.probe()
    with pytest.raises(UpstreamUnreachable):
        await backend.describe("m")


async def test_a_loaded_model_is_offered_with_its_real_context(
    backend: LlamaCppBackend, told: Told
) -> None:
    async with running(backend.run()):
        await told.wait_for("m is ready")
        (info,) = (await backend.probe()).models
        assert info == await backend.describe("m")
        with pytest.raises(ModelNotFound):
            await backend.describe("other")
        await backend.load("m")
    assert info.id == "m"
    assert info.context_length == 512
    assert info.context_length_max == 2048
    assert info.loaded is True
    assert info.owned_by == "embedded"
    assert info.created == 1_600_000_000
    assert "completion" in info.capabilities


async def test_after_a_crash_it_is_down_at_once_and_back_at_another_address(
    backend: LlamaCppBackend, told: Told, clock: ManualClock
) -> None:
    async with running(backend.run()):
        await told.wait_for("m is ready")
        await backend.probe()
        assert backend.pid is not None
        os.kill(backend.pid, signal.SIGKILL)
        await told.wait_for("restarting m in 0.5 s")
        with pytest.raises(UpstreamUnreachable):
            async with backend.open(REQUEST):
                pass
        await clock.advance(0.5)
        await told.wait_for("m is ready", times=2)
        await backend.probe()


async def test_closing_ends_the_child_and_is_final(backend: LlamaCppBackend, told: Told) -> None:
    async with running(backend.run()) as run:
        await told.wait_for("m is ready")
        pid = backend.pid
        assert pid is not None
        await backend.close()
        await backend.close()
        await run
        assert not is_alive(pid)
        with pytest.raises(UpstreamUnreachable):
            await backend.probe()


# --- Embeddings -----------------------------------------------------------------

EMBED = EmbedRequest(model="m", inputs=("a", "b"))


async def test_texts_are_embedded_by_a_server_of_their_own(
    embedded: Embedded, http: HttpClient, limits: Limits, clock: ManualClock, told: Told
) -> None:
    backend = LlamaCppBackend(
        embedded=embedded,
        http=http,
        limits=limits,
        clock=clock,
        on_change=told,
        command=command("serves twice"),
    )
    async with running(backend.run()):
        await told.wait_for("m is ready")
        found = await backend.embed(EMBED)
        assert backend._supervisor.url is not None
        text_port = float(backend._supervisor.url.rpartition(":")[2])
        assert len(found.vectors) == 2
        assert found.vectors[0] != [text_port]
        (info,) = (await backend.probe()).models
        assert info.capabilities == ("completion", "embedding")


@given(st.text())
def test_no_text_has_more_tokens_than_bytes_but_for_those_around_it(text: str) -> None:
    assert tokens_at_most(text) == len(text.encode()) + 3
    assert tokens_at_most((7,) * len(text)) == len(text)


async def test_what_would_not_fit_together_is_sent_apart(
    embedded: Embedded, http: HttpClient, limits: Limits, clock: ManualClock, told: Told
) -> None:
    """One that fills the context is alone in it, whoever else asks at the same time."""
    backend = LlamaCppBackend(
        embedded=attrs.evolve(embedded, context_length=256),
        http=http,
        limits=limits,
        clock=clock,
        on_change=told,
        command=command("counts who is there"),
    )
    long = "x" * 300
    async with running(backend.run()):
        await told.wait_for("m is ready")
        found = await asyncio.gather(
            backend.embed(attrs.evolve(EMBED, inputs=("a", long, "b"))),
            backend.embed(attrs.evolve(EMBED, inputs=(long,))),
            backend.embed(attrs.evolve(EMBED, inputs=("c", "d"))),
        )
    # Each vector says how many characters were being embedded at that moment.
    there = [vector[0] for embeddings in found for vector in embeddings.vectors]
    assert len(there) == 6
    assert all(chars == 300 or chars <= 4 for chars in there)
    assert there[1] == there[3] == 300


async def test_no_vectors_come_of_a_model_that_is_not_there_yet(backend: LlamaCppBackend) -> None:
    with pytest.raises(UpstreamUnreachable):
        await backend.embed(EMBED)


def train_for_embeddings(embedded: Embedded) -> None:
    """Make of the model's file one that names its pooling."""
    key = b"bert.pooling_type"
    Path(embedded.model_path).write_bytes(
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<II", 4, 2)
    )


async def test_a_model_for_embeddings_has_no_text(
    embedded: Embedded, http: HttpClient, limits: Limits, clock: ManualClock, told: Told
) -> None:
    train_for_embeddings(embedded)
    backend = LlamaCppBackend(
        embedded=embedded,
        http=http,
        limits=limits,
        clock=clock,
        on_change=told,
        command=command("serves"),
    )
    assert json.loads(backend._supervisor._settings)["embeds_only"] is True
    async with running(backend.run()):
        await told.wait_for("m is ready")
        assert len((await backend.embed(EMBED)).vectors) == 2
        with pytest.raises(BackendRefusedRequest, match="made for embeddings"):
            async with backend.open(REQUEST):
                pass
        (info,) = (await backend.probe()).models
        assert info.capabilities == ("embedding",)


def test_what_has_no_effect_on_vectors_is_named(backend: LlamaCppBackend) -> None:
    asked = attrs.evolve(EMBED, params=frozenset({"input", "dimensions", "truncate", "num_ctx"}))
    assert backend.unsupported(asked) == ("dimensions", "num_ctx")


async def test_each_engine_has_a_key_of_its_own(
    embedded: Embedded, http: HttpClient, limits: Limits, clock: ManualClock
) -> None:
    def key() -> str:
        backend = LlamaCppBackend(embedded=embedded, http=http, limits=limits, clock=clock)
        settings: Mapping[str, Any] = json.loads(backend._supervisor._settings)
        return str(settings["api_key"])

    assert len({key() for _ in range(5)}) == 5
    assert len(key()) >= 32


# --- Calls that the caller demands ----------------------------------------------


def opening(request: GenerateRequest) -> str:
    return begin_call(request).messages[-1].text


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_call_that_is_the_models_choice_is_not_begun_for_it(choice: Any) -> None:
    request = attrs.evolve(REQUEST, tool_choice=choice)
    assert begin_call(request) is request


def test_a_required_call_is_begun_for_the_model() -> None:
    request = attrs.evolve(
        REQUEST, tool_choice="required", parallel_tool_calls=True, output_format=JsonObject()
    )
    begun = begin_call(request)
    assert begun.messages == (ASK, Message(role=Role.ASSISTANT, content="<tool_call>["))
    assert begun.tool_choice == "required"
    assert begun.parallel_tool_calls is True
    # Otherwise llama.cpp would write the object, and no call.
    assert begun.output_format is None


def test_a_named_tool_is_called_once_since_the_engine_hears_of_no_other() -> None:
    tools = (Tool("get_weather"), Tool("get_time"), Tool("get_time_zone"))
    request = attrs.evolve(
        REQUEST, tools=tools, tool_choice=NamedTool("get_time"), parallel_tool_calls=True
    )
    begun = begin_call(request)
    assert opening(request) == "<tool_call>["
    assert begun.tools == (Tool("get_time"),)
    assert begun.tool_choice == "required"
    assert begun.parallel_tool_calls is False


def test_an_answer_that_the_caller_began_goes_on_with_the_call() -> None:
    begun_by_caller = Message(role=Role.ASSISTANT, content="Let me look. ")
    request = attrs.evolve(REQUEST, messages=(ASK, begun_by_caller), tool_choice="required")
    assert len(begin_call(request).messages) == 2
    assert opening(request) == "Let me look. <tool_call>["


def test_earlier_calls_are_left_as_they_were() -> None:
    earlier = Message(
        role=Role.ASSISTANT, content="", tool_calls=(ToolCall("1", "get_time", "{}"),)
    )
    request = attrs.evolve(REQUEST, messages=(ASK, earlier), tool_choice="required")
    assert begin_call(request).messages[1] is earlier
    assert opening(request) == "<tool_call>["


# --- What there is to serve -------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path that holds an xllamacpp, and a model package without its model."""
    folder = tmp_path / "packages"
    for name in ("fake_xllamacpp", "fake_model"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('never import me')", "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(llamacpp, "_LIBRARY", "fake_xllamacpp")
    monkeypatch.setattr(llamacpp, "_MODEL_PACKAGE", "fake_model")
    return folder


def test_the_packaged_model_is_found_without_importing_its_package(packages: Path) -> None:
    model = packages / "fake_model" / "small.gguf"
    model.touch()
    assert model_path(Embedded()) == model
    assert available() is None


def test_a_missing_library_is_said_with_its_cure(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "_LIBRARY", "no_such_package")
    reason = available()
    assert reason is not None
    assert "engine is not installed" in reason
    assert "make install" in reason


@pytest.mark.parametrize("package", ["fake_model", "no_such_package"])
def test_a_missing_model_is_said_with_its_cure(
    packages: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(llamacpp, "_MODEL_PACKAGE", package)
    reason = available()
    assert reason is not None
    assert "model of the embedded engine is missing" in reason
    assert "--no-deps" in reason
    with pytest.raises(ConfigError):
        model_path(Embedded())


def test_a_configured_file_that_is_not_there_is_a_mistake_in_the_configuration(
    packages: Path, tmp_path: Path
) -> None:
    wrong = Embedded(model_path=str(tmp_path / "none.gguf"))
    with pytest.raises(ConfigError, match=r"embedded\.model_path"):
        model_path(wrong)
    assert "none.gguf" in (available(wrong) or "")


def test_a_model_of_ones_own_needs_no_model_package(packages: Path, embedded: Embedded) -> None:
    assert available(embedded) is None
    assert str(model_path(embedded)) == embedded.model_path
