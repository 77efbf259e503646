"""Supervised children for tests: what is told of them, waited for by event and not by time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path


def command(manners: str) -> tuple[str, ...]:
    """Runs `fake_child.py`."""
    return (sys.executable, "-P", str(Path(__file__).with_name("fake_child.py")), manners)


class Told:
    """What a supervisor tells, in order."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, sentence: str) -> None:
        self.all.append(sentence)
        self._news.set()

    async def wait_for(self, words: str, *, times: int = 1) -> str:
        """The sentence with these words in it that is told as the `times`-th of its kind."""
        while True:
            found = [sentence for sentence in self.all if words in sentence]
            if len(found) >= times:
                return found[times - 1]
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def running(loop: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """The task of a `run()`, cancelled with the block unless it has ended."""
    task = asyncio.ensure_future(loop)
    assert isinstance(task, asyncio.Task)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()


@asynccontextmanager
async def dying(pid: int) -> AsyncIterator[None]:
    """Something in the block ends this process, whoever's child it is; waits until it has."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    handle = os.pidfd_open(pid)
    loop.add_reader(handle, gone.set)
    try:
        yield
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not asked about does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
