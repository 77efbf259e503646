"""Gateways that the clients are pointed at, and the matrix of what they were seen to do."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.clients import scripted_engine as script
from tests.clients.scripted_engine import ScriptedEngine, scripted_engine
from tests.real.gateway_process import KEY, MODEL, GatewayProcess, serving

GATEWAY_PYTHON: Final = os.environ["GATEWAY_PYTHON"]
"""The interpreter that the gateway is installed for; these tests have another."""

TIMEOUT_S: Final = 120.0

_outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """In front of the embedded engine: a real model."""
    directory = tmp_path_factory.mktemp("embedded")
    with serving(
        directory,
        python=GATEWAY_PYTHON,
        GATEWAY__BACKEND__KIND="llamacpp",
        REQUEST_TIMEOUT_SECONDS=str(TIMEOUT_S),
        # What is tested here is what clients understand, not who is let in.
        GATEWAY__SCHEDULING__DEADLINES="false",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """In front of no model at all, which calls the tool and fits the schema that it is given."""
    directory = tmp_path_factory.mktemp("echo")
    with serving(
        directory,
        python=GATEWAY_PYTHON,
        GATEWAY__BACKEND__KIND="echo",
        MODEL_NAME="echo",
        GATEWAY__SCHEDULING__DEADLINES="false",
        # What tries every wrong key there is would soon be told to wait.
        GATEWAY__LIMITS__WRONG_KEYS_PER_MINUTE_MAX="1000000",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def scripted(
    engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """In front of an engine whose answers are written down."""
    with serving(
        tmp_path_factory.mktemp("scripted"),
        python=GATEWAY_PYTHON,
        GATEWAY__BACKEND__KIND="openai",
        OLLAMA_URL=engine.url,
        MODEL_NAME=script.MODEL,
        GATEWAY__GENERATION__WARM_UP="false",
        GATEWAY__SCHEDULING__DEADLINES="false",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def api(gateway: GatewayProcess) -> str:
    """Where OpenAI's API begins."""
    return f"{gateway.url}/v1"


@pytest.fixture(scope="session")
def key() -> str:
    return KEY


@pytest.fixture(scope="session")
def model() -> str:
    return MODEL


# --- Clients that are not written in Python ---------------------------------------


_TESTED: Final = re.compile(r"^ *(not ok|ok) \d+ - (.*)\n((?: +.*\n)*)", re.MULTILINE)
"""One test in TAP: how it went, its name, and what is told of it."""


@cache
def node_results(file: Path, gateway: str, scripted: str) -> dict[str, str]:
    """What the tests of a script said, by their names: "" where one passed.

    Args:
        gateway: Where the gateway listens that has a real model.
        scripted: And the one in front of the scripted engine.
    """
    place = Path(os.environ["CLIENTS_NODE"])
    # A module finds its packages from where it lies.
    for each in file.parent.glob("*.mjs"):
        shutil.copy(each, place)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", file.name],
        cwd=place,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "GATEWAY_URL": gateway,
            "GATEWAY_KEY": KEY,
            "GATEWAY_MODEL": MODEL,
            "SCRIPTED_URL": scripted,
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return {
        name: "" if went == "ok" else told + done.stderr
        for went, name, told in _TESTED.findall(done.stdout)
    }


# --- The matrix ----------------------------------------------------------------------


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    for name, value in report.user_properties:
        if name == "covers":
            client, feature = value
            _outcomes[client, feature].add(report.outcome)


@pytest.fixture(autouse=True)
def _covered(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("covers")
    if marker is not None:
        request.node.user_properties.append(("covers", marker.args))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each client was seen to do."""
    if not _outcomes:
        return
    terminalreporter.section("clients and what they were seen to do")
    width = max(len(client) for client, _ in _outcomes)
    for client in sorted({client for client, _ in _outcomes}):
        told = [
            feature if outcomes == {"passed"} else f"{feature} ({', '.join(sorted(outcomes))})"
            for (name, feature), outcomes in _outcomes.items()
            if name == client
        ]
        terminalreporter.line(f"{client:{width}}  {', '.join(told)}")
