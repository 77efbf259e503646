from collections.abc import AsyncIterator

import pytest

from gateway.backends.http import HttpClient
from gateway.config.schema import Limits, Timeouts
from tests.backends.fake_engine import FakeEngine
from tests.fakes import ManualClock


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as engine:
        yield engine


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limits() -> Limits:
    return Limits(upstream_line_bytes_max=1000, upstream_answer_bytes_max=100_000)


@pytest.fixture
async def http(clock: ManualClock, limits: Limits) -> AsyncIterator[HttpClient]:
    client = HttpClient(timeouts=Timeouts(), limits=limits, clock=clock)
    await client.start()
    yield client
    await client.close()
