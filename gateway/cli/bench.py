"""`gateway bench`: a short, honest look at what the running gateway does on this machine.

Some requests one after the other, then several at once. What is printed is what a
client sees, refusals included, beside what the gateway had foreseen (`?dry_run=1`).
"""

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from gateway.cli import status_words
from gateway.cli.client import Client, Refused, add_client_options, connect
from gateway.cli.command import Command, CommandError
from gateway.cli.output import add_json_option, columns, note, print_json
from gateway.cli.sse import records
from gateway.core import exit_codes, jsonio

SILENCE_S: Final = 660.0

_WORDS: Final = (
    "Describe a village by the sea in the early morning, its houses, its people and what they do"
)


@attrs.frozen
class Run:
    """One request as its client saw it.

    Attributes:
        refused: The code of the refusal; "" where there was an answer.
        retry_after_s: What it was told of when to come back.
    """

    foreseen_s: float | None = None
    first_s: float = 0.0
    total_s: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    refused: str = ""
    retry_after_s: float | None = None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default", help="which model to ask")
    parser.add_argument("--requests", type=_count, default=4, metavar="N", help="at each step; 4")
    parser.add_argument(
        "--at-once", type=_count, default=4, metavar="N", help="clients of the second step; 4"
    )
    parser.add_argument(
        "--max-tokens", type=_count, default=48, metavar="N", help="of an answer; 48"
    )
    add_client_options(parser)
    add_json_option(parser)


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be from 1 to 1000")
    return value


def _run(arguments: argparse.Namespace) -> int:
    client = connect(arguments)
    steps: list[tuple[int, list[Run]]] = []
    for clients in sorted({1, arguments.at_once}):
        note(f"{arguments.requests} requests, {clients} at once …")
        steps.append((clients, measure(client, arguments, clients)))
    if arguments.json:
        print_json(
            {
                "model": arguments.model,
                "steps": [
                    {"at_once": clients, "requests": [attrs.asdict(run) for run in runs]}
                    for clients, runs in steps
                ],
            }
        )
    else:
        print(table(steps))
    if not any(not run.refused for _, runs in steps for run in runs):
        raise CommandError("every request was refused.", exit_code=exit_codes.FAILED)
    return exit_codes.OK


def measure(client: Client, arguments: argparse.Namespace, clients: int) -> list[Run]:
    """All requests of one step, by so many clients; each asks again when it is answered."""
    left = iter(range(arguments.requests))
    lock = threading.Lock()
    runs: list[Run] = []
    broken: list[CommandError] = []

    def ask() -> None:
        while not broken:
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                run = one(client, body(arguments, clients, number))
            except CommandError as error:
                broken.append(error)
                return
            with lock:
                runs.append(run)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return runs


def body(arguments: argparse.Namespace, clients: int, number: int) -> dict[str, Any]:
    """A prompt that no other has: one that the engine knows already would cost it nothing."""
    return {
        "model": arguments.model,
        "messages": [{"role": "user", "content": f"({clients}.{number}) {_WORDS}."}],
        "max_tokens": arguments.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def one(
    client: Client, request: dict[str, Any], *, now: Callable[[], float] = time.monotonic
) -> Run:
    """One request, from its sending to its end.

    Raises:
        CommandError: The answer broke, or what was asked can't be answered at all.
    """
    path = "/v1/chat/completions"
    forecast = client.post(f"{path}?dry_run=1", request)
    began_at, first_at = now(), None
    usage: Any = {}
    try:
        with client.open("POST", path, request, timeout_s=SILENCE_S) as reply:
            for record in records(reply.lines()):
                if not record.data or record.data == "[DONE]":
                    continue
                chunk = jsonio.loads(record.data)
                if "error" in chunk:
                    raise CommandError(chunk["error"]["message"], exit_code=exit_codes.FAILED)
                usage = chunk.get("usage") or usage
                if first_at is None and any(
                    choice["delta"].get("content") for choice in chunk["choices"]
                ):
                    first_at = now()
    except Refused as error:
        if error.status not in (429, 503):
            raise
        return Run(refused=error.code, retry_after_s=error.retry_after_s)
    ended_at = now()
    return Run(
        foreseen_s=_foreseen_s(forecast),
        first_s=(ended_at if first_at is None else first_at) - began_at,
        total_s=ended_at - began_at,
        prompt_tokens=usage.get("prompt_tokens", 0),
        tokens=usage.get("completion_tokens", 0),
    )


def _foreseen_s(forecast: Any) -> float | None:
    """What the gateway expected the whole to take, when it was asked before."""
    try:
        return float(forecast["estimated_wait_ms"] + forecast["estimated_service_ms"]) / 1000.0
    except (KeyError, TypeError):
        return None


def table(steps: Sequence[tuple[int, Sequence[Run]]]) -> str:
    rows = [
        (
            *("at once", "answered", "refused", "first word", "", "whole answer", ""),
            *("foreseen", "tokens/s of one", "of all"),
        ),
        ("", "", "", "median", "worst", "median", "worst", "median", "median", ""),
    ]
    for clients, runs in steps:
        answered = [run for run in runs if not run.refused]
        rows.append(
            (
                str(clients),
                str(len(answered)),
                str(len(runs) - len(answered)),
                *_spread([run.first_s for run in answered]),
                *_spread([run.total_s for run in answered]),
                _spread([run.foreseen_s for run in answered if run.foreseen_s is not None])[0],
                _median_speed(answered),
                _speed_of_all(answered, clients),
            )
        )
    return columns(rows)


def _spread(values: Sequence[float]) -> tuple[str, str]:
    if not values:
        return "-", "-"
    ordered = sorted(values)
    return (
        status_words.seconds(ordered[len(ordered) // 2]),
        status_words.seconds(ordered[-1]),
    )


def _median_speed(runs: Sequence[Run]) -> str:
    speeds = sorted(
        (run.tokens - 1) / (run.total_s - run.first_s)
        for run in runs
        if run.tokens > 1 and run.total_s > run.first_s
    )
    return status_words.speed(speeds[len(speeds) // 2] if speeds else None)


def _speed_of_all(runs: Sequence[Run], clients: int) -> str:
    """By what the clients have waited together: they are never idle."""
    waited_s = sum(run.total_s for run in runs)
    tokens = sum(run.tokens for run in runs)
    return status_words.speed(tokens * clients / waited_s if waited_s else None)


BENCH: Final = Command(
    "bench", "measure what the running gateway answers, in a minute", _arguments, _run
)
