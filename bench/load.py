"""The load generator: clients that ask as openai-python does, and what became of it.

    python -m bench.load URL --closed 30 --duration 20 [--stream] [--retries 2] …
    python -m bench.load URL --open 3.5 --duration 20
    python -m bench.load URL --burst 100

A closed loop is a number of clients, each of which sends its next request when its last
has ended; one that was refused for good waits first for what it was told. An open loop
sends at moments that are nobody's answer, a Poisson process. A burst sends all at once.
A request that has been begun is waited for; in a closed loop no retry begins after its
end. All dice are seeded.
"""

import argparse
import asyncio
import contextlib
import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import orjson
import uvloop

from bench.answers import Uniform, range_of
from bench.asking import Asker, Client, session_for
from bench.prompts import Conversations, Prompts, Unique
from bench.replies import Ollama, OpenAI
from bench.results import Outcome, Result, Summary, report, summarise
from bench.retries import Retries

DRAIN_S: Final = 600.0
"""How long the last answers are waited for."""

Progress = Callable[[float, int], None]
"""Told after each result: how much of the load is over, from 0 to 1, and how many results."""

_positive: Final = attrs.validators.gt(0)


@attrs.frozen
class ClosedLoop:
    """So many clients, one request at a time each."""

    clients: int = attrs.field(validator=_positive)
    duration_s: float = attrs.field(validator=_positive)


@attrs.frozen
class OpenLoop:
    """A Poisson process."""

    rate_per_s: float = attrs.field(validator=_positive)
    duration_s: float = attrs.field(validator=_positive)
    seed: int = 1

    def moments_s(self) -> list[float]:
        """When requests are sent, from the beginning."""
        dice = random.Random(f"{self.seed}/moments")
        moments: list[float] = []
        at = dice.expovariate(self.rate_per_s)
        while at < self.duration_s:
            moments.append(at)
            at += dice.expovariate(self.rate_per_s)
        return moments


@attrs.frozen
class Burst:
    """So many requests at once."""

    requests: int = attrs.field(validator=_positive)


Plan = ClosedLoop | OpenLoop | Burst


def duration_s(plan: Plan) -> float | None:
    """How long requests are sent; None of a burst."""
    return None if isinstance(plan, Burst) else plan.duration_s


async def run(
    url: str,
    plan: Plan,
    client: Client | None = None,
    *,
    progress: Progress | None = None,
    drain_s: float = DRAIN_S,
) -> list[Result]:
    """Put a load on a server.

    Args:
        url: Its root; the dialect knows the path.
        drain_s: After the last request was sent, answers are given this long.

    Returns:
        What became of each request, in the order in which they ended.
    """
    client = client or Client()
    started_at = time.perf_counter()
    ends_at = started_at + (duration_s(plan) or 0.0)
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        if progress is not None:
            if isinstance(plan, Burst):
                share = len(results) / plan.requests
            else:
                share = min(1.0, (time.perf_counter() - started_at) / plan.duration_s)
            progress(share, len(results))

    async with session_for(client) as session:
        asker = Asker(
            session,
            url,
            client,
            retry_until=ends_at if isinstance(plan, ClosedLoop) else math.inf,
            give_up_at=ends_at + drain_s,
        )

        async def ask(number: int, at: float) -> None:
            await asyncio.sleep(at - time.perf_counter())
            note(await asker.ask(number))

        async with asyncio.TaskGroup() as tasks:
            match plan:
                case ClosedLoop(clients=clients):
                    loop = _Loop(asker, client, until=ends_at, note=note)
                    for _ in range(clients):
                        tasks.create_task(loop.run())
                case OpenLoop():
                    for number, moment_s in enumerate(plan.moments_s()):
                        tasks.create_task(ask(number, started_at + moment_s))
                case Burst(requests=requests):
                    for number in range(requests):
                        tasks.create_task(ask(number, started_at))
    return results


@attrs.define(eq=False)
class _Loop:
    """What the clients of a closed loop share. Requests are numbered as they are sent."""

    asker: Asker
    client: Client
    until: float = attrs.field(kw_only=True)
    note: Callable[[Result], None] = attrs.field(kw_only=True)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    async def run(self) -> None:
        """One client."""
        while time.perf_counter() < self.until:
            result = await self.asker.ask(next(self._numbers))
            self.note(result)
            last = result.last
            if last is not None and not last.whole:
                # Who was refused and comes back at once loads no server so much as the
                # machine that it shares with us.
                pause_s = self.client.pause_s(result)
                await asyncio.sleep(min(pause_s, max(0.0, self.until - time.perf_counter())))


def plan_of(options: argparse.Namespace) -> Plan:
    if options.closed is not None:
        return ClosedLoop(options.closed, options.duration)
    if options.open is not None:
        return OpenLoop(options.open, options.duration, options.seed)
    return Burst(options.burst)


def client_of(options: argparse.Namespace) -> Client:
    prompts: Prompts = Unique(tokens=options.prompt_tokens, seed=options.seed)
    if options.conversations:
        prompts = Conversations(
            count=options.conversations,
            prefix_tokens=options.prefix_tokens,
            tokens=options.prompt_tokens,
            seed=options.seed,
        )
    return Client(
        dialect=Ollama() if options.ollama else OpenAI(),
        models=tuple(options.model.split(",")),
        prompts=prompts,
        max_tokens=options.max_tokens,
        stream=options.stream,
        deadline_s=options.deadline,
        timeout_s=options.timeout,
        retries=Retries(count_max=options.retries).scaled(options.scale),
        key=options.key,
        seed=options.seed,
    )


def document(plan: Plan, client: Client, summary: Summary, results: Sequence[Result]) -> bytes:
    """All of it as JSON. A number that was not measured is null."""
    told = attrs.evolve(client, key="***" if client.key else "")
    return orjson.dumps(
        {
            "plan": {"kind": type(plan).__name__, **attrs.asdict(plan)},
            "client": attrs.asdict(told) | {"dialect": type(client.dialect).__name__},
            "summary": attrs.asdict(summary),
            "results": [
                attrs.asdict(result) | {"outcome": result.outcome(client.deadline_s)}
                for result in results
            ],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS,
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("url", help="root of the server, such as http://127.0.0.1:8000")
    kind = found.add_mutually_exclusive_group(required=True)
    kind.add_argument("--closed", type=int, metavar="CLIENTS")
    kind.add_argument("--open", type=float, metavar="PER_SECOND")
    kind.add_argument("--burst", type=int, metavar="REQUESTS")
    add("--duration", type=float, default=20.0, help="seconds of a closed or open loop")
    add("--stream", action="store_true")
    add("--deadline", type=float, default=60.0, help="seconds; what comes later is late")
    add("--timeout", type=float, default=600.0, help="seconds until a client leaves")
    add("--retries", type=int, default=0, help="of each request; openai-python has 2")
    add("--scale", type=float, default=1.0, help="divides the SDK's own waits, as a box's time")
    add("--model", default="box:latest", help="a name, or more with commas between, in turn")
    add("--max-tokens", type=range_of, default=Uniform(8, 32), help="8-32, drawn per request")
    add("--prompt-tokens", type=int, default=20)
    add("--conversations", type=int, default=0, help="so many take turns, with long beginnings")
    add("--prefix-tokens", type=int, default=1000, help="of each conversation")
    add("--key", default="", help="sent as a bearer token")
    add("--ollama", action="store_true", help="ask by /api/chat, past any gateway")
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE", help="also write all of it there")
    return found


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    plan, client = plan_of(options), client_of(options)

    def show(share: float, count: int) -> None:
        print(f"\r{share:4.0%}  {count} requests", end="", file=sys.stderr, flush=True)

    progress = show if sys.stderr.isatty() else None
    with contextlib.suppress(KeyboardInterrupt):
        results = uvloop.run(run(options.url, plan, client, progress=progress))
        if progress is not None:
            print(file=sys.stderr)
        summary = summarise(results, deadline_s=client.deadline_s, window_s=duration_s(plan))
        print(report(summary))
        if options.json:
            options.json.write_bytes(document(plan, client, summary, results))
        return 1 if summary.outcomes[Outcome.FAILED] else 0
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
