"""What each dialect costs beside chat completions, on one and the same gateway.

Run by `bench/overhead.py`. All dialects take turns in each of several rounds before the
scripted Ollama; a ratio is the median of those within a round. A dialect's CPU holds all
that its requests cost: the layers that it shares with the others, and Ollama's lines,
which are other ones for a text that is continued than for a chat.
"""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import attrs
import uvloop

from bench import figures, processes
from bench.dialects import (
    anthropic_message,
    ollama_generate,
    openai_completion,
    openai_embedding,
    openai_response,
)
from bench.figures import Figure
from bench.loads import BLAST, CLIENTS, SHORT, closed_loop
from bench.processes import Child, Cores
from bench.wire import Ask, ollama_chat, openai_chat

CPU_PER_CHUNK_RATIO_MAX: Final = 1.3

CHAT: Final = "/v1/chat/completions"
"""The yardstick."""

STREAMING: Final[Mapping[str, Callable[..., Ask]]] = {
    CHAT: openai_chat,
    "/v1/completions": openai_completion,
    "/v1/responses": openai_response,
    "/v1/messages": anthropic_message,
    "/api/chat": ollama_chat,
    "/api/generate": ollama_generate,
}
EMBEDDINGS: Final = "/v1/embeddings"
NAMES: Final = (*STREAMING, EMBEDDINGS)

HEADER: Final = """\
The dialects on one gateway, each beside {chat}:
CPU/request   {clients} clients, whole answers of 8 tokens; of embeddings, one text each
CPU/chunk     {clients} streams of 200 tokens at no pace, over and over
Medians of {rounds} rounds, interleaved. {cores}"""


@attrs.frozen
class Lengths:
    """How often all is done, and for how many seconds each load."""

    rounds: int
    requests_s: float
    blast_s: float


QUICK: Final = Lengths(3, 0.3, 0.3)
FULL: Final = Lengths(9, 0.5, 0.5)


@attrs.frozen
class Cost:
    """What one dialect cost in one round; None of chunks where it has none."""

    cpu_us_per_request: float
    cpu_us_per_chunk: float | None


async def cost(child: Child, name: str, lengths: Lengths) -> tuple[Cost, Counter[str]]:
    """Put its loads on the gateway; also gives everything that went wrong."""
    faults: Counter[str] = Counter()

    async def load(ask: Ask, warm_up: Ask, for_s: float) -> tuple[float, float]:
        tally = await closed_loop(
            child.port, ask, clients=CLIENTS, for_s=for_s, warm_up=warm_up, cpu_s=child.cpu_s
        )
        for fault, count in tally.faults().items():
            faults[f"{name}: {fault}"] += count
        return tally.cpu_us_per_request, tally.cpu_us_per_token

    if name == EMBEDDINGS:
        text = openai_embedding(SHORT)
        per_request, _ = await load(text, text, lengths.requests_s)
        return Cost(per_request, None), faults
    ask = STREAMING[name]
    short = ask(SHORT, stream=False)
    per_request, _ = await load(short, short, lengths.requests_s)
    _, per_chunk = await load(ask(BLAST, stream=True), short, lengths.blast_s)
    return Cost(per_request, per_chunk), faults


def measure(lengths: Lengths, cores: Cores) -> tuple[dict[str, list[Cost]], Counter[str]]:
    """Start a gateway, run the rounds, stop it.

    Returns:
        What each dialect cost, by name, round after round, and everything that went wrong.

    Raises:
        DidNotStart: The gateway, or the scripted Ollama.
    """
    faults: Counter[str] = Counter()
    costs: dict[str, list[Cost]] = {name: [] for name in NAMES}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dialects-")))
        stack.enter_context(processes.running_on(cores.others))
        ollama = stack.enter_context(
            processes.scripted_ollama(directory=directory, cores=cores.others)
        )
        ollama.wait_ready()
        gateway = stack.enter_context(
            processes.gateway(upstream_port=ollama.port, directory=directory, cores=cores.measured)
        )
        gateway.wait_ready()
        for number in range(lengths.rounds):
            turn = number % len(NAMES)
            for name in NAMES[turn:] + NAMES[:turn]:
                one, wrong = uvloop.run(cost(gateway, name, lengths))
                costs[name].append(one)
                faults += wrong
    return costs, faults


def table(costs: Mapping[str, Sequence[Cost]]) -> str:
    """A row for each dialect."""
    chat = costs[CHAT]
    rows = [
        (
            name,
            *_cells(_per_request(seen), _per_request(chat)),
            *_cells(_per_chunk(seen), _per_chunk(chat)),
        )
        for name, seen in costs.items()
    ]
    return figures.table([("", "us CPU/request", "÷ chat", "us CPU/chunk", "÷ chat"), *rows])


def verdicts(costs: Mapping[str, Sequence[Cost]]) -> list[Figure]:
    """Each dialect that streams against its target."""
    return [
        figures.ratio(
            f"CPU per chunk, {name}",
            _per_chunk(costs[name]),
            _per_chunk(costs[CHAT]),
            most=CPU_PER_CHUNK_RATIO_MAX,
            beside="chat",
        )
        for name in STREAMING
        if name != CHAT
    ]


def compare(lengths: Lengths, cores: Cores) -> tuple[dict[str, object], Counter[str]]:
    """Measure and print.

    Returns:
        All that was found, for a JSON report, and everything that went wrong.

    Raises:
        DidNotStart: As `measure`.
    """
    print(HEADER.format(chat=CHAT, clients=CLIENTS, rounds=lengths.rounds, cores=cores), flush=True)
    costs, faults = measure(lengths, cores)
    found = verdicts(costs)
    print(f"\n{table(costs)}\n\n{figures.report(found)}")
    return {
        "costs": {name: [attrs.asdict(one) for one in seen] for name, seen in costs.items()},
        "verdicts": [attrs.asdict(figure) for figure in found],
    }, faults


def _per_request(seen: Sequence[Cost]) -> list[float]:
    return [one.cpu_us_per_request for one in seen]


def _per_chunk(seen: Sequence[Cost]) -> list[float]:
    return [one.cpu_us_per_chunk for one in seen if one.cpu_us_per_chunk is not None]


def _cells(ours: Sequence[float], chat: Sequence[float]) -> tuple[str, str]:
    """The median, and what it is to that of a chat; of a dialect without chunks neither."""
    if not ours:
        return "-", "-"
    return f"{median(ours):.2f}", f"{figures.median_ratio(ours, chat):.2f}"
