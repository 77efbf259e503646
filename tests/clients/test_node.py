"""The clients that are written in JavaScript: each test in node/*.test.mjs is a case here.

A test is called `FEATURE: what is true of it`.
"""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.clients.conftest import node_results
from tests.real.gateway_process import GatewayProcess

CLIENTS: Final = {
    "anthropic": "@anthropic-ai/sdk",
    "ollama": "ollama (npm)",
    "openai": "openai (npm)",
    "vercel": "Vercel AI SDK",
}
"""What the scripts are about, by their names."""

_NAME: Final = re.compile(r'^test\("([^"]+)"', re.MULTILINE)

CASES: Final = [
    pytest.param(file, name, id=f"{stem}: {name}", marks=pytest.mark.covers(client, feature))
    for stem, client in CLIENTS.items()
    for file in [Path(__file__).parent / "node" / f"{stem}.test.mjs"]
    for name in _NAME.findall(file.read_text("utf-8"))
    for feature in [name.partition(":")[0]]
]


@pytest.mark.parametrize(("file", "name"), CASES)
def test_a_script_says(
    file: Path, name: str, gateway: GatewayProcess, scripted: GatewayProcess
) -> None:
    said = node_results(file, gateway.url, scripted.url).get(name, "It did not run.")
    assert not said, said
