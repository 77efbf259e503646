import time

from gateway.telemetry.process import footprint, started_at


def test_a_running_process_has_memory_time_and_files() -> None:
    now = footprint()
    assert now.resident_bytes is not None
    assert now.resident_bytes > 1 << 20
    assert now.cpu_s > 0.0
    assert now.open_fds is not None
    assert now.open_fds >= 3


def test_it_began_before_now_and_after_the_boot() -> None:
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert booted_at <= started_at() + 0.01
    assert started_at() <= time.time()


def test_it_always_began_at_the_same_time() -> None:
    assert abs(started_at() - started_at()) < 0.01
