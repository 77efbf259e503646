import asyncio
from collections.abc import Iterator

import pytest

from gateway.web.stall import StallWatch
from tests.web.raw import FullTransport

TIMEOUT_S = 30.0


class Watched:
    """A watch whose time the test tells."""

    def __init__(self) -> None:
        self.transport = FullTransport(waiting=1000)
        self.written = 5000
        self.stalls = 0
        self.loop = asyncio.new_event_loop()
        self.began_at = self.loop.time()
        self.watch = StallWatch(
            self.transport,
            timeout_s=TIMEOUT_S,
            bytes_written=lambda: self.written,
            on_stall=self.stall,
            loop=self.loop,
        )

    def stall(self) -> None:
        assert not self.transport.aborted
        self.stalls += 1

    def after(self, seconds: float) -> None:
        self.watch.check(self.began_at + seconds + 1.0)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.watch.end()
    watched.loop.close()


def test_who_takes_nothing_is_cut_off_after_the_timeout(watched: Watched) -> None:
    watched.after(10.0)
    watched.after(28.0)
    assert watched.stalls == 0
    watched.after(30.0)
    assert watched.transport.aborted
    assert watched.stalls == 1


def test_who_takes_a_little_now_and_then_is_not(watched: Watched) -> None:
    for seconds in range(20, 500, 20):
        watched.transport.waiting -= 1
        watched.after(float(seconds))
    assert watched.stalls == 0
    watched.after(530.0)
    assert watched.transport.aborted


def test_what_is_written_meanwhile_hides_neither_progress_nor_its_lack(watched: Watched) -> None:
    watched.written += 500
    watched.transport.waiting += 400
    watched.after(30.0)
    assert watched.stalls == 0, "100 were taken"
    watched.written += 500
    watched.transport.waiting += 500
    watched.after(60.0)
    assert watched.transport.aborted


def test_it_ends_when_all_is_taken(watched: Watched) -> None:
    watched.transport.waiting = 0
    watched.after(60.0)
    assert not watched.watch.watching
    assert not watched.transport.aborted
