"""What the gateway holds: at rest, at its highest, and whether it grows; and how soon it serves."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

import attrs
import uvloop

from bench import figures
from bench.figures import KIB, MIB, Figure
from bench.loads import closed_loop
from bench.sites import Site
from bench.wire import Ask, ask_once, chat_body, connect, ignored, openai_chat, post

READY_S_MAX: Final = 2.0
IDLE_BYTES_MAX: Final = 64 * MIB
STARTS: Final = 5


def ready_and_idle(site: Site) -> Iterator[Figure]:
    """From the start of the process to /ready 200, and what it holds then."""
    ready_s: list[float] = []
    idle_bytes: list[int] = []
    for _ in range(STARTS):
        with site.gateway() as gateway:
            ready_s.append(gateway.wait_ready())
            time.sleep(0.5)
            idle_bytes.append(gateway.memory_bytes())
    yield Figure(
        name="ready",
        goal=f"≤ {READY_S_MAX:.0f} s",
        measured=f"{median(ready_s):.2f} s, worst of {STARTS} {max(ready_s):.2f} s",
        passed=max(ready_s) <= READY_S_MAX,
        values={"worst_s": max(ready_s)},
    )
    yield Figure(
        name="idle memory without an engine",
        goal=f"≤ {IDLE_BYTES_MAX / MIB:.0f} MiB",
        measured=f"{max(idle_bytes) / MIB:.1f} MiB",
        passed=max(idle_bytes) <= IDLE_BYTES_MAX,
        values={"bytes": max(idle_bytes)},
    )


BIG_BODY_BYTES: Final = 3_600_000
STALLED_BODIES: Final = 60
STALLED_S: Final = 2.0
WHOLE_BODIES: Final = 16
BIG_ANSWERS: Final = 18
BIG_AT_ONCE: Final = 4
PEAK_BYTES_MAX: Final = 160 * MIB


def memory_peak(site: Site) -> Iterator[Figure]:
    """Bodies of 3.6 MB, stalled and whole, then answers of 8 MB, whole and streamed."""
    prompt = "x" * BIG_BODY_BYTES
    big = post("/v1/chat/completions", chat_body("tokens:8", stream=False, prompt=prompt))
    body = attrs.evolve(openai_chat("tokens:8", stream=False), payload=big)
    answer = openai_chat("tokens:2000x4096", stream=False)
    stream = openai_chat("tokens:2000x4096", stream=True)
    wrong: Counter[str] = Counter()
    peak_bytes: dict[str, float] = {}
    with site.serving() as gateway:
        uvloop.run(_stall(gateway.port, big))
        peak_bytes["stalled bodies"] = gateway.memory_bytes("VmHWM")
        for name, asks in {
            "whole bodies": [body] * WHOLE_BODIES,
            "streams": [stream] * BIG_ANSWERS,
            "whole answers": [answer] * BIG_ANSWERS,
        }.items():
            wrong += uvloop.run(_ask_all(gateway.port, asks))
            peak_bytes[name] = gateway.memory_bytes("VmHWM")
        after_bytes = gateway.memory_bytes()
    highest_bytes = max(peak_bytes.values())
    peaks = ", ".join(f"{value / MIB:.0f} with {name}" for name, value in peak_bytes.items())
    faults = "".join(f"; {count} × {fault[:80]}" for fault, count in wrong.items())
    yield Figure(
        name="memory peak under big bodies and answers",
        goal=f"≤ {PEAK_BYTES_MAX / MIB:.0f} MiB",
        measured=f"{peaks}, {after_bytes / MIB:.0f} MiB afterwards{faults}",
        passed=highest_bytes <= PEAK_BYTES_MAX and not wrong,
        values={**peak_bytes, "afterwards": after_bytes},
    )


async def _stall(port: int, payload: bytes) -> None:
    """Send all but the last byte of a request many times over, and leave after a while."""
    stalled = [await connect(port) for _ in range(STALLED_BODIES)]
    try:
        for connection in stalled:
            # A refusal is a right answer, and none is too.
            connection.start(Ask(payload[:-1])).add_done_callback(ignored)
        await asyncio.sleep(STALLED_S)
    finally:
        for connection in stalled:
            connection.transport.abort()


async def _ask_all(port: int, asks: Sequence[Ask], *, at_once: int = BIG_AT_ONCE) -> Counter[str]:
    """Ask all, each on a connection of its own; gives what went wrong."""
    turns = asyncio.Semaphore(at_once)
    wrong: Counter[str] = Counter()

    async def one(ask: Ask) -> None:
        async with turns:
            try:
                fault = (await ask_once(port, ask)).fault()
            except OSError as error:
                fault = str(error)
            if fault:
                wrong[fault] += 1

    await asyncio.gather(*map(one, asks))
    return wrong


SOAK_CLIENTS: Final = 16
STEP_S: Final = 1.0
SLOPE_BYTES_MAX: Final = 32 * KIB


def soak(site: Site) -> Iterator[Figure]:
    """Resident memory over requests; the first third of the time only warms up."""
    short, long = openai_chat("tokens:8", stream=False), openai_chat("tokens:200", stream=True)
    asks = itertools.cycle([short, long])
    points: list[tuple[float, float]] = []
    wrong: Counter[str] = Counter()
    done = 0
    with site.serving() as gateway:
        began_at = time.perf_counter()
        while (waited_s := time.perf_counter() - began_at) < site.soak_s:
            tally = uvloop.run(
                closed_loop(
                    gateway.port, next(asks), clients=SOAK_CLIENTS, for_s=STEP_S, warm_up=short
                )
            )
            wrong += tally.faults()
            done += len(tally.exchanges)
            if waited_s >= site.soak_s / 3:
                points.append((done / 1000, gateway.memory_bytes()))
    grown_bytes = figures.slope(points)
    faults = "".join(f"; {count} × {fault[:80]}" for fault, count in wrong.items())
    yield Figure(
        name="soak: memory per 1,000 requests",
        goal=f"≤ {SLOPE_BYTES_MAX / KIB:.0f} KiB over 30 min",
        measured=(
            f"{grown_bytes / KIB:+.1f} KiB over {site.soak_s:.0f} s, {done:,} requests{faults}"
        ),
        passed=grown_bytes <= SLOPE_BYTES_MAX and not wrong,
        values={"slope_bytes": grown_bytes, "requests": done},
    )
