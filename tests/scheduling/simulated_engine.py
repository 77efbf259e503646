"""An engine with a queue inside, and a first come, first served gateway before it, in no time."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

import attrs

from gateway.core.messages import Timings
from gateway.scheduling.slots import Occupancy, SlotLearner

TOKENS_PER_S: Final = 10.0


@attrs.define(kw_only=True)
class Engine:
    """What is true of it.

    Attributes:
        parallel: Requests that it runs at once; more wait inside, in their order.
        speeds: Of all together, by how many run, as multiples of one alone; the last
            one for more.
        noise: Standard deviation of the logarithm of the time that a request takes.
        tells: Of its own time: all, as Ollama; its work alone, as llama.cpp; nothing.
    """

    parallel: int
    speeds: Sequence[float] = (1.0,)
    noise: float = 0.0
    tells: Literal["all", "work", "nothing"] = "all"

    def speed(self, running: int) -> float:
        """Of each of them."""
        return self.speeds[min(running, len(self.speeds)) - 1] / running


@attrs.define(eq=False)
class Job:
    """One request. What is left is in seconds that it takes alone."""

    arrived_at: float
    prefill_s: float
    tokens: int
    decode_s: float = attrs.field(init=False)
    sent_at: float = attrs.field(init=False)
    slot_s: float = attrs.field(init=False)
    begun_at: float = attrs.field(init=False)
    read_at: float | None = attrs.field(init=False, default=None)
    done_at: float = attrs.field(init=False)

    def begin(self, factor: float, now: float) -> None:
        self.begun_at = now
        self.prefill_s *= factor
        self.decode_s = self.tokens / TOKENS_PER_S * factor

    @property
    def left_s(self) -> float:
        """Of the phase that it is in."""
        return self.prefill_s if self.read_at is None else self.decode_s

    def work(self, seconds: float) -> None:
        if self.read_at is None:
            self.prefill_s -= seconds
        else:
            self.decode_s -= seconds


def arrivals(per_s: float, until_s: float, dice: random.Random) -> list[Job]:
    """Chats of 8 to 32 tokens, at random times."""
    now, jobs = 0.0, []
    while (now := now + dice.expovariate(per_s)) < until_s:
        jobs.append(Job(now, dice.uniform(0.1, 1.0), dice.randint(8, 32)))
    return jobs


def crowd(count: int) -> list[Job]:
    """All of them at once and alike."""
    return [Job(0.0, 0.5, 20) for _ in range(count)]


def run(
    jobs: Sequence[Job],
    engine: Engine,
    learner: SlotLearner,
    *,
    slack_s: float = 1e9,
    heard: Callable[[float], None] = lambda now: None,
    seed: int = 0,
) -> None:
    """Send them all through; `heard` is called whenever something has happened."""
    dice = random.Random(seed)
    coming, waiting, inside = deque(jobs), deque[Job](), deque[Job]()
    active: list[Job] = []
    occupancy = Occupancy()
    now = 0.0
    while coming or waiting or active:
        speed = engine.speed(len(active)) if active else 1.0
        next_up = min(active, key=lambda job: job.left_s, default=None)
        step_s = float("inf") if next_up is None else max(0.0, next_up.left_s / speed)
        if coming and coming[0].arrived_at - now < step_s:
            step_s, next_up = max(0.0, coming[0].arrived_at - now), None
        now += step_s
        for job in active:
            job.work(step_s * speed)
        if next_up is None:
            waiting.append(coming.popleft())
        elif next_up.read_at is None:
            next_up.read_at = now
        else:
            active.remove(next_up)
            _finish(next_up, engine, learner, occupancy, now)
        learner.review(len(waiting), slack_s, now)
        while waiting and len(active) + len(inside) < learner.slots:
            job = waiting.popleft()
            job.sent_at, job.slot_s = now, occupancy.started(now)
            inside.append(job)
        while inside and len(active) < engine.parallel:
            job = inside.popleft()
            job.begin(dice.lognormvariate(0.0, engine.noise), now)
            active.append(job)
        heard(now)


def p95_s(jobs: Sequence[Job]) -> float:
    """Of the time from arrival to end."""
    return sorted(job.done_at - job.arrived_at for job in jobs)[len(jobs) * 95 // 100]


def _finish(
    job: Job, engine: Engine, learner: SlotLearner, occupancy: Occupancy, now: float
) -> None:
    assert job.read_at is not None
    job.done_at = now
    seen_s = now - job.sent_at
    told = Timings()
    if engine.tells != "nothing":
        told.prefill_s, told.decode_s = job.read_at - job.begun_at, now - job.read_at
        told.total_s = seen_s if engine.tells == "all" else now - job.begun_at
    learner.observe(
        "m",
        concurrency=occupancy.mean_since(job.slot_s, seen_s, now),
        timings=told,
        tokens=job.tokens,
        seen_s=seen_s,
        now=now,
    )
    occupancy.ended(now)
