from typing import Final

import attrs
import pytest

from gateway.backends.base import Probe
from gateway.backends.http import HttpClient
from gateway.backends.ollama import OllamaBackend
from gateway.config.schema import Limits, Timeouts
from gateway.core.clock import LoopClock
from gateway.core.messages import Timings
from gateway.core.models import ModelInfo
from gateway.core.ticket import Active, Priority, Progress
from gateway.daemon import entries
from gateway.daemon.entries import LISTED_MAX
from gateway.pool.upstream import Upstream
from gateway.telemetry.history import Ended
from tests.engines import upstream
from tests.telemetry.records import record

PROGRESS: Final = Progress(
    request_id="r",
    model="m",
    state="decode",
    so_far_s=4.0,
    queue_s=1.0,
    load_s=0.5,
    prefill_s=0.5,
    decode_s=2.0,
)
ACTIVE: Final = Active(
    progress=PROGRESS, caller="web", priority=Priority.BATCH, upstream="one", tokens=11
)


def an_ollama() -> tuple[Upstream, OllamaBackend]:
    limits = Limits()
    http = HttpClient(timeouts=Timeouts(), limits=limits, clock=LoopClock())
    backend = OllamaBackend(http=http, url="http://127.0.0.1:9", limits=limits)
    return Upstream(name="one", backend=backend, slots=1), backend


async def test_an_ollamas_own_words_about_its_memory_are_told() -> None:
    upstream, backend = an_ollama()
    upstream.found(
        Probe(
            (
                ModelInfo(id="m:latest", loaded=True, size_bytes=7, context_length=4096),
                ModelInfo(id="other:latest", loaded=False),
            )
        )
    )
    upstream.breaker.probed(True, 0.0)
    backend.running = {
        "m:latest": {"size": 9, "size_vram": 4, "expires_at": "2026-11-22T22:00:00+00:00"}
    }
    (loaded,) = entries.engine(upstream, "other:latest")["loaded"]
    assert loaded == {
        "model": "m:latest",
        "memory_bytes": 9,
        "gpu_bytes": 4,
        "file_bytes": 7,
        "context_tokens": 4096,
        "leaves_at": 1795384800.0,
    }
    told = {name: entries.model(ModelInfo(id=name), [upstream]) for name in ("m", "other", "x")}
    assert {name: one["loaded"] for name, one in told.items()} == {
        "m": True,
        "other": False,
        "x": False,
    }
    assert told["other"]["movable"]
    assert not told["x"]["movable"], "nobody has it"


def test_an_alias_is_loaded_where_its_model_is() -> None:
    one = upstream("one")
    alias = ModelInfo(id="quick", alias_of="m")
    assert entries.model(alias, [one])["loaded"]
    assert entries.model(alias, [one])["stands_for"] == "m"
    assert not entries.model(alias, [one])["movable"], "its engine is no Ollama"


def test_lists_are_bounded() -> None:
    one = upstream("one")
    one.found(Probe(tuple(ModelInfo(id=f"m{n}", loaded=True) for n in range(LISTED_MAX + 9))))
    assert len(entries.loaded(one)) == LISTED_MAX


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "2318-03-05T11:22:33.123456789+01:00",
        "soon",
        None,
        7,
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_model_that_stays_has_no_moment_to_leave(text: object) -> None:
    assert entries.moment(text) is None


def test_the_first_token_took_no_part_in_the_time_of_the_others() -> None:
    assert entries.running(ACTIVE)["tokens_per_s"] == 5.0
    assert entries.running(attrs.evolve(ACTIVE, tokens=1))["tokens_per_s"] is None
    just_begun = attrs.evolve(ACTIVE, progress=attrs.evolve(PROGRESS, decode_s=0.0))
    assert entries.running(just_begun)["tokens_per_s"] is None
    assert entries.running(ACTIVE)["class"] == "batch"


def test_no_time_is_below_nothing() -> None:
    odd = record(queue_s=1.0, total_s=1.2, first_token_s=1.1, load_s=5.0, timings=Timings())
    told = entries.ended(Ended(odd, 1.0))
    assert min(told[f"{part}_s"] for part in ("queue", "load", "prefill", "decode")) == 0.0
