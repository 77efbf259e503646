"""Tasks with a parent: loops that live exactly as long as a block."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these while the block lasts, and end them with it.

    One that fails ends the block too (the block's task is cancelled, and leaving
    raises an ExceptionGroup): nothing limps on half dead, systemd starts it anew.
    One that returns has done its work.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
