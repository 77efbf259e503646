"""What deciding costs: the scheduler's own time for each request, with many of them waiting.

    python bench/scheduler_cost.py [--rounds N] [--requests N] [--profile]

Nothing runs and nothing is sent: the real scheduler, with every rule on, on a virtual
clock. In each step a request comes (price, outlook, wait) and one goes (ended, choose,
started), so that as many wait all the time. A round is so many steps; the best round
counts, since whatever else the machine does only adds to it. Beside it, in the same
rounds, the same steps by a deque that knows nothing but arrival.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import figures
from bench.figures import Figure
from gateway.backends.base import InferenceBackend, Probe
from gateway.config.schema import Scheduling
from gateway.core.messages import GenerateRequest, Message, Role, Timings, Usage
from gateway.core.models import ModelInfo
from gateway.core.ticket import Caller, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import CostModel, Work
from gateway.scheduling.scheduler import Scheduler

GOALS_US: Final = {50: 30.0, 1000: 60.0}
"""By how many wait."""

CALLERS: Final = 8
DEADLINE_S: Final = 60.0
STEP_S: Final = 0.02
"""What a request takes: so little that even the longest queue keeps its promises."""

SYSTEM: Final = Message(role=Role.SYSTEM, content="You answer in one sentence. " * 20)
PROFILED_LINES: Final = 30


class _Engine:
    """All that the scheduler wants of an engine is how it spells its models."""

    def canonical(self, model: str) -> str:
        return model


class Line:
    """A scheduler in front of one slot, with so many waiting; half of them are streams."""

    def __init__(self, depth: int) -> None:
        self._upstream = Upstream("one", cast(InferenceBackend, _Engine()), 1, slots_max=8)
        self._upstream.found(Probe(models=(ModelInfo(id="m"),)))
        self._scheduler = Scheduler(
            pool=Pool([self._upstream]),
            costs=_learned(),
            settings=Scheduling(),
            max_tokens=2048,
            newcomers=True,
        )
        self._callers = [Caller(f"caller{number}") for number in range(CALLERS)]
        self._now = 0.0
        self._number = 0
        self._running = self._ticket()
        self._scheduler.price(self._running)
        self._upstream.take()
        self._scheduler.started(self._running, self._upstream, self._now)
        self._waiting: list[Ticket] = []
        for _ in range(depth):
            ticket = self._ticket()
            self._come(ticket)
            self._waiting.append(ticket)

    def seconds(self, steps: int) -> float:
        """In the scheduler, in so many steps."""
        spent_s = 0.0
        for _ in range(steps):
            self._now += STEP_S
            ticket = self._ticket()
            began_at = time.perf_counter()
            self._come(ticket)
            spent_s += time.perf_counter() - began_at
            self._waiting.append(ticket)
            self._upstream.release()
            began_at = time.perf_counter()
            self._scheduler.ended(self._running, self._now)
            chosen = self._scheduler.choose(self._waiting, self._now)
            spent_s += time.perf_counter() - began_at
            self._waiting.remove(chosen)
            self._upstream.take()
            began_at = time.perf_counter()
            self._scheduler.started(chosen, self._upstream, self._now)
            spent_s += time.perf_counter() - began_at
            self._running = chosen
        return spent_s

    def _come(self, ticket: Ticket) -> None:
        self._scheduler.price(ticket)
        self._scheduler.outlook(ticket, self._now)
        self._scheduler.wait(ticket, self._now)

    def _ticket(self) -> Ticket:
        self._number += 1
        caller = self._callers[self._number % CALLERS]
        question = Message(role=Role.USER, content=f"What comes after {self._number}? " * 4)
        return Ticket(
            request_id="",
            number=self._number,
            caller=caller,
            request=GenerateRequest(
                model="m",
                messages=(SYSTEM, question),
                max_tokens=16,
                stream=self._number % 2 == 0,
            ),
            arrived_at=self._now,
            deadline_at=self._now + DEADLINE_S,
            flow=caller.name,
        )


def fifo_seconds(depth: int, steps: int) -> float:
    """The same by arrival alone."""
    waiting = deque(range(depth))
    began_at = time.perf_counter()
    for number in range(steps):
        waiting.append(number)
        waiting.popleft()
    return time.perf_counter() - began_at


def measure(depth: int, *, rounds: int, steps: int) -> Figure:
    line = Line(depth)
    line.seconds(steps)
    ours, fifo = [], []
    for _ in range(rounds):
        ours.append(line.seconds(steps) / steps * 1e6)
        fifo.append(fifo_seconds(depth, steps) / steps * 1e6)
    best, goal = min(ours), GOALS_US[depth]
    return Figure(
        name=f"scheduler, {depth} waiting: µs per request",
        goal=f"<= {goal:.0f}",
        measured=f"{best:.1f} ({best / min(fifo):.0f} times a FIFO's {min(fifo):.2f})",
        passed=best <= goal,
        values={"us": best, "fifo_us": min(fifo)},
    )


def _learned() -> CostModel:
    """An engine that reads and writes a token in a millisecond or less."""
    costs = CostModel()
    work = Work(prompt_chars=700, messages=2, cached_chars=0, max_tokens=16)
    for _ in range(40):
        costs.observe(
            "one",
            "m",
            work,
            concurrency=1,
            usage=Usage(prompt=180, completion=10),
            timings=Timings(total_s=0.019, load_s=0.0, prefill_s=0.009, decode_s=0.01),
            capped=False,
            seen_s=0.0195,
        )
    return costs


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench/scheduler_cost.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=500, help="in each round")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    options = parser.parse_args(arguments)
    if options.profile:
        for depth in GOALS_US:
            line = Line(depth)
            profile = cProfile.Profile()
            profile.runcall(line.seconds, options.requests)
            print(f"{depth} waiting, {options.requests} requests:")
            pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILED_LINES)
        return 0
    found = [measure(depth, rounds=options.rounds, steps=options.requests) for depth in GOALS_US]
    print(figures.report(found))
    return int(any(figure.passed is False for figure in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
