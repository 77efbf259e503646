"""The real `ollama` command line before the gateway, on an Ollama and on the embedded model."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from gateway.backends.llamacpp import available, model_path
from gateway.config.schema import Embedded
from tests.real.gateway_process import MODEL, GatewayProcess, serving
from tests.real.ollama_cli import PROMPT, Cli
from tests.real.ollama_process import CONTEXT, OllamaProcess, ollama_program, running_ollama
from tests.real.processes import PATIENCE_S, free_port, wait_until

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

# The command line can send no key.
KEYLESS: Final = {
    "API_KEY": "",
    "REQUEST_TIMEOUT_SECONDS": "300",
    # Nor can it say how long an answer may be.
    "GATEWAY__GENERATION__MAX_TOKENS_DEFAULT": "24",
}
COLOR: Final = {
    "type": "object",
    "properties": {"color": {"type": "string", "enum": ["red", "blue"]}},
    "required": ["color"],
}
MANAGES: Final = {"GATEWAY__CALLERS__ANONYMOUS__MANAGE_MODELS": "true"}


@attrs.frozen
class Before:
    """A gateway and the command line before it.

    Attributes:
        ollama: Behind it; None: the embedded model.
    """

    gateway: GatewayProcess
    cli: Cli
    ollama: OllamaProcess | None


@pytest.fixture(scope="module", params=["ollama", "embedded"])
def before(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Before]:
    with ExitStack() as stack:
        ollama: OllamaProcess | None = None
        url = f"http://127.0.0.1:{free_port()}"
        if request.param == "ollama":
            ollama = stack.enter_context(running_ollama())
            ollama.create(MODEL, f"FROM {model_path(Embedded())}\nPARAMETER num_ctx {CONTEXT}\n")
            url = ollama.url
        elif reason := available():
            pytest.skip(reason)
        gateway = stack.enter_context(
            serving(tmp_path_factory.mktemp("gateway"), OLLAMA_URL=url, **KEYLESS, **MANAGES)
        )
        cli = Cli(ollama_program(), gateway.url, tmp_path_factory.mktemp("home"))
        yield Before(gateway, cli, ollama)


def loads(gateway: GatewayProcess) -> int:
    """How often a model was asked for without anything to answer."""
    asked = [line for line in gateway.lines() if line.get("route") == "/api/generate"]
    return sum(not line.get("completion_tokens") for line in asked if line["status"] == 200)


def chats(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [line for line in gateway.lines() if line.get("route") == "/api/chat"]


def test_models_are_listed(before: Before) -> None:
    done = before.cli("list")
    assert done.status == 0
    name, digest, size, unit, *_ = done.out.splitlines()[1].split()
    assert name == MODEL
    assert re.fullmatch("[0-9a-f]{12}", digest)
    assert 90 <= int(size) <= 110
    assert unit == "MB"


def test_a_model_is_shown(before: Before) -> None:
    done = before.cli("show", MODEL)
    assert done.status == 0
    shown = " ".join(done.out.split())
    for told in ("parameters 134.5", "context length 8192", "Q4_1", "completion"):
        assert told in shown


def test_a_model_that_runs_is_listed_with_its_context(before: Before) -> None:
    assert before.cli("run", MODEL, "Hi").status == 0
    row = before.cli("ps").out.splitlines()[1].split()
    assert row[0] == MODEL
    assert str(CONTEXT if before.ollama else 4096) in row
    assert "CPU" in row
    assert before.ollama is not None or "Forever" in row


def test_a_question_is_answered(before: Before) -> None:
    done = before.cli("run", MODEL, "What is the capital of France?")
    assert done.status == 0
    # Words, in whatever language a model of this size falls into.
    assert len(re.findall(r"\w{2,}", done.out)) > 2
    verbose = before.cli("run", MODEL, "--verbose", "Say hi.")
    assert re.search(r"eval count: +\d+ token\(s\)\neval duration: +\S+s\n", verbose.err)
    assert re.search(r"eval rate: +[\d.]+ tokens/s", verbose.err)


def test_an_answer_is_json_where_that_is_wanted(before: Before) -> None:
    done = before.cli("run", MODEL, "--format", json.dumps(COLOR), "Name a colour.")
    assert json.loads(done.out)["color"] in ("red", "blue")
    assert before.cli("run", MODEL, "--format", "json", "Name a colour.").out.lstrip()[0] == "{"


def test_a_model_that_does_not_reason_is_not_asked_to(before: Before) -> None:
    assert before.cli("run", MODEL, "--think=false", "Hi").status == 0
    done = before.cli("run", MODEL, "--think", "Hi")
    # The embedded engine is told nothing of it; the caller is, in a header.
    assert done.status == (1 if before.ollama else 0)
    assert before.ollama is None or "reason" in done.err


def test_a_conversation_at_a_terminal(before: Before) -> None:
    with before.cli.at_a_terminal("run", MODEL) as terminal:
        terminal.wait_for(PROMPT)
        # It has loaded the model before it asks for a question.
        wait_until(lambda: loads(before.gateway) == 1, "the load to be told")
        terminal.say("Say hello.")
        terminal.wait_for(PROMPT)
        wait_until(lambda: bool(chats(before.gateway)), "the answer to be told")
        [answered] = chats(before.gateway)
        assert answered["outcome"] == "completed"
        assert answered["completion_tokens"] > 1
        terminal.say("/bye")
        assert terminal.process.wait(PATIENCE_S) == 0


def test_a_model_that_is_not_there_is_said_to_be_missing(before: Before) -> None:
    done = before.cli("show", "nobody-has-this")
    assert done.status == 1
    assert "not found" in done.err


def test_a_model_is_put_out_of_memory_where_that_can_be(before: Before) -> None:
    done = before.cli("stop", MODEL)
    if before.ollama is None:
        assert done.status == 1
        assert "keeps its models in memory" in done.err
    else:
        assert done.status == 0
        assert MODEL not in before.cli("ps").out


def test_models_are_managed_where_there_is_an_ollama(before: Before, tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f'FROM {model_path(Embedded())}\nSYSTEM "You are a pirate."\n')
    made = before.cli("create", "pirate", "-f", str(modelfile))
    if before.ollama is None:
        assert made.status == 1
        assert "No engine here is an Ollama" in made.err
        return
    assert made.status == 0, made.err
    assert "pirate:latest" in before.cli("list").out
    assert "pirate" in before.cli("show", "pirate").out
    assert before.cli("cp", "pirate", "corsair").status == 0
    assert before.cli("run", "corsair", "Hi").status == 0
    for name in ("pirate", "corsair"):
        assert before.cli("rm", name).status == 0
    listed = before.cli("list").out
    assert "pirate" not in listed
    assert "corsair" not in listed


def test_who_may_not_manage_models_is_told_so(before: Before, tmp_path: Path) -> None:
    if before.ollama is None:
        pytest.skip("there is nothing to manage")
    with serving(tmp_path, OLLAMA_URL=before.ollama.url, **KEYLESS) as gateway:
        cli = Cli(ollama_program(), gateway.url, tmp_path)
        for command in (("pull", "x"), ("rm", MODEL), ("cp", MODEL, "x"), ("stop", MODEL)):
            done = cli(*command)
            assert done.status == 1, command
            assert "may not manage models" in done.err
        assert MODEL in cli("list").out
