import io

import pytest

from gateway.config.schema import Backend, Config, Embedded
from gateway.core.clock import LoopClock
from gateway.core.errors import ConfigError
from gateway.daemon.wiring import wire
from gateway.telemetry import logs as telemetry_logs


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
    finally:
        await daemon.http.close()
        logs.close()
