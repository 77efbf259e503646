"""`gateway check --deep` before a real Ollama: what it says is what that one then does."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.backends.llamacpp import model_path
from gateway.cli.deep.engine_facts import modelfile_context, token_bytes
from gateway.config.schema import Embedded
from tests.real.gateway_process import MODEL, ROOT
from tests.real.ollama_process import CONTEXT, OllamaProcess, running_ollama
from tests.real.processes import PATIENCE_S, free_port

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

ESTIMATE_SHARE_MAX: Final = 0.15
"""How far the estimate of a model's memory may be from what it then takes."""


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaProcess]:
    with running_ollama() as ollama:
        ollama.create(MODEL, f"FROM {model_path(Embedded())}\nPARAMETER num_ctx {CONTEXT}\n")
        yield ollama


def ask(ollama: OllamaProcess, path: str, body: Any) -> Any:
    request = urllib.request.Request(ollama.url + path, data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def check(folder: Path, **environment: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and what was looked at → verdict and words."""
    config = folder / "gateway.toml"
    config.touch()
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--deep", "--json"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GATEWAY_CONFIG": str(config),
            "PORT": str(free_port()),
            "STATE_DIRECTORY": str(folder),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)["findings"]
    return done.returncode, {one["about"]: (one["verdict"], one["what"]) for one in told}


def test_an_ollama_that_is_well_has_no_fault(ollama: OllamaProcess, tmp_path: Path) -> None:
    code, told = check(tmp_path, OLLAMA_URL=ollama.url, MODEL_NAME=MODEL, SLOTS="1")
    assert code == 0
    assert told["engine default"][0] == "ok"
    assert told[f"model {MODEL}"] == ("ok", "on default; the default model")
    # Read out of the process that listens there.
    assert told["keep-alive of default"][0] == "warn"
    assert told["slots of default"] == ("ok", "Ollama runs 1 at once, and slots says so")
    assert told[f"memory for {MODEL}"][0] == "ok"
    assert f"with a context of {CONTEXT}" in told[f"memory for {MODEL}"][1]


def test_more_slots_than_it_runs_and_a_model_that_it_lacks_are_told(
    ollama: OllamaProcess, tmp_path: Path
) -> None:
    code, told = check(tmp_path, OLLAMA_URL=ollama.url, MODEL_NAME="no-such", SLOTS="4")
    assert code == 1
    assert told["model no-such"][0] == "fail"
    assert told["slots of default"][0] == "warn"


def test_what_a_model_takes_is_what_was_said_before_it_was_loaded(
    ollama: OllamaProcess, tmp_path: Path
) -> None:
    shown = ask(ollama, "/api/show", {"model": MODEL})
    per_token, context = token_bytes(shown["model_info"]), modelfile_context(shown["parameters"])
    assert per_token is not None
    assert context == CONTEXT
    size = model_path(Embedded()).stat().st_size
    ask(ollama, "/api/generate", {"model": MODEL})
    (loaded,) = ollama.loaded()
    assert size + per_token * context == pytest.approx(loaded["size"], rel=ESTIMATE_SHARE_MAX)
    _, told = check(tmp_path, OLLAMA_URL=ollama.url, MODEL_NAME=MODEL)
    assert "it is loaded and takes" in told[f"memory for {MODEL}"][1]


def test_an_ollama_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    code, told = check(
        tmp_path,
        OLLAMA_URL=f"http://127.0.0.1:{free_port()}",
        GATEWAY__BACKEND__KIND="ollama",
        MODEL_NAME=MODEL,
    )
    assert code == 1
    assert told["engine default"][0] == "fail"
    assert "connection refused" in told["engine default"][1]
