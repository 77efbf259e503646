"""SIGTERM in the middle of a load: what becomes of every request that was sent."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import uvloop

from bench.figures import Figure
from bench.processes import Child
from bench.sites import Site
from bench.wire import Ask, Connection, connect, openai_chat

KEEPING_CLIENTS: Final = 16
CONNECTING_CLIENTS: Final = 8
MODEL: Final = "tokens:20-10ms"
BEFORE_S: Final = 0.4
ROUND_S_MAX: Final = 60.0
END_S_MAX: Final = 35.0

COMPLETE: Final = "complete"
REFUSED: Final = "refused"
NOT_CONNECTED: Final = "not connected"
DROPPED: Final = "dropped"


def sigterm_under_load(site: Site) -> Iterator[Figure]:
    """Every accepted request ends, and the process with status 0."""
    rounds = 5 if site.quick else 20
    outcomes: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    longest_s = 0.0
    for _ in range(rounds):
        with site.serving(slots=8, waiting_max=50) as gateway:
            outcomes += uvloop.run(terminate_under_load(gateway))
            began_at = time.perf_counter()
            code = gateway.wait_ended(END_S_MAX)
            longest_s = max(longest_s, time.perf_counter() - began_at)
            if code != 0:
                ends[f"exit code {code}" if code is not None else "never ended"] += 1
    dropped = outcomes.pop(DROPPED, 0)
    details = [f"{count} {what}" for what, count in (outcomes + ends).items() if count]
    yield Figure(
        name=f"SIGTERM under load, {rounds} rounds: dropped",
        goal="0, exit code 0",
        measured=f"{dropped} ({', '.join(details)}; ended ≤ {longest_s:.1f} s after the last)",
        passed=not dropped and not ends,
        values={"dropped": dropped, "complete": outcomes[COMPLETE]},
    )


async def terminate_under_load(server: Child) -> Counter[str]:
    """Load a server, end it, and see every client to the end of its last request.

    Two thirds of the clients keep their connection, one third opens one for each
    request, every other one streams. A client goes away at its first refusal (503, or
    nobody listens), which is what an answer to SIGTERM is allowed to be.

    Returns:
        How many requests were complete, refused, not connected or dropped: cut short,
        wrong, or never answered although the connection stood. A dropped one also
        counts under what was seen.
    """
    outcomes: Counter[str] = Counter()

    async def client(number: int) -> None:
        ask = openai_chat(MODEL, stream=number % 2 == 0)
        keeps = number < KEEPING_CLIENTS
        connection: Connection | None = None
        outcome = COMPLETE
        while outcome == COMPLETE:
            if connection is None or connection.lost or not keeps:
                if connection is not None:
                    connection.transport.close()
                try:
                    connection = await connect(server.port)
                except OSError:
                    outcomes[NOT_CONNECTED] += 1
                    return
            outcome, seen = await _ask(connection, ask)
            outcomes[outcome] += 1
            if outcome == DROPPED:
                kind = "kept" if keeps else "new"
                outcomes[f"{DROPPED} on a {kind} connection: {seen}"] += 1
        if connection is not None:
            connection.transport.close()

    async def terminate() -> None:
        await asyncio.sleep(BEFORE_S)
        server.terminate()

    async with asyncio.timeout(ROUND_S_MAX), asyncio.TaskGroup() as group:
        group.create_task(terminate())
        for number in range(KEEPING_CLIENTS + CONNECTING_CLIENTS):
            group.create_task(client(number))
    return outcomes


async def _ask(connection: Connection, ask: Ask) -> tuple[str, str]:
    try:
        exchange = await connection.exchange(ask)
    except ConnectionError as error:
        return DROPPED, str(error)
    if exchange.status == 503:
        return REFUSED, ""
    fault = exchange.fault()
    return (DROPPED, fault) if fault else (COMPLETE, "")
