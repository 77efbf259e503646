"""What the benches start."""

import os
import sys
from pathlib import Path

import pytest

from bench import processes
from bench.processes import Child, Cores, DidNotStart
from gateway.config.load import load

MORE = "[limits]\nconnections_max = 100\n\n[timeouts]\nhead_timeout_seconds = 3.0\n"


def test_the_gateways_settings_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        processes.gateway_settings(
            port=8001, upstream_port=11500, slots=64, waiting_max=50, more=MORE
        )
    )
    config = load(path, {})
    assert (config.server.port, config.backend.url) == (8001, "http://127.0.0.1:11500")
    assert (config.backend.kind, config.backend.slots) == ("ollama", 64)
    assert config.queue.max_queue_size == 50
    assert config.limits.connections_max == 100
    # Every feature is on: nothing is switched off to look faster.
    assert (config.logging.level, config.logging.format) == ("info", "json")


def test_cores_are_apart_where_there_are_two() -> None:
    cores = Cores.of_this_machine()
    assert cores.measured | cores.others == os.sched_getaffinity(0)
    if len(os.sched_getaffinity(0)) > 1:
        assert not cores.measured & cores.others


def test_a_child_runs_on_its_cores_and_we_on_ours() -> None:
    before = os.sched_getaffinity(0)
    with processes.running_on(frozenset(sorted(before)[:1])):
        assert os.sched_getaffinity(0) == set(sorted(before)[:1])
    assert os.sched_getaffinity(0) == before


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    child = Child(
        [sys.executable, "-c", "raise SystemExit('no room')"],
        port=processes.free_port(),
        ready_path="/",
        log_path=tmp_path / "log",
        cores=frozenset(os.sched_getaffinity(0)),
    )
    with child, pytest.raises(DidNotStart, match="no room"):
        child.wait_ready()
