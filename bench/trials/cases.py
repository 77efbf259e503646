"""The predecessor's eight experiments, as data. Durations are seconds of the box."""

from typing import Final

import attrs

from bench.asking import Client
from bench.load import Burst, ClosedLoop, OpenLoop, Plan
from bench.prompts import Messages, Unique
from bench.retries import Retries

DEADLINE_S: Final = 60.0
"""What a request has, as it had with the predecessor."""

PATIENCE_S: Final = 600.0
"""The timeout that openai-python has by default."""

RETRIES: Final = "SDK's retries"
LEVELS: Final = (1, 5, 10, 20, 30, 50, 60)
TURN_TOKENS: Final = 15


@attrs.frozen(kw_only=True)
class Dialogue:
    """Each request is a conversation of so many questions, of which the last is not answered."""

    turns: int
    seed: int = 1

    def messages(self, number: int) -> Messages:
        said: Messages = []
        for turn in range(2 * self.turns - 1):
            # Its own words to each turn, so that no two conversations share a beginning.
            words = Unique(tokens=TURN_TOKENS, seed=self.seed * 1_000_000 + number)
            (message,) = words.messages(turn)
            said.append(message | {"role": "assistant" if turn % 2 else "user"})
        return said


@attrs.frozen(kw_only=True)
class Case:
    """One load.

    Attributes:
        at: Where on the axis of a plot; None: it has only its label.
        series: What its points are joined by in a plot; "" for those of the plain clients.
        retries: Whether clients come back as openai-python does.
        models: How many take turns.
    """

    label: str
    plan: Plan
    at: float | None = None
    series: str = ""
    stream: bool = False
    retries: bool = False
    models: int = 1
    prompts: Unique | Dialogue = Unique()


@attrs.frozen(kw_only=True)
class Experiment:
    """Loads that are compared.

    Attributes:
        measures: The columns of its table, by key.
        plotted: Those of them that have a plot.
        axis: What the cases' `at` means.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    measures: tuple[str, ...]
    plotted: tuple[str, ...]
    axis: str = ""

    @property
    def models(self) -> int:
        return max(case.models for case in self.cases)


def scaled(plan: Plan, scale: float) -> Plan:
    """The same load on a world that goes `scale` times as fast."""
    match plan:
        case ClosedLoop():
            return attrs.evolve(plan, duration_s=plan.duration_s / scale)
        case OpenLoop():
            return attrs.evolve(
                plan, duration_s=plan.duration_s / scale, rate_per_s=plan.rate_per_s * scale
            )
        case Burst():
            return plan


def client_of(case: Case, *, base: Client, scale: float, seed: int) -> Client:
    """Who sends the load of a case.

    Args:
        base: What is the same in all cases; all its models.
        seed: Of what is said, another one for each case: a gateway may remember.
    """
    return attrs.evolve(
        base,
        models=base.models[: case.models],
        prompts=attrs.evolve(case.prompts, seed=seed),
        stream=case.stream,
        deadline_s=DEADLINE_S / scale,
        retries=(Retries() if case.retries else Retries(count_max=0)).scaled(scale),
    )


def experiments(*, quick: bool = False) -> tuple[Experiment, ...]:
    """All of them; quick: shorter, and fewer levels."""
    minute_s, minutes_2_s = (20.0, 40.0) if quick else (60.0, 120.0)
    levels = (1, 10, 60) if quick else LEVELS
    sizes = ("answered", "refused", "timed_out", "truncated")
    first = ("first_token_mean_s", "first_token_min_s", "first_token_max_s")
    return (
        Experiment(
            name="throughput",
            title="Throughput",
            cases=(
                Case(label="1 client", plan=ClosedLoop(1, minute_s)),
                Case(label="5 clients", plan=ClosedLoop(5, minute_s)),
            ),
            measures=("answered", "latency_mean_s", "tokens_per_s"),
            plotted=("tokens_per_s",),
        ),
        Experiment(
            name="concurrency",
            title="Latency against concurrency: so many at once",
            cases=(
                *(Case(label=str(level), plan=Burst(level), at=level) for level in levels),
                *(
                    Case(
                        label=f"{level}, {RETRIES}",
                        plan=Burst(level),
                        at=level,
                        series=RETRIES,
                        retries=True,
                    )
                    for level in levels
                ),
            ),
            measures=(*sizes, "latency_mean_s"),
            plotted=("answered", "latency_mean_s"),
            axis="requests at once",
        ),
        Experiment(
            name="backpressure",
            title="Backpressure: 100 at once on a queue of 50",
            cases=(
                Case(label="100 at once", plan=Burst(100)),
                Case(label=f"100 at once, {RETRIES}", plan=Burst(100), retries=True),
            ),
            measures=(*sizes, "refusal_mean_s", "latency_mean_s"),
            plotted=("answered", "timed_out"),
        ),
        Experiment(
            name="streaming",
            title="Streaming against not",
            cases=tuple(
                Case(
                    label=f"{'stream' if stream else 'whole'}, {who}",
                    plan=ClosedLoop(clients, minute_s),
                    stream=stream,
                )
                for clients, who in ((1, "alone"), (5, "5 clients"))
                for stream in (True, False)
            ),
            measures=("answered", "latency_mean_s", "first_token_mean_s"),
            plotted=("latency_mean_s", "first_token_mean_s"),
        ),
        Experiment(
            name="first-token",
            title="Time to first token",
            cases=tuple(
                Case(label=who, plan=ClosedLoop(clients, minute_s), stream=True)
                for clients, who in ((1, "alone"), (5, "5 clients"))
            ),
            measures=("answered", *first),
            plotted=("first_token_mean_s",),
        ),
        Experiment(
            name="prompts",
            title="Prompt length",
            cases=tuple(
                Case(label=label, plan=ClosedLoop(1, minute_s), prompts=prompts)
                for label, prompts in (
                    ("short", Unique(tokens=5)),
                    ("50 tokens", Unique(tokens=50)),
                    ("5 turns", Dialogue(turns=5)),
                    ("10 turns", Dialogue(turns=10)),
                )
            ),
            measures=("answered", "latency_mean_s"),
            plotted=("latency_mean_s",),
        ),
        Experiment(
            name="sustained",
            title="Sustained load",
            cases=(Case(label=f"5 clients, {minutes_2_s:g} s", plan=ClosedLoop(5, minutes_2_s)),),
            measures=("answered", "timed_out", "tokens", "tokens_per_s", "latency_mean_s"),
            plotted=("tokens_per_s",),
        ),
        Experiment(
            name="mixed",
            title="Mixed models: two in turn, room for one",
            cases=(
                Case(label="one model", plan=ClosedLoop(6, minutes_2_s)),
                Case(label="two models", plan=ClosedLoop(6, minutes_2_s), models=2),
            ),
            measures=("answered", "refused", "timed_out", "latency_mean_s", "loads"),
            plotted=("answered", "latency_mean_s"),
        ),
    )
