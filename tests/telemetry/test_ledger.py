"""The ledger over a store that the test makes fail, hang and work again."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest

from gateway.core.errors import ConfigError, StorageBusy
from gateway.core.messages import Usage
from gateway.daemon.background import background
from gateway.telemetry import ledger as ledger_module
from gateway.telemetry.ledger import DAY_S, SAVE_EVERY_S, Ledger
from gateway.telemetry.usage import By, Counts, Key
from gateway.telemetry.usage_store import MemoryStore, StoreFailed
from tests.fakes import ManualClock
from tests.telemetry.records import record

NOON = 1_795_348_800.0
"""2026-11-22, 12:00 UTC."""

DAY = "2026-11-22"


class Disk(MemoryStore):
    """Keeps what is added, unless it is told to fail or to take its time.

    Attributes:
        failure: Raised by everything while it is set.
        open: What is asked waits for it.
        batches: As they were added, or tried to be.
        threads: That have asked.
    """

    def __init__(self) -> None:
        super().__init__(400)
        self.failure: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.batches: list[str] = []
        self.threads: set[str] = set()
        self.closed = False

    def add(self, batch: str, counts: Mapping[Key, Counts]) -> None:
        self.batches.append(batch)
        self._asked()
        super().add(batch, counts)

    def totals(self, since: str, by: By) -> dict[str, Counts]:
        self._asked()
        return super().totals(since, by)

    def close(self) -> None:
        self.closed = True

    def _asked(self) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(10.0)
        if self.failure is not None:
            raise self.failure


@attrs.define(eq=False)
class House:
    disk: Disk
    clock: ManualClock
    ledger: Ledger
    failures: list[None]

    def told(self, tokens: int = 1, **changes: object) -> None:
        """A request of alice's has ended."""
        usual = {"caller": "alice", "model": "m", "service_s": 0.0, "charged": Usage(prompt=tokens)}
        self.ledger.told(record(**{**usual, **changes}))


def house(disk: Disk | None = None, wall: float = NOON) -> House:
    disk, clock = disk or Disk(), ManualClock(wall=wall)
    failures: list[None] = []

    def failed() -> None:
        failures.append(None)

    ledger = Ledger(store=disk, clock=clock, failed=failed, run="run")
    ledger.set_models(["m", "n:latest"])
    ledger.recall()
    return House(disk, clock, ledger, failures)


@asynccontextmanager
async def running(made: House) -> AsyncIterator[None]:
    async with background(made.ledger.run()):
        yield


async def until(condition: Callable[[], bool]) -> None:
    """The store answers on a thread of its own."""
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 (that thread tells nobody)
            await asyncio.sleep(0)


async def test_a_batch_goes_to_the_store_each_second_if_there_is_one() -> None:
    made = house()
    async with running(made):
        made.told()
        made.told()
        await made.clock.advance(SAVE_EVERY_S)
        await until(lambda: made.disk.totals(DAY, "caller") == {"alice": Counts(2, 0, 0, 2)})
        await made.clock.advance(10 * SAVE_EVERY_S)
    assert made.disk.batches == ["run-1"]


async def test_what_is_left_at_the_end_is_stored_and_the_store_closed() -> None:
    made = house()
    async with running(made):
        await asyncio.sleep(0)
        made.told()
    assert made.disk.totals(DAY, "caller") == {"alice": Counts(1, 0, 0, 1)}
    assert made.disk.closed


async def test_what_has_come_since_a_batch_failed_is_stored_at_the_end_too() -> None:
    made = house()
    async with running(made):
        await asyncio.sleep(0)
        made.disk.failure = StoreFailed("locked")
        made.told(1)
        await made.ledger.save()
        made.told(2)
        made.disk.failure = None
    assert made.disk.totals(DAY, "caller") == {"alice": Counts(2, 0, 0, 3)}
    assert made.disk.batches == ["run-1", "run-1", "run-2"]


async def test_a_batch_that_failed_is_sent_again_under_its_name_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = house()
    made.disk.failure = StoreFailed("disk full")
    with caplog.at_level(logging.INFO):
        made.told(1)
        await made.ledger.save()
        made.told(2)
        await made.ledger.save()
        assert len(made.failures) == 2
        made.disk.failure = None
        await made.ledger.save()
        await made.ledger.save()
    assert made.disk.batches == ["run-1", "run-1", "run-1", "run-2"]
    assert made.disk.totals(DAY, "caller") == {"alice": Counts(2, 0, 0, 3)}
    said = [line.getMessage() for line in caplog.records]
    assert said == [
        "usage can't be stored, it is kept in memory: disk full",
        "usage is stored again",
    ]


async def test_what_waits_for_a_disk_is_counted_and_not_listed() -> None:
    made = house()
    made.disk.failure = StoreFailed("disk full")
    for _ in range(1000):
        made.told()
    await made.ledger.save()
    for _ in range(1000):
        made.told()
    assert (len(made.ledger._sending), len(made.ledger._pending)) == (1, 1)


async def test_totals_have_what_is_stored_what_is_sent_and_what_waits() -> None:
    made = house()
    made.told(1)
    await made.ledger.save()
    made.told(2)
    assert await made.ledger.totals(DAY, "caller") == {"alice": Counts(2, 0, 0, 3)}
    made.disk.failure = StoreFailed("locked")
    await made.ledger.save()
    made.told(4)
    made.disk.failure = None
    assert await made.ledger.totals(DAY, "caller") == {"alice": Counts(3, 0, 0, 7)}
    assert await made.ledger.totals("2026-11-23", "caller") == {}


@pytest.mark.parametrize("failure", [StoreFailed("locked"), ConfigError(["damaged"])])
async def test_totals_that_can_not_be_had_are_refused_with_a_time(failure: Exception) -> None:
    made = house()
    made.disk.failure = failure
    with pytest.raises(StorageBusy) as caught:
        await made.ledger.totals(DAY, "caller")
    assert caught.value.retry_after_s == SAVE_EVERY_S
    await made.ledger.save()


async def test_a_disk_that_hangs_holds_up_nobody_but_who_asks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "READ_S", 0.01)
    made = house()
    made.disk.open.clear()
    made.told(1)
    saving = asyncio.create_task(made.ledger.save())
    await until(lambda: made.disk.batches == ["run-1"])
    made.told(2)
    assert made.ledger.tokens("alice") == 3
    with pytest.raises(StorageBusy):
        await made.ledger.totals(DAY, "caller")
    assert not saving.done()
    made.disk.open.set()
    await saving
    assert made.disk.threads == {"MainThread", "usage_0"}, "at the start, and from then on"


async def test_a_disk_that_hangs_at_the_end_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_module, "LAST_SAVE_S", 0.01)
    made = house()
    async with running(made):
        await asyncio.sleep(0)
        made.told()
        made.disk.open.clear()
    assert "the disk does not answer" in caplog.text
    made.disk.open.set()


# --- Today -------------------------------------------------------------------------------


def test_a_new_life_goes_on_from_what_was_stored_of_today() -> None:
    disk = Disk()
    disk.add("a-1", {Key(DAY, "alice", "m"): Counts(requests=2, prompt_tokens=5)})
    disk.add("a-2", {Key("2026-11-21", "alice", "m"): Counts(prompt_tokens=100)})
    made = house(disk)
    made.told(3)
    assert made.ledger.tokens("alice") == 8
    assert made.ledger.today("alice") == Counts(requests=3, prompt_tokens=8)
    assert made.ledger.today("bob") == Counts()


async def test_what_could_not_be_recalled_at_the_start_is_as_soon_as_it_can() -> None:
    disk = Disk()
    disk.add("a-1", {Key(DAY, "alice", "m"): Counts(prompt_tokens=5)})
    disk.failure = StoreFailed("locked")
    made = house(disk)
    assert len(made.failures) == 1
    made.told(3)
    await made.ledger.save()
    assert made.ledger.tokens("alice") == 3
    disk.failure = None
    await made.ledger.save()
    await made.ledger.save()
    assert made.ledger.tokens("alice") == 8
    assert disk.totals(DAY, "caller")["alice"].prompt_tokens == 8


def test_a_file_that_can_not_be_used_is_the_operators_to_mend() -> None:
    disk = Disk()
    disk.failure = ConfigError(["damaged"])
    with pytest.raises(ConfigError):
        house(disk)


async def test_at_midnight_of_utc_a_new_day_begins() -> None:
    made = house(wall=NOON + DAY_S / 2 - 1.0)
    assert made.ledger.left_s() == 1.0
    made.told(5)
    await made.clock.advance(1.0)
    assert made.ledger.tokens("alice") == 0
    assert made.ledger.left_s() == DAY_S
    made.told(7)
    assert made.ledger.tokens("alice") == 7
    assert await made.ledger.totals(DAY, "day") == {
        DAY: Counts(1, 0, 0, 5),
        "2026-11-23": Counts(1, 0, 0, 7),
    }


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S, -10 * 365 * DAY_S, 10 * 365 * DAY_S, -NOON])
def test_a_wall_clock_that_jumps_and_comes_back_finds_its_day_again(jump_s: float) -> None:
    made = house()
    made.told(5)
    made.clock._wall += jump_s
    assert made.ledger.tokens("alice") == 0
    assert 0.0 < made.ledger.left_s() <= DAY_S
    made.told(1)
    made.clock._wall -= jump_s
    assert made.ledger.tokens("alice") == 5
    assert len(made.ledger._days) <= 2


# --- What is counted -------------------------------------------------------------------------


async def test_no_name_that_a_caller_makes_up_becomes_a_row() -> None:
    made = house()
    for number in range(50):
        made.told(model=f"invented-{number}", outcome="refused", status=404)
    made.told(model="n:latest")
    made.told(model="n")
    assert await made.ledger.totals(DAY, "model") == {
        "other": Counts(refusals=50, prompt_tokens=50),
        "n": Counts(requests=2, prompt_tokens=2),
    }


async def test_a_retry_that_got_an_earlier_answer_is_that_try() -> None:
    made = house()
    made.told(rejoined=True)
    assert await made.ledger.totals(DAY, "caller") == {}
