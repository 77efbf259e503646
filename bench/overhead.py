"""What the gateway costs: direct, through the gateway, through a raw proxy, side by side.

    python bench/overhead.py [--quick] [--rounds N] [--dialects] [--json FILE]

All three are up at once before the same scripted Ollama and take turns in each of
several rounds. Figures are medians over the rounds; ratios and differences are medians
of those within a round, so that a machine that drifts drifts for all of them. The
gateway and the raw proxy have one core to themselves, the load generator and the
scripted Ollama the others. CPU is that of the process itself, from
/proc/PID/task/*/schedstat. Every answer is read to its last token after the clock has
stopped; one that is wrong or missing makes the exit status 1. A missed target does not.

Then the dialects, each beside chat completions (bench/dialect_costs.py).
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs
import uvloop

from bench import dialect_costs, figures, processes
from bench.figures import MIB, Figure
from bench.loads import BLAST, CLIENTS, SHORT, Tally, closed_loop
from bench.processes import Child, Cores, DidNotStart
from bench.wire import PROMPT, Ask, ollama_chat, openai_chat

PACE_S: Final = 0.02

CPU_PER_REQUEST_RATIO_MAX: Final = 1.25
CPU_PER_CHUNK_RATIO_MAX: Final = 1.1
LOADED_BYTES_MAX: Final = 60 * MIB

HEADER: Final = """\
direct   the client asks the scripted Ollama itself, POST /api/chat
gateway  POST /v1/chat/completions, as its user starts it, every feature on: queue, metrics,
         a JSON log line per request. It always streams from Ollama, so that a whole answer
         is folded from 9 lines, where the others pass one document on
raw      POST /api/chat through a minimal aiohttp reverse proxy on uvloop, bytes passed through
Every request has the same prompt of {prompt_bytes} bytes; a chunk is a token; connections are kept.
c1    one client
c64   {clients} clients, whole answers of 8 tokens
blast {clients} streams of 200 tokens at no pace, over and over
paced {clients} streams of {paced_tokens} tokens, one each {pace_ms:.0f} ms
Medians of {rounds} rounds, interleaved. {cores}"""


@attrs.frozen
class Lengths:
    """How often all is done, and how long each load runs: seconds, or the tokens of its model.

    Many short rounds rather than few long ones: what disturbs a machine for seconds
    then meets both sides of a ratio, or only one ratio of many.
    """

    rounds: int
    latency_s: float
    first_token_s: float
    requests_s: float
    blast_s: float
    paced_model: str


QUICK: Final = Lengths(3, 0.3, 0.3, 0.4, 0.4, "tokens:50-20ms")
FULL: Final = Lengths(7, 1.0, 1.0, 2.0, 1.0, "tokens:100-20ms")
DIRECT_S_MAX: Final = 0.3
"""The direct way is a yardstick, and so quick that its answers would fill the memory."""


@attrs.frozen
class Peer:
    """One of those compared: where it listens, how it is asked, whose CPU is counted."""

    name: str
    port: int
    chat: Callable[..., Ask]
    child: Child | None = None

    def cpu_s(self) -> float:
        return self.child.cpu_s() if self.child else 0.0


@attrs.frozen(kw_only=True)
class Round:
    """What one peer did in one round."""

    latency_ms: float
    first_token_ms: float
    requests_per_s: float
    cpu_us_per_request: float
    chunks_per_s: float
    cpu_us_per_chunk_blast: float
    cpu_us_per_chunk_paced: float


@attrs.define
class Seen:
    """All that was measured of one peer; of the direct way neither process nor CPU."""

    rounds: list[Round] = attrs.field(factory=list)
    start_ms: list[float] = attrs.field(factory=list)
    idle_bytes: list[int] = attrs.field(factory=list)
    loaded_bytes: int = 0

    def each(self, field: str) -> list[float]:
        return [getattr(one, field) for one in self.rounds]


async def run_round(peer: Peer, lengths: Lengths) -> tuple[Round, Counter[str]]:
    """Put every load on one peer, one after the other; also gives everything that went wrong."""
    faults: Counter[str] = Counter()
    short, stream = peer.chat(SHORT, stream=False), peer.chat(SHORT, stream=True)
    blast = peer.chat(BLAST, stream=True)
    paced = peer.chat(lengths.paced_model, stream=True)

    async def load(
        name: str, ask: Ask, *, clients: int, for_s: float, spread_s: float = 0.0
    ) -> Tally:
        tally = await closed_loop(
            peer.port,
            ask,
            clients=clients,
            for_s=for_s if peer.child else min(for_s, DIRECT_S_MAX),
            warm_up=short,
            spread_s=spread_s,
            cpu_s=peer.cpu_s,
        )
        for fault, count in tally.faults().items():
            faults[f"{peer.name}, {name}: {fault}"] += count
        return tally

    one_client = await load("c1", short, clients=1, for_s=lengths.latency_s)
    one_stream = await load("c1 stream", stream, clients=1, for_s=lengths.first_token_s)
    many = await load("c64", short, clients=CLIENTS, for_s=lengths.requests_s)
    blasted = await load("blast", blast, clients=CLIENTS, for_s=lengths.blast_s)
    # Once each. Begun evenly over one pace: real clients do not come in step.
    told = await load("paced", paced, clients=CLIENTS, for_s=0.0, spread_s=PACE_S)
    return Round(
        latency_ms=one_client.latency_p50_s * 1e3,
        first_token_ms=one_stream.first_token_p50_s * 1e3,
        requests_per_s=many.per_s,
        cpu_us_per_request=many.cpu_us_per_request,
        chunks_per_s=blasted.tokens_per_s,
        cpu_us_per_chunk_blast=blasted.cpu_us_per_token,
        cpu_us_per_chunk_paced=told.cpu_us_per_token,
    ), faults


def measure(*, lengths: Lengths, cores: Cores) -> tuple[dict[str, Seen], Counter[str]]:
    """Start all, run the rounds, stop all.

    Returns:
        What was seen of each peer, by name, and everything that went wrong.
    """
    faults: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overhead-")))
        stack.enter_context(processes.running_on(cores.others))
        ollama = stack.enter_context(
            processes.scripted_ollama(directory=directory, cores=cores.others)
        )
        ollama.wait_ready()

        def start(name: str) -> Child:
            begin = {"gateway": processes.gateway, "raw": processes.raw_proxy}[name]
            return begin(upstream_port=ollama.port, directory=directory, cores=cores.measured)

        children = {name: stack.enter_context(start(name)) for name in ("gateway", "raw")}
        for child in children.values():
            child.wait_ready()
        peers = [
            Peer("direct", ollama.port, ollama_chat),
            Peer("gateway", children["gateway"].port, openai_chat, children["gateway"]),
            Peer("raw", children["raw"].port, ollama_chat, children["raw"]),
        ]
        seen = {peer.name: Seen() for peer in peers}
        for number in range(lengths.rounds):
            for name in children:
                # One more of it, for this alone: those under load are not idle any more.
                with start(name) as fresh:
                    seen[name].start_ms.append(fresh.wait_ready() * 1e3)
                    seen[name].idle_bytes.append(fresh.memory_bytes())
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                one, wrong = uvloop.run(run_round(peer, lengths))
                seen[peer.name].rounds.append(one)
                faults += wrong
        for name, child in children.items():
            seen[name].loaded_bytes = child.memory_bytes()
    return seen, faults


def comparison(seen: Mapping[str, Seen]) -> str:
    """The table: a row for each peer."""
    head = (
        "added p50 ms c1",
        "added TTFT p50 ms",
        "req/s c64",
        "us CPU/request",
        "chunks/s blast",
        "us CPU/chunk blast",
        "us CPU/chunk paced",
        "RSS MB idle→loaded",
        "start ms",
    )
    rows: list[Sequence[str]] = [("", *head)]
    for name, peer in seen.items():
        added = [
            figures.median_difference(peer.each(field), seen["direct"].each(field))
            for field in ("latency_ms", "first_token_ms")
        ]
        cells = [
            *(f"{value:.3f}" for value in added),
            f"{median(peer.each('requests_per_s')):,.0f}",
            f"{median(peer.each('cpu_us_per_request')):.1f}",
            f"{median(peer.each('chunks_per_s')):,.0f}",
            f"{median(peer.each('cpu_us_per_chunk_blast')):.2f}",
            f"{median(peer.each('cpu_us_per_chunk_paced')):.1f}",
        ]
        if peer.start_ms:
            idle_mb, loaded_mb = median(peer.idle_bytes) / MIB, peer.loaded_bytes / MIB
            cells += [f"{idle_mb:.0f}→{loaded_mb:.0f}", f"{median(peer.start_ms):.0f}"]
        else:
            # No process stands between: nothing of it to measure.
            cells = [*cells[:3], "-", cells[4], *["-"] * 4]
        rows.append((name, *cells))
    return figures.table(rows)


def verdicts(seen: Mapping[str, Seen]) -> list[Figure]:
    """The gateway against its targets."""

    def ratio(name: str, field: str, most: float) -> Figure:
        ours, theirs = seen["gateway"].each(field), seen["raw"].each(field)
        return figures.ratio(name, ours, theirs, most=most, beside="raw")

    loaded_bytes = seen["gateway"].loaded_bytes
    return [
        ratio("CPU per request, c64", "cpu_us_per_request", CPU_PER_REQUEST_RATIO_MAX),
        ratio("CPU per chunk, blast", "cpu_us_per_chunk_blast", CPU_PER_CHUNK_RATIO_MAX),
        ratio("CPU per chunk, paced", "cpu_us_per_chunk_paced", CPU_PER_CHUNK_RATIO_MAX),
        Figure(
            name="memory after load",
            goal=f"≤ {LOADED_BYTES_MAX / MIB:.0f} MB",
            measured=f"{loaded_bytes / MIB:.1f} MB",
            passed=loaded_bytes <= LOADED_BYTES_MAX,
            values={"bytes": loaded_bytes},
        ),
    ]


def compare(lengths: Lengths, cores: Cores) -> tuple[dict[str, object], Counter[str]]:
    """Measure and print.

    Returns:
        All that was found, for the JSON report, and everything that went wrong.
    """
    paced = openai_chat(lengths.paced_model, stream=True)
    print(
        HEADER.format(
            prompt_bytes=len(PROMPT),
            clients=CLIENTS,
            paced_tokens=paced.tokens,
            pace_ms=PACE_S * 1e3,
            rounds=lengths.rounds,
            cores=cores,
        ),
        flush=True,
    )
    seen, faults = measure(lengths=lengths, cores=cores)
    found = verdicts(seen)
    print(f"\n{comparison(seen)}\n\n{figures.report(found)}\n")
    return {
        "seen": {name: attrs.asdict(peer) for name, peer in seen.items()},
        "verdicts": [attrs.asdict(figure) for figure in found],
    }, faults


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--quick", action="store_true", help="one minute instead of four, rougher")
    parser.add_argument("--rounds", type=int, help="7 and 9 by default, 3 if quick")
    parser.add_argument("--dialects", action="store_true", help="nothing but the dialects")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of it there")
    options = parser.parse_args(arguments)
    lengths = QUICK if options.quick else FULL
    dialect_lengths = dialect_costs.QUICK if options.quick else dialect_costs.FULL
    if options.rounds:
        lengths = attrs.evolve(lengths, rounds=options.rounds)
        dialect_lengths = attrs.evolve(dialect_lengths, rounds=options.rounds)
    cores = Cores.of_this_machine()
    document: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "kernel": os.uname().release}
    }
    faults: Counter[str] = Counter()
    processes.end_on_sigterm()
    try:
        if not options.dialects:
            found, faults = compare(lengths, cores)
            document |= found
        document["dialects"], wrong = dialect_costs.compare(dialect_lengths, cores)
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    faults += wrong
    for fault, count in faults.most_common():
        print(f"ERROR {count} × {fault}")
    if options.json:
        document["faults"] = faults
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if faults else 0


_AS_WRITTEN: Final = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
