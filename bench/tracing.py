"""What traces cost: the same gateway without them, with none sampled, and with all sent.

    python bench/tracing.py [--quick] [--rounds N]

All three are up at once before the same scripted Ollama and take turns in each of
several rounds; a ratio is the median of those within a round. CPU is that of the
gateway's process, the thread that makes spans and sends them too; the collector is a
process of its own that reads what it is sent and answers 200. Spans that were dropped,
and answers that were wrong, make the exit status 1.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs
import uvloop

from bench import figures, processes
from bench.figures import Figure
from bench.loads import CLIENTS, SHORT, closed_loop
from bench.processes import Child, Cores, DidNotStart
from bench.wire import HOST, openai_chat

CPU_RATIO_MAX: Final = 1.2

OFF, UNSAMPLED, ALL = "off", "none sampled", "all sent"

HEADER: Final = """\
{clients} clients, whole answers of 8 tokens; each request is a server's span and three below it.
off           no [tracing]
none sampled  sample_ratio = 0: each request has a place in a trace, which Ollama is told
all sent      sample_ratio = 1
Medians of {rounds} rounds, interleaved. {cores}"""


@attrs.frozen
class Cost:
    """Of one gateway in one round."""

    cpu_us_per_request: float
    latency_ms: float


async def cost(child: Child, for_s: float) -> tuple[Cost, Counter[str]]:
    """Put the load on it; also gives everything that went wrong."""
    ask = openai_chat(SHORT, stream=False)
    many = await closed_loop(
        child.port, ask, clients=CLIENTS, for_s=for_s, warm_up=ask, cpu_s=child.cpu_s
    )
    one = await closed_loop(
        child.port, ask, clients=1, for_s=for_s / 2, warm_up=ask, cpu_s=child.cpu_s
    )
    return Cost(many.cpu_us_per_request, one.latency_p50_s * 1e3), many.faults() + one.faults()


def collector(directory: Path, cores: frozenset[int]) -> Child:
    """Takes spans, and looks at none."""
    port = processes.free_port()
    return Child(
        [sys.executable, "-m", "bench.tracing", "--collector", str(port)],
        port=port,
        ready_path="/",
        log_path=directory / "collector.log",
        cores=cores,
    )


def measure(
    rounds: int, for_s: float, cores: Cores
) -> tuple[dict[str, list[Cost]], float, Counter[str]]:
    """Start all, run the rounds, stop all.

    Returns:
        What each gateway cost, round after round; how many requests' spans were dropped;
        and everything that went wrong.

    Raises:
        DidNotStart: One of them.
    """
    faults: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracing-")))
        stack.enter_context(processes.running_on(cores.others))
        ollama = stack.enter_context(
            processes.scripted_ollama(directory=directory, cores=cores.others)
        )
        taker = stack.enter_context(collector(directory, cores.others))
        for child in (ollama, taker):
            child.wait_ready()
        tracing = f'[tracing]\nendpoint = "http://{HOST}:{taker.port}"\nsample_ratio = '
        gateways = {
            name: stack.enter_context(
                processes.gateway(
                    upstream_port=ollama.port,
                    directory=directory,
                    cores=cores.measured,
                    more=more,
                )
            )
            for name, more in ((OFF, ""), (UNSAMPLED, f"{tracing}0"), (ALL, f"{tracing}1"))
        }
        for child in gateways.values():
            child.wait_ready()
        costs: dict[str, list[Cost]] = {name: [] for name in gateways}
        names = list(gateways)
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                one, wrong = uvloop.run(cost(gateways[name], for_s))
                costs[name].append(one)
                for fault, count in wrong.items():
                    faults[f"{name}: {fault}"] += count
        return costs, _dropped(gateways[ALL]), faults


def _dropped(child: Child) -> float:
    with urllib.request.urlopen(f"http://{HOST}:{child.port}/metrics") as page:
        found = re.search(rb"^gateway_traces_dropped_total (\S+)$", page.read(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def table(costs: dict[str, list[Cost]]) -> str:
    """A row for each gateway."""
    rows = [
        (
            name,
            f"{median(one.cpu_us_per_request for one in seen):.0f}",
            f"{figures.median_ratio(_cpu(seen), _cpu(costs[OFF])):.2f}",
            f"{median(one.latency_ms for one in seen):.3f}",
        )
        for name, seen in costs.items()
    ]
    return figures.table([("", "us CPU/request", "÷ off", "p50 ms c1"), *rows])


def verdicts(costs: dict[str, list[Cost]], dropped: float) -> list[Figure]:
    return [
        figures.ratio(
            "CPU per request, all sent",
            _cpu(costs[ALL]),
            _cpu(costs[OFF]),
            most=CPU_RATIO_MAX,
            beside=OFF,
        ),
        Figure(
            name="requests whose spans were dropped",
            goal="0",
            measured=f"{dropped:.0f}",
            passed=not dropped,
            values={"dropped": dropped},
        ),
    ]


def _cpu(seen: Sequence[Cost]) -> list[float]:
    return [one.cpu_us_per_request for one in seen]


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--quick", action="store_true", help="half a minute, rougher")
    parser.add_argument("--rounds", type=int, help="9 by default, 3 if quick")
    parser.add_argument("--collector", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.collector:
        ThreadingHTTPServer((HOST, options.collector), _Taker).serve_forever()
    rounds = options.rounds or (3 if options.quick else 9)
    cores = Cores.of_this_machine()
    processes.end_on_sigterm()
    print(HEADER.format(clients=CLIENTS, rounds=rounds, cores=cores), flush=True)
    try:
        costs, dropped, faults = measure(rounds, 0.5 if options.quick else 1.0, cores)
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{table(costs)}\n\n{figures.report(verdicts(costs, dropped))}")
    for fault, count in faults.most_common():
        print(f"ERROR {count} × {fault}")
    return 1 if faults or dropped else 0


_AS_WRITTEN: Final = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
