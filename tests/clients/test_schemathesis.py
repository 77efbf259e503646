"""Schemathesis reads `/openapi.json` and sends what it makes of it: some right, most wrong."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest

from tests.real.gateway_process import KEY, GatewayProcess

CLIENT: Final = "schemathesis"

TIMEOUT_S: Final = 600.0
EXAMPLES: Final = 25
SEED: Final = 1

NOT_SAID_BY_A_SCHEMA: Final = "positive_data_acceptance"
"""A body that fits may be a 4xx all the same: a tool that must be called has to be among the
tools, `stream_options` wants `stream`. It is left out, and all other checks are made."""


def name_models(description: Any) -> Any:
    """Have it ask for models that are there; else nearly all of its requests end at a 404."""
    there = ["default", "echo"]
    for name, body in description["components"]["schemas"].items():
        if name.endswith("_body") and "model" in body.get("properties", {}):
            none = [] if "model" in body.get("required", ()) else [None]
            body["properties"]["model"] = {"enum": [*there, *none]}
    return description


@pytest.mark.covers(CLIENT, "no answer but what is described, and never a 500")
def test_whatever_is_sent_the_answer_is_as_described(echo: GatewayProcess, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{echo.url}/openapi.json", timeout=30) as answer:
        description = name_models(json.load(answer))
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(description), "utf-8")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            str(path),
            f"--url={echo.url}",
            f"--header=Authorization: Bearer {KEY}",
            "--exclude-path=/gateway/events",  # It goes on for ever.
            "--exclude-path=/gateway/models/unload",  # This engine can't, and 501 says so.
            "--checks=all",
            f"--exclude-checks={NOT_SAID_BY_A_SCHEMA}",
            f"--max-examples={EXAMPLES}",
            f"--seed={SEED}",
            "--continue-on-failure",
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
