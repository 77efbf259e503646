import gc
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.config.schema import Limits
from gateway.daemon import process


@pytest.fixture
def _limits_restored() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_limits_restored")
def test_the_soft_limit_on_files_is_raised_above_what_connections_may_use() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    process.make_room_for_connections(Limits(connections_max=300))
    soft, still_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 300 + process.OTHER_FILES
    assert still_hard == hard


@pytest.mark.usefixtures("_limits_restored")
def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process.make_room_for_connections(Limits(connections_max=1))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_the_collector_still_runs_but_seldom() -> None:
    before = gc.get_threshold()
    try:
        process.spare_the_collector()
        assert gc.isenabled()
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_asking_the_allocator_to_give_memory_back_fails_nowhere() -> None:
    process.give_memory_back()


def test_who_is_aborted_tells_where_it_stood_and_nothing_that_it_held() -> None:
    script = (
        "import os; from gateway.daemon import process\n"
        "def held(secret):\n"
        "    os.abort()\n"
        "process.tell_where_it_was_aborted()\n"
        "held('canary')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert "line 3 in held" in done.stderr
    assert "canary" not in done.stderr
