"""What joining requests for embeddings is worth: texts per second, on a real engine.

    python bench/embeddings.py [--quick] [--rounds N] [--ollama URL --model NAME]

Two gateways in front of engines of the same kind: one joins requests that wait
together into one call of the engine, the other never does. Their ways take turns in
each of several rounds; ratios are medians of those within a round, so that a machine
that drifts drifts for all of them.

    one by one   one client, a text a request, the next when the last is answered
    apart        32 clients, each text in a call of its own
    joined       32 clients, texts that wait together in one call

By default the engine is the embedded one, which computes a call's texts together. With
--ollama it is that Ollama, which computes them one after the other. Every vector is
compared with the one that its text has alone; one that differs makes the exit status 1.
"""

import argparse
import asyncio
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aiohttp
import attrs

from bench.processes import Child, DidNotStart, free_port
from bench.wire import HOST

CLIENTS: Final = 32
TEXTS: Final = tuple(f"note {number}" for number in range(64))

ALIKE: Final = 0.99
"""Cosine of one text's vectors. Engines add in another order when they compute a batch."""

Ask = Callable[[str], Awaitable[list[float]]]


@attrs.frozen
class Round:
    """Texts per second, by way."""

    one_by_one: float
    apart: float
    joined: float


def gateway(directory: Path, *, engine: str, joined: bool) -> Child:
    port = free_port()
    path = directory / f"gateway-{port}.toml"
    path.write_text(settings(port=port, engine=engine, joined=joined))
    return Child(
        [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
        port=port,
        ready_path="/ready",
        log_path=directory / f"gateway-{port}.log",
        cores=frozenset(os.sched_getaffinity(0)),
    )


def settings(*, port: int, engine: str, joined: bool) -> str:
    """The gateway's TOML file. `engine` is what stands in [backend]."""
    most = "" if joined else "embed_batch_items_max = 1"
    return (
        f'[server]\nhost = "{HOST}"\nport = {port}\n[backend]\n{engine}\n'
        f"[queue]\n{most}\n[scheduling]\ndeadlines = false\n[generation]\nwarm_up = false\n"
    )


def asker(session: aiohttp.ClientSession, child: Child, model: str) -> Ask:
    url = f"http://{HOST}:{child.port}/v1/embeddings"

    async def ask(text: str) -> list[float]:
        async with session.post(url, json={"model": model, "input": text}) as response:
            document = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {document}")
            vector: list[float] = document["data"][0]["embedding"]
            return vector

    return ask


async def rate(ask: Ask, *, clients: int, seconds: float) -> float:
    """Texts per second of a closed loop."""
    texts = itertools.cycle(TEXTS)
    began = time.perf_counter()

    async def client() -> int:
        done = 0
        while time.perf_counter() - began < seconds:
            await ask(next(texts))
            done += 1
        return done

    done = sum(await asyncio.gather(*(client() for _ in range(clients))))
    return done / (time.perf_counter() - began)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(left * right for left, right in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other))


async def differing(alone: Ask, joined: Ask) -> int:
    """How many texts have another vector when they are computed with others."""
    expected = [await alone(text) for text in TEXTS[:CLIENTS]]
    found = await asyncio.gather(*(joined(text) for text in TEXTS[:CLIENTS]))
    return sum(cosine(one, other) < ALIKE for one, other in zip(expected, found, strict=True))


async def measure(
    apart: Child, joined: Child, model: str, *, rounds: int, seconds: float
) -> tuple[list[Round], int]:
    timeout = aiohttp.ClientTimeout(total=120.0)
    connector = aiohttp.TCPConnector(limit=2 * CLIENTS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        ask_apart, ask_joined = asker(session, apart, model), asker(session, joined, model)
        wrong = await differing(ask_apart, ask_joined)
        return [
            Round(
                one_by_one=await rate(ask_joined, clients=1, seconds=seconds),
                apart=await rate(ask_apart, clients=CLIENTS, seconds=seconds),
                joined=await rate(ask_joined, clients=CLIENTS, seconds=seconds),
            )
            for _ in range(rounds)
        ], wrong


def table(rounds: Sequence[Round]) -> str:
    def middle(value: Callable[[Round], float]) -> float:
        return median(map(value, rounds))

    return "\n".join(
        (
            f"one by one  {middle(lambda one: one.one_by_one):8.1f} texts/s",
            f"apart       {middle(lambda one: one.apart):8.1f} texts/s",
            f"joined      {middle(lambda one: one.joined):8.1f} texts/s",
            f"joined ÷ one by one  {middle(lambda one: one.joined / one.one_by_one):.2f}",
            f"joined ÷ apart       {middle(lambda one: one.joined / one.apart):.2f}",
        )
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short look")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--ollama", metavar="URL", help="measure this Ollama instead")
    parser.add_argument("--model", default="smollm2:135m")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (2 if options.quick else 7)
    seconds = 2.0 if options.quick else 4.0
    engine = f'kind = "ollama"\nurl = "{options.ollama}"' if options.ollama else 'kind = "llamacpp"'
    with tempfile.TemporaryDirectory() as name, ExitStack() as children:
        try:
            apart, joined = (
                children.enter_context(gateway(Path(name), engine=engine, joined=joins))
                for joins in (False, True)
            )
            for child in (apart, joined):
                child.wait_ready()
        except DidNotStart as error:
            print(error, file=sys.stderr)
            return 1
        found, wrong = asyncio.run(
            measure(apart, joined, options.model, rounds=rounds, seconds=seconds)
        )
    print(f"{CLIENTS} clients, texts such as {TEXTS[0]!r}; medians of {rounds} rounds, interleaved")
    print(table(found))
    if wrong:
        print(f"{wrong} texts have another vector when they are joined", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
