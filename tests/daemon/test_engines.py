import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.backends.http import HttpClient
from gateway.backends.llamacpp import LlamaCppBackend
from gateway.config.schema import Embedded, Limits, Timeouts
from gateway.core.clock import LoopClock
from gateway.daemon.background import background
from gateway.daemon.engines import IDLE_LOOK_S, Engines
from gateway.pool.upstream import Upstream
from tests.backends.children import Told, command
from tests.engines import settle
from tests.fakes import ManualClock


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def embedded(tmp_path: Path, told: Told) -> AsyncIterator[Upstream]:
    """An upstream with a child process that only says that it serves."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    clock = LoopClock()
    http = HttpClient(timeouts=Timeouts(), limits=Limits(), clock=clock)
    await http.start()
    backend = LlamaCppBackend(
        embedded=Embedded(model_path=str(path), model_name="m"),
        http=http,
        limits=Limits(),
        clock=clock,
        on_change=told,
        command=command("serves"),
    )
    yield Upstream(name="one", backend=backend, slots=1)
    await http.close()


def pid(upstream: Upstream) -> int | None:
    assert isinstance(upstream.backend, LlamaCppBackend)
    return upstream.backend.pid


@pytest.mark.parametrize("early", [True, False])
async def test_an_engine_of_our_own_runs_from_when_it_is_needed_until_the_end(
    embedded: Upstream, told: Told, early: bool
) -> None:
    engines = Engines(ManualClock())
    if early:
        engines.begin(embedded)
        assert pid(embedded) is None, "nothing runs before the loops do"
    async with background(engines.run()):
        await settle()
        if not early:
            engines.begin(embedded)
        await told.wait_for("m is ready")
        assert pid(embedded) is not None
    assert pid(embedded) is None


async def test_one_that_is_gone_ends_when_what_it_runs_has_ended(
    embedded: Upstream, told: Told
) -> None:
    clock = ManualClock()
    engines = Engines(clock)
    engines.begin(embedded)
    async with background(engines.run()):
        await told.wait_for("m is ready")
        embedded.take()
        engines.let_go(embedded)
        await clock.advance(10 * IDLE_LOOK_S)
        assert pid(embedded) is not None
        embedded.release()
        await clock.advance(IDLE_LOOK_S)
        async with asyncio.timeout(10.0):
            while pid(embedded) is not None:  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0)
