import asyncio

import attrs
import pytest

from gateway.core.ticket import Progress
from gateway.web.progress import ProgressComments, comment
from tests.engines import settle
from tests.fakes import ManualClock

EVERY_S = 5.0
QUEUED = Progress(request_id="r", model="m", state="queued", position=2, wait_s=12.3)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (QUEUED, b": queued 3, about 12 s\n\n"),
        (attrs.evolve(QUEUED, position=0, wait_s=0.2), b": queued 1, about 1 s\n\n"),
        (attrs.evolve(QUEUED, wait_s=3600.0), b": queued 3, about 3600 s\n\n"),
        (attrs.evolve(QUEUED, state="loading"), b": loading the model\n\n"),
        (attrs.evolve(QUEUED, state="prefill"), b": reading the prompt\n\n"),
        (attrs.evolve(QUEUED, state="decode"), b": running\n\n"),
    ],
)
def test_a_comment_says_where_it_is(progress: Progress, said: bytes) -> None:
    assert comment(progress) == said


class Told:
    """A client who waits, and what it is told."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self.clock = ManualClock()
        self.progress: Progress | None = QUEUED
        self.written: list[bytes] = []
        self.error: Exception | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.comments = ProgressComments(
            clock=self.clock, every_s=every_s, ask=lambda: self.progress, write=self._write
        )
        self.comments.start()

    async def _write(self, record: bytes) -> None:
        await self.reads.wait()
        if self.error is not None:
            raise self.error
        self.written.append(record)


@pytest.fixture
async def told() -> Told:
    return Told()


async def test_the_first_comes_after_a_while_and_then_one_after_the_other(told: Told) -> None:
    await told.clock.advance(EVERY_S - 0.1)
    assert told.written == []
    await told.clock.advance(0.1)
    assert told.written == [comment(QUEUED)]
    told.progress = loading = attrs.evolve(QUEUED, state="loading")
    await told.clock.advance(3 * EVERY_S)
    assert told.written == [comment(QUEUED), *[comment(loading)] * 3]
    await told.comments.stop()


async def test_once_stopped_there_are_no_more(told: Told) -> None:
    await told.clock.advance(EVERY_S)
    await told.comments.stop()
    await told.clock.advance(10 * EVERY_S)
    assert len(told.written) == 1
    assert told.clock.pending == 0


async def test_stopped_before_the_first_there_are_none(told: Told) -> None:
    await told.comments.stop()
    await told.clock.advance(10 * EVERY_S)
    assert told.written == []


async def test_stopping_waits_for_the_one_that_is_being_written(told: Told) -> None:
    """Or the answer would begin in the middle of it."""
    told.reads.clear()
    await told.clock.advance(EVERY_S)
    stopping = asyncio.create_task(told.comments.stop())
    await settle()
    assert not stopping.done()
    told.reads.set()
    await stopping
    assert len(told.written) == 1
    assert told.clock.pending == 0


async def test_none_is_due_while_one_is_being_written(told: Told) -> None:
    told.reads.clear()
    await told.clock.advance(10 * EVERY_S)
    told.reads.set()
    await settle()
    assert len(told.written) == 1
    await told.clock.advance(EVERY_S)
    assert len(told.written) == 2
    told.comments.cancel()


async def test_a_client_that_is_gone_is_told_no_more(told: Told) -> None:
    told.error = ConnectionResetError()
    await told.clock.advance(EVERY_S)
    assert told.clock.pending == 0
    await told.comments.stop()


async def test_of_what_is_not_known_nothing_is_told(told: Told) -> None:
    told.progress = None
    await told.clock.advance(EVERY_S)
    assert told.written == []
    await told.comments.stop()


async def test_once_cancelled_there_are_no_more_even_if_one_is_being_written(told: Told) -> None:
    told.reads.clear()
    await told.clock.advance(EVERY_S)
    told.comments.cancel()
    told.reads.set()
    await settle()
    assert told.clock.pending == 0


async def test_a_client_that_wants_none_gets_none() -> None:
    told = Told(every_s=0.0)
    await told.clock.advance(1000.0)
    assert told.written == []
    await told.comments.stop()
