import os
import threading
from collections.abc import Iterator

import pytest

from gateway.telemetry.sink import LINES_MAX, FdWriter, LineSink


class Slow:
    """A place to write to that stands still while its gate is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken = False
        self.writes: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        self.entered.set()
        self.gate.wait()
        if self.broken:
            raise BrokenPipeError
        self.writes.append(data)

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self.writes).splitlines()


def render(item: str) -> bytes:
    return f"{item}\n".encode("ascii")


def render_dropped(lines: int) -> bytes:
    return b"%d dropped\n" % lines


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def sink(slow: Slow) -> Iterator[LineSink[str]]:
    sink = LineSink(slow, render, render_dropped)
    yield sink
    slow.gate.set()
    sink.close()


def test_lines_come_out_in_order_and_few_writes(slow: Slow, sink: LineSink[str]) -> None:
    for number in range(200):
        sink.put(str(number))
    assert sink.flush()
    assert slow.lines == [b"%d" % number for number in range(200)]
    assert len(slow.writes) < 20


def test_a_blocked_writer_blocks_nobody_and_what_does_not_fit_is_counted(
    slow: Slow, sink: LineSink[str]
) -> None:
    slow.gate.clear()
    sink.put("first")
    sink.hurry()
    slow.entered.wait()
    for number in range(LINES_MAX + 7):
        sink.put(str(number))
    assert sink.full
    assert sink.lines_dropped == 7
    assert not sink.flush(timeout_s=0.01)
    slow.gate.set()
    assert sink.flush(timeout_s=10.0)
    written = [line for line in slow.lines if not line.endswith(b" dropped")]
    assert len(written) == LINES_MAX + 1
    assert b"7 dropped" in slow.lines


def test_lines_that_break_in_the_writing_are_counted_and_later_ones_told(
    slow: Slow, sink: LineSink[str]
) -> None:
    slow.broken = True
    sink.put("lost")
    sink.flush()
    assert sink.lines_dropped == 1
    slow.broken = False
    sink.put("found")
    sink.flush()
    assert slow.lines == [b"1 dropped", b"found"]
    sink.put("again")
    sink.flush()
    assert slow.lines[2:] == [b"again"]


def test_an_item_that_can_not_be_told_does_not_silence_the_rest(
    slow: Slow, sink: LineSink[str]
) -> None:
    sink.put("é")
    sink.put("fine")
    sink.flush()
    assert slow.lines == [b"1 dropped", b"fine"]


def test_closing_writes_what_is_left(slow: Slow) -> None:
    sink = LineSink(slow, render, render_dropped)
    sink.put("last words")
    assert sink.close()
    assert slow.lines == [b"last words"]


def test_a_closed_one_is_flushed_without_waiting_for_nobody(sink: LineSink[str]) -> None:
    sink.put("last")
    assert sink.close()
    assert sink.flush(timeout_s=0.01)


def test_closing_leaves_a_writer_that_hangs(slow: Slow, sink: LineSink[str]) -> None:
    slow.gate.clear()
    sink.put("stuck")
    assert not sink.close(timeout_s=0.01)


def test_many_threads_lose_nothing(slow: Slow, sink: LineSink[str]) -> None:
    def talk(name: int) -> None:
        for number in range(500):
            sink.put(f"{name}-{number}")

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.flush()
    assert len(set(slow.lines)) == 2000


def test_a_pipe_that_nobody_reads_blocks_the_thread_alone() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    write = FdWriter(writing)
    os.close(writing)
    sink = LineSink(write, render, render_dropped)
    sink.put("at last")
    assert not sink.flush(timeout_s=0.01)
    for _ in range(LINES_MAX * 2):
        sink.put("more")
    assert sink.lines_dropped > 0
    reader, got = reading_all(reading)
    assert sink.close(timeout_s=10.0)
    write.close()
    reader.join()
    assert b"at last\n" in b"".join(got)


def reading_all(fd: int) -> tuple[threading.Thread, list[bytes]]:
    """A thread that reads a pipe until its other end is closed, and what it has read."""
    got: list[bytes] = []

    def read() -> None:
        with open(fd, "rb", buffering=0) as pipe:
            while piece := pipe.read(1 << 16):
                got.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, got


def test_a_pipe_made_non_blocking_by_somebody_else_gets_every_byte() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    write = FdWriter(writing)
    os.close(writing)
    reader, got = reading_all(reading)
    write(b"x" * (1 << 20))
    write.close()
    reader.join()
    assert sum(map(len, got)) == 1 << 20


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_tells_its_own_lines_and_not_its_parents() -> None:
    reading, writing = os.pipe()
    gate = Slow()
    sink = LineSink(FdWriter(writing), render, render_dropped)
    blocked = LineSink(gate, render, render_dropped)
    gate.gate.clear()
    blocked.put("the parent's")
    child = os.fork()
    if child == 0:
        sink.put("the child's")
        sink.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 100) == b"the child's\n"
    gate.gate.set()
    blocked.close()
    sink.close()
    os.close(reading)
    os.close(writing)
    assert gate.lines == [b"the parent's"]
