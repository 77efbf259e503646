import asyncio
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Cost
from gateway.daemon.learned import FILE_NAME, SAVE_EVERY_S, Learned
from gateway.scheduling.estimate import CostModel, Work
from tests.fakes import ManualClock

WORK = Work(prompt_chars=1000, messages=2, cached_chars=0, max_tokens=20)


def learn(costs: CostModel, decode_s: float = 1.0) -> None:
    costs.observe(
        "box",
        "llama",
        WORK,
        concurrency=1,
        usage=Usage(prompt=250, completion=20),
        timings=Timings(prefill_s=2.0, decode_s=decode_s),
        capped=True,
        seen_s=2.0 + decode_s,
    )


def price(costs: CostModel) -> Cost:
    return costs.price("box", "llama", WORK, concurrency=1)


def learned(directory: Path | str, costs: CostModel | None = None) -> Learned:
    return Learned(costs=costs or CostModel(), directory=str(directory), clock=ManualClock())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@asynccontextmanager
async def kept(directory: Path, costs: CostModel) -> AsyncIterator[ManualClock]:
    """The loop, running; whatever it hands to a thread is done when the clock has moved on."""
    clock = ManualClock()
    task = asyncio.create_task(
        Learned(costs=costs, directory=str(directory), clock=clock).run(), name="learned"
    )
    yield clock
    task.cancel()
    await asyncio.wait([task])


async def test_what_was_learned_outlives_a_restart(tmp_path: Path) -> None:
    before, after = CostModel(), CostModel()
    learn(before)
    await learned(tmp_path, before).save()
    learned(tmp_path, after).load()
    assert price(after).service_s == pytest.approx(price(before).service_s)
    assert price(after) != price(CostModel())


async def test_it_is_saved_now_and_then(tmp_path: Path) -> None:
    costs = CostModel()
    with ThreadPoolExecutor(max_workers=1) as one_thread:
        asyncio.get_running_loop().set_default_executor(one_thread)
        async with kept(tmp_path, costs) as clock:
            await clock.advance(SAVE_EVERY_S - 1.0)
            await asyncio.to_thread(int)
            assert not (tmp_path / FILE_NAME).exists()
            await clock.advance(1.0)
            await asyncio.to_thread(int)
            assert (tmp_path / FILE_NAME).exists()


async def test_it_is_saved_at_the_end(tmp_path: Path) -> None:
    costs = CostModel()
    async with kept(tmp_path, costs) as clock:
        await clock.advance(1.0)
        learn(costs)
    again = CostModel()
    learned(tmp_path, again).load()
    assert price(again).service_s == pytest.approx(price(costs).service_s)


async def test_a_new_file_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    costs = CostModel()
    keeper = learned(tmp_path, costs)
    await keeper.save()
    # What somebody has open meanwhile stays as it was.
    os.link(tmp_path / FILE_NAME, tmp_path / "old")
    learn(costs)
    await keeper.save()
    assert b"llama" not in (tmp_path / "old").read_bytes()
    assert b"llama" in (tmp_path / FILE_NAME).read_bytes()
    assert sorted(os.listdir(tmp_path)) == [FILE_NAME, "old"]


async def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    costs = CostModel()
    learn(costs)
    keeper = learned(tmp_path, costs)
    await keeper.save()
    (tmp_path / FILE_NAME).unlink()
    await keeper.save()
    assert not (tmp_path / FILE_NAME).exists()
    learn(costs)
    await keeper.save()
    assert (tmp_path / FILE_NAME).exists()


async def test_without_a_directory_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    keeper = learned("")
    keeper.load()
    await keeper.save()
    assert os.listdir(tmp_path) == []
    assert warnings(caplog) == []


async def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    await learned(tmp_path / "state" / "gateway").save()
    assert (tmp_path / "state" / "gateway" / FILE_NAME).exists()


def test_a_missing_file_is_nothing_to_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learned(tmp_path).load()
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"version":2,"models":[],"pairs":[]}',
        b'{"version":1,"models":[{"model":"m"}],"pairs":[]}',
        b"[" * 100_000,
        b" " * (4 * 1024 * 1024 + 1),
    ],
    ids=lambda content: repr(content[:20]),
)
async def test_a_corrupt_file_is_told_once_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    costs = CostModel()
    keeper = learned(tmp_path, costs)
    keeper.load()
    assert len(warnings(caplog)) == 1
    assert "\n" not in warnings(caplog)[0]
    assert price(costs) == price(CostModel())
    await keeper.save()
    learned(tmp_path).load()
    assert len(warnings(caplog)) == 1


def test_a_file_that_is_none_is_told_and_prices_start_from_their_priors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    learned(tmp_path).load()
    assert len(warnings(caplog)) == 1


async def test_a_disk_that_takes_nothing_is_told_once_until_it_takes_something_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    costs = CostModel()
    keeper = learned(tmp_path, costs)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        for _ in range(3):
            await keeper.save()
    assert len(warnings(caplog)) == 1
    assert "No space left" in warnings(caplog)[0]
    assert os.listdir(tmp_path) == []
    await keeper.save()
    assert (tmp_path / FILE_NAME).exists()
    learn(costs)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        await keeper.save()
    assert len(warnings(caplog)) == 2


async def test_a_directory_that_can_not_be_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    keeper = learned(tmp_path / "file" / "gateway")
    keeper.load()
    await keeper.save()
    await keeper.save()
    assert len([text for text in warnings(caplog) if "saved" in text]) == 1
