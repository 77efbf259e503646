import asyncio

import pytest

from gateway.daemon.background import background


async def test_loops_end_with_their_block() -> None:
    ended = asyncio.Event()

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(loop()):
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_loop_that_dies_ends_the_block() -> None:
    async def dies() -> None:
        raise RuntimeError("dead")

    with pytest.raises(ExceptionGroup) as caught:
        async with background(dies()):
            await asyncio.Event().wait()
    assert caught.group_contains(RuntimeError, match="dead")


async def test_a_loop_that_is_done_ends_nothing() -> None:
    async def done() -> None:
        pass

    async with background(done()):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
