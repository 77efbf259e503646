"""The `llm` command, as it is: a process whose output is read."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.clients.conftest import TIMEOUT_S
from tests.real.gateway_process import KEY, MODEL, GatewayProcess

CLIENT: Final = "llm"

MODELS: Final = """\
- model_id: chat
  model_name: {model}
  api_base: {gateway}/v1
  api_key_name: gateway
  supports_schema: true
  supports_tools: true
- model_id: completion
  model_name: {model}
  api_base: {gateway}/v1
  api_key_name: gateway
  completion: true
- model_id: calls
  model_name: calls
  api_base: {scripted}/v1
  api_key_name: gateway
  supports_tools: true
- model_id: breaks
  model_name: breaks
  api_base: {scripted}/v1
  api_key_name: gateway
"""

Llm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def llm(
    gateway: GatewayProcess, scripted: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> Llm:
    home = tmp_path_factory.mktemp("llm")
    models = MODELS.format(model=MODEL, gateway=gateway.url, scripted=scripted.url)
    (home / "extra-openai-models.yaml").write_text(models, "utf-8")
    (home / "keys.json").write_text(json.dumps({"gateway": KEY}), "utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / "llm"), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LLM_USER_PATH": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.covers(CLIENT, "chat stream")
def test_a_prompt_says_the_same_streamed_and_whole(llm: Llm) -> None:
    asked = ["-m", "chat", "-o", "temperature", "0", "-o", "max_tokens", "16", "Say hello."]
    streamed = llm("--usage", *asked)
    assert said(streamed) == said(llm("--no-stream", *asked))
    assert "output" in streamed.stderr  # Tokens, which a stream tells only when it is asked.


@pytest.mark.covers(CLIENT, "schema")
def test_an_answer_fits_its_schema(llm: Llm) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Ada", "Bob"]}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    done = llm("-m", "chat", "-o", "temperature", "0", "--schema", json.dumps(schema), "Ada is 36.")
    answer = json.loads(said(done))
    assert answer["name"] in ("Ada", "Bob")
    assert isinstance(answer["age"], int)


@pytest.mark.covers(CLIENT, "tools")
@pytest.mark.parametrize("how", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_tools_are_run_and_their_results_told(llm: Llm, how: list[str]) -> None:
    function = "def weather(city: str) -> str:\n    return f'rain in {city}'"
    prompt = 'Weather? {"city": "Oslo"} {"city": "Rome"}'
    done = llm("-m", "calls", "--functions", function, *how, prompt)
    assert said(done) == "It is rain in Oslo and rain in Rome"


@pytest.mark.covers(CLIENT, "completions")
def test_a_completion_goes_on_with_the_prompt(llm: Llm) -> None:
    asked = ["-m", "completion", "-o", "temperature", "0", "-o", "max_tokens", "12"]
    streamed = said(llm(*asked, "One, two, three,"))
    assert "four" in streamed.lower()
    assert streamed == said(llm("--no-stream", *asked, "One, two, three,"))


@pytest.mark.covers(CLIENT, "conversation")
def test_a_conversation_goes_on(llm: Llm) -> None:
    """Earlier turns are sent again, as this client spells them."""
    function = "def weather(city: str) -> str:\n    return f'rain in {city}'"
    assert said(llm("-m", "calls", "--functions", function, 'Weather? {"city": "Oslo"}'))
    assert said(llm("-c", "And now?")) == "It is rain in Oslo"


@pytest.mark.covers(CLIENT, "broken stream")
def test_a_stream_that_breaks_is_an_error(llm: Llm) -> None:
    done = llm("-m", "breaks", "Hello?")
    assert done.returncode != 0
    assert "half an ans" in done.stdout
    assert "engine" in done.stderr
