import asyncio
import io

import pytest

from gateway.config.schema import Backend, BackendKind, Config, Embedded, Generation, ModelSettings
from gateway.core.clock import LoopClock
from gateway.core.errors import ConfigError
from gateway.core.ticket import Priority
from gateway.daemon.wiring import wire
from gateway.telemetry import logs as telemetry_logs
from tests.engines import settle, ticket


async def test_a_model_file_that_is_missing_is_a_mistake_and_leaves_nothing_open() -> None:
    logs = telemetry_logs.setup("error", "json", io.StringIO())
    config = Config(
        backend=Backend(kind="llamacpp"), embedded=Embedded(model_path="/nowhere/model.gguf")
    )
    try:
        with pytest.raises(ConfigError, match=r"embedded\.model_path"):
            await wire(config, clock=LoopClock(), logs=logs)
    finally:
        logs.close()


async def test_what_waits_and_how_long_one_more_would_is_told() -> None:
    logs = telemetry_logs.setup("error", "json", io.StringIO())
    config = Config(
        backend=Backend(kind="echo", slots=1), generation=Generation(default_model="echo")
    )
    daemon = await wire(config, clock=LoopClock(), logs=logs)
    try:
        await daemon.health.check(daemon.pool.upstreams[0])
        assert daemon.expected_wait_s() == 0.0
        running, waiting = ticket(1, model="echo"), ticket(2, model="echo")
        waiting.priority = Priority.BATCH
        for one in (running, waiting):
            one.deadline_at += LoopClock().now()
        async with daemon.worker.lease(running):
            second = asyncio.create_task(daemon.worker.take(waiting))
            await settle()
            now = daemon.statistics()
            assert now.waiting_by_class == {Priority.BATCH: 1}
            assert (daemon.expected_wait_s() or 0.0) > 0.0
            second.cancel()
            await settle()
            assert daemon.statistics().waiting_by_class == {}
    finally:
        await daemon.http.close()
        logs.close()


@pytest.mark.parametrize(("kind", "warned"), [("echo", True), ("ollama", False)])
async def test_a_context_that_no_engine_can_have_is_warned_of(
    kind: BackendKind, warned: bool
) -> None:
    written = io.StringIO()
    logs = telemetry_logs.setup("warning", "json", written)
    config = Config(
        backend=Backend(kind=kind, url="http://127.0.0.1:9"),
        models={"m": ModelSettings(num_ctx=1024)},
    )
    daemon = await wire(config, clock=LoopClock(), logs=logs)
    try:
        assert logs.flush()
        assert ("num_ctx has no effect" in written.getvalue()) == warned
    finally:
        await daemon.http.close()
        logs.close()


async def test_several_upstreams_share_one_client_and_have_their_own_slots() -> None:
    logs = telemetry_logs.setup("error", "json", io.StringIO())
    config = Config(
        backend=Backend(kind="echo"),
        upstreams={
            "gpu": Backend(kind="openai", url="http://127.0.0.1:9", slots=3),
            "old": Backend(kind="ollama", url="http://127.0.0.1:9"),
        },
    )
    daemon = await wire(config, clock=LoopClock(), logs=logs)
    try:
        slots = {upstream.name: upstream.slots for upstream in daemon.pool.upstreams}
        assert slots == {"default": 8, "gpu": 3, "old": 1}
        assert not daemon.statistics().draining
        assert daemon.expected_wait_s() is None, "nobody was found so far"
    finally:
        await daemon.http.close()
        logs.close()
