"""One machine for all tests of this folder, and the figures that they leave."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.systemd import machine as machines
from tests.systemd.machine import Machine
from tests.systemd.service import CONFIG, ENGINE_UNIT, Service

HERE: Final = Path(__file__).parent

_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash[_FIGURES]
    if figures:
        terminalreporter.section("figures")
        for name, value in figures:
            terminalreporter.write_line(f"{name:<60} {value}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> "Figure":
    return Figure(request.config.stash[_FIGURES])


class Figure:
    """Keeps what was measured, for the end of the report."""

    def __init__(self, kept: list[tuple[str, str]]) -> None:
        self._kept = kept

    def __call__(self, name: str, value: object) -> None:
        self._kept.append((name, str(value)))


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Booted, with the gateway installed and not started."""
    if lack := machines.lacking():
        pytest.fail(f"to boot a machine needs {lack}", pytrace=False)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gateway-systemd"
    # Half a gigabyte, of which nothing is to be kept.
    with tempfile.TemporaryDirectory(prefix="gateway-machine-") as folder:
        root = machines.copied(machines.debian(cache), Path(folder) / "root")
        machines.install(root, machines.wheels(cache))
        for script in ("engine.py", "load.py"):
            (root / "usr/local/lib" / script).write_bytes((HERE / script).read_bytes())
        (root / "etc/systemd/system/ollama.service").write_text(ENGINE_UNIT)
        (root / "etc/gateway/gateway.toml").write_text(CONFIG)
        with machines.booted(root) as booted:
            yield booted


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """The unit as it was installed, stopped; whatever a test does to it is undone."""
    service = Service(machine)
    try:
        yield service
    finally:
        with contextlib.suppress(AssertionError):
            service.undo()
