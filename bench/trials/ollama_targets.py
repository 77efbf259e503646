"""What the order of the work is worth on a real Ollama with one slot and room for one model."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from bench.answers import Uniform
from bench.figures import Figure
from bench.load import Burst
from bench.prompts import Conversations, Prompts, Unique
from bench.results import Outcome
from bench.trials import served
from bench.trials.known import makespan_s
from bench.trials.served import Served
from bench.trials.stand import Scope, Stand

PATIENT_S: Final = 1800.0
ANSWERS: Final = Uniform(8, 16)
REQUESTS: Final = 12
PREFIX_WORDS: Final = 100


def order(_: Scope) -> Iterator[Figure]:
    """Ollama's own line against ours: two models in turn, and two conversations in turn."""
    patient: served.Tables = {
        "backend": {"slots": 1},
        "queue": {"max_queue_size": 200},
        "timeouts": {"request_timeout_seconds": PATIENT_S, "first_byte_timeout_seconds": PATIENT_S},
        "scheduling": {"affinity_wait_max_seconds": PATIENT_S},
    }
    with (
        tempfile.TemporaryDirectory(prefix="targets-") as name,
        served.ollama(Path(name), more=patient) as at,
    ):
        talks = Conversations(count=2, prefix_tokens=PREFIX_WORDS, tokens=5)
        yield from _ratio(at, "A B A B over two models", at.models[:2], Unique(tokens=10))
        yield from _ratio(at, "two conversations in turn", at.models[:1], talks)


def _ratio(at: Served, name: str, models: tuple[str, ...], prompts: Prompts) -> Iterator[Figure]:
    stand = Stand(at=at, scope=Scope(scale=1.0))
    took: dict[bool, float] = {}
    for direct in (True, False):
        # Each begins with the first model, and with nothing of the conversations.
        before = stand.client(
            direct=True, deadline_s=PATIENT_S, models=models[:1], prompts=Unique(seed=9, tokens=5)
        )
        stand.put(Burst(1), before)
        client = stand.client(
            direct=direct, deadline_s=PATIENT_S, models=models, max_tokens=ANSWERS, prompts=prompts
        )
        results = stand.put(Burst(REQUESTS), attrs.evolve(client, retries=stand.retries()))
        took[direct] = makespan_s(results)
        answered = sum(result.outcome(PATIENT_S) is Outcome.IN_TIME for result in results)
        yield Figure(
            name=f"{name}, {REQUESTS} at once: {'direct' if direct else 'gateway'}",
            goal="",
            measured=f"{took[direct]:.1f} s, {answered} answered",
            passed=None,
            values={"wall_s": took[direct], "answered": answered},
        )
    yield Figure(
        name=f"{name}: Ollama's own line ÷ ours",
        goal="",
        measured=f"{took[True] / took[False]:.2f}" if took[False] else "-",
        passed=None,
        values={"direct_s": took[True], "gateway_s": took[False]},
    )
