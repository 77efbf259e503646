"""Room that is shared: whoever wants some waits, in order of arrival, until there is enough."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Keeps: what is held together is never more than `size`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size
        self._turn = asyncio.Lock()
        self._given_back = asyncio.Event()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """So much of it while the block lasts; all of it for who wants more than there is."""
        amount = min(amount, self.size)
        # Only the first in line looks for room: a large one is not passed by small ones for ever.
        async with self._turn:
            while self._left < amount:
                self._given_back.clear()
                await self._given_back.wait()
            self._left -= amount
        try:
            yield
        finally:
            self._left += amount
            self._given_back.set()
