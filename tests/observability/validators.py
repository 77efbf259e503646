"""Programs of others that judge our files."""

import os
from pathlib import Path
from typing import Final

import pytest

from bench import prometheus

ROOT: Final = Path(__file__).parents[2]


def validator(name: str) -> str:
    """The program. Where it is missing CI fails, and anybody else is told how to get it."""
    try:
        return str(prometheus.program(name))
    except prometheus.NotFound as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
