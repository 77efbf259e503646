"""Loads: a number of clients that each ask again as soon as they are answered."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import attrs

from bench import figures
from bench.wire import Ask, Connection, Exchange, connect

CLIENTS: Final = 64
SHORT: Final = "tokens:8"
BLAST: Final = "tokens:200"

SLACK_S: Final = 60.0
"""Beyond the time of a load, for its last answers, before it is given up."""


@attrs.frozen
class Tally:
    """What a load brought.

    Attributes:
        exchanges: Whole answers, right or wrong.
        broken: What went wrong where there was no whole answer.
        wall_s: From the first request to the end of the last answer.
        cpu_s: CPU of the process that was watched, meanwhile.
    """

    exchanges: Sequence[Exchange]
    broken: Sequence[str]
    wall_s: float
    cpu_s: float

    def faults(self) -> "Counter[str]":
        """Everything that went wrong, and how often; answers are read to the last token."""
        found = Counter(self.broken)
        found.update(fault for exchange in self.exchanges if (fault := exchange.fault()))
        return found

    @property
    def tokens(self) -> int:
        return sum(exchange.ask.tokens for exchange in self.exchanges)

    @property
    def per_s(self) -> float:
        return len(self.exchanges) / self.wall_s

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall_s

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_s * 1e6 / max(1, len(self.exchanges))

    @property
    def cpu_us_per_token(self) -> float:
        return self.cpu_s * 1e6 / max(1, self.tokens)

    @property
    def latency_p50_s(self) -> float:
        return figures.quantile((exchange.took_s for exchange in self.exchanges), 0.5)

    @property
    def first_token_p50_s(self) -> float:
        return figures.quantile(
            (
                exchange.first_token_at - exchange.sent_at
                for exchange in self.exchanges
                if exchange.first_token_at is not None
            ),
            0.5,
        )


async def closed_loop(
    port: int,
    ask: Ask,
    *,
    clients: int,
    for_s: float,
    warm_up: Ask,
    spread_s: float = 0.0,
    cpu_s: Callable[[], float] = lambda: 0.0,
) -> Tally:
    """Let clients ask over and over for `for_s` seconds, at least once each.

    All connections are opened, and used once with `warm_up`, before the clock starts.

    Args:
        spread_s: The clients begin evenly spread over this time.
        cpu_s: Reads the CPU seconds of the process that is watched.
    """
    exchanges: list[Exchange] = []
    broken: list[str] = []

    async def client(connection: Connection, wait_s: float, until: float) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
        try:
            while True:
                exchanges.append(await connection.exchange(ask))
                if perf_counter() >= until:
                    return
        except ConnectionError as error:
            broken.append(str(error))

    async with contextlib.AsyncExitStack() as stack:
        connections = await asyncio.gather(*(connect(port) for _ in range(clients)))
        for connection in connections:
            stack.callback(connection.transport.abort)
        await asyncio.gather(*(connection.exchange(warm_up) for connection in connections))
        # Answers pile up until the clock has stopped, and a collection would look at all of them.
        gc.disable()
        stack.callback(gc.enable)
        cpu_before_s = cpu_s()
        started_at = perf_counter()
        try:
            async with asyncio.timeout(for_s + SLACK_S):
                await asyncio.gather(
                    *(
                        client(connection, spread_s * index / clients, started_at + for_s)
                        for index, connection in enumerate(connections)
                    )
                )
        except TimeoutError:
            broken.append(f"not answered {SLACK_S:.0f} s after the end of the load")
        wall_s = perf_counter() - started_at
        return Tally(exchanges, broken, wall_s, cpu_s() - cpu_before_s)
