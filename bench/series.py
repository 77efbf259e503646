"""Names that a client can make up: none may become a label of a time series."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Final

import orjson
import uvloop

from bench import figures
from bench.figures import Figure
from bench.sites import Site
from bench.wire import Ask, ask_once, chat_body, get, post

RANDOM_INPUTS_OF_A_KIND: Final = 400
NEW_SERIES_MAX: Final = 60
MARKER: Final = "zq"
AT_ONCE: Final = 8


def new_time_series(site: Site) -> Iterator[Figure]:
    """Six kinds of names that a client can make up; none may become a label."""
    with site.serving() as gateway:
        new, leaked, wrong = uvloop.run(_random_inputs(gateway.port, random.Random(1)))
    faults = "".join(f"; {count} × {fault}" for fault, count in wrong.items())
    yield Figure(
        name=f"new time series after 6 × {RANDOM_INPUTS_OF_A_KIND} random inputs",
        goal=f"≤ {NEW_SERIES_MAX}, none with their text",
        measured=f"{new}, {leaked} with their text{faults}",
        passed=new <= NEW_SERIES_MAX and not leaked and not wrong,
        values={"new": new, "leaked": leaked},
    )


async def _random_inputs(port: int, dice: random.Random) -> tuple[int, int, Counter[str]]:
    """Returns the number of new series, of those with a made-up word, and the wrong answers."""
    before = figures.series_in_metrics((await ask_once(port, get("/metrics"))).body.decode())
    wrong: Counter[str] = Counter()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(ask: Ask) -> None:
        async with turns:
            try:
                async with asyncio.timeout(10.0):
                    status = (await ask_once(port, ask)).status
            except ConnectionError:
                return  # Closed without an answer: no way to make a series of it.
            except TimeoutError:
                wrong["no answer"] += 1
            else:
                wrong[f"status {status}"] += status >= 500

    asks = [ask for _ in range(RANDOM_INPUTS_OF_A_KIND) for ask in _made_up(dice)]
    await asyncio.gather(*map(one, asks))
    after = figures.series_in_metrics((await ask_once(port, get("/metrics"))).body.decode())
    leaked = sum(MARKER in series.lower() for series in after)
    return len(after - before), leaked, +wrong


def _made_up(dice: random.Random) -> list[Ask]:
    def word() -> str:
        return MARKER + dice.randbytes(6).hex()

    def chat(model: str, **extra: object) -> Ask:
        body = orjson.loads(chat_body(model, stream=False)) | extra
        return Ask(post("/v1/chat/completions", orjson.dumps(body)))

    return [
        chat(word()),
        chat("tokens:1", **{word(): word(), "user": word()}),
        get(f"/{word()}/{word()}?{word()}={word()}"),
        Ask(f"{word().upper()} /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()),
        get("/v1/models", headers=f"User-Agent: {word()}\r\nX-Request-Id: {word()}\r\n"),
        get(f"/v1/models/{word()}", headers=f"Authorization: Bearer {word()}\r\n"),
    ]
