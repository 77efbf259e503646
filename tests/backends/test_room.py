import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.room import Room


class Guest:
    """Holds its part until it is told to leave."""

    def __init__(self, room: Room, amount: int) -> None:
        self._leaves = asyncio.Event()
        self.inside = False
        self.task = asyncio.ensure_future(self._stay(room, amount))

    async def _stay(self, room: Room, amount: int) -> None:
        async with room.hold(amount):
            self.inside = True
            await self._leaves.wait()
        self.inside = False

    async def leave(self) -> None:
        self._leaves.set()
        await self.task


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def entering(room: Room, *amounts: int) -> list[Guest]:
    guests = [Guest(room, amount) for amount in amounts]
    await settled()
    return guests


def inside(guests: list[Guest]) -> list[bool]:
    return [guest.inside for guest in guests]


async def test_as_many_are_inside_as_fit() -> None:
    guests = await entering(Room(10), 4, 6, 1)
    assert inside(guests) == [True, True, False]
    await guests[0].leave()
    await settled()
    assert inside(guests) == [False, True, True]
    await asyncio.gather(*(guest.leave() for guest in guests[1:]))


async def test_a_large_one_is_not_passed_by_small_ones() -> None:
    guests = await entering(Room(10), 4, 10, 1)
    assert inside(guests) == [True, False, False]
    await guests[0].leave()
    await settled()
    assert inside(guests) == [False, True, False]
    await guests[1].leave()
    await settled()
    assert guests[2].inside
    await guests[2].leave()


async def test_who_wants_more_than_there_is_has_all_of_it() -> None:
    guests = await entering(Room(10), 99, 1)
    assert inside(guests) == [True, False]
    await guests[0].leave()
    await settled()
    assert guests[1].inside
    await guests[1].leave()


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_who_is_cancelled_inside_or_in_line_leaves_its_room(who: int) -> None:
    room = Room(10)
    guests = await entering(room, 8, 8, 8)
    guests[who].task.cancel()
    await settled()
    for guest in guests:
        if not guest.task.done():
            await guest.leave()
            await settled()
    assert (await entering(room, 10))[0].inside


@given(st.lists(st.integers(1, 12), max_size=12))
def test_it_is_never_too_full_and_everybody_gets_in(amounts: list[int]) -> None:
    async def run() -> None:
        room, held, most = Room(10), 0, 0

        async def stay(amount: int) -> None:
            nonlocal held, most
            async with room.hold(amount):
                held += min(amount, room.size)
                most = max(most, held)
                for _ in range(amount % 4):
                    await asyncio.sleep(0)
                held -= min(amount, room.size)

        await asyncio.gather(*map(stay, amounts))
        assert most <= room.size
        assert held == 0

    asyncio.run(run())
