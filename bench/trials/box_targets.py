"""What was promised under overload, on the simulated box as a real server.

Each function starts a box with a gateway before it, puts the same load on the gateway and
on the box itself, which keeps Ollama's own line, and tells both. Times in the figures are
seconds of the box, but for refusals, which are no work of the box.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import fmean
from typing import Final

import attrs
import uvloop

from bench.figures import Figure, quantile
from bench.load import Burst, ClosedLoop, OpenLoop, Plan, run
from bench.prompts import Conversations, Unique
from bench.results import Outcome, Result, summarise
from bench.simulation import oracle
from bench.trials import sdk
from bench.trials.cases import DEADLINE_S, scaled
from bench.trials.known import Known, accepted_too_late, begun_at, makespan_s
from bench.trials.served import Tables
from bench.trials.stand import Scope, Stand, box_stand

BURST: Final = 100
STREAMS: Final = 30
FLOOD: Final = 40
GOODPUT_MIN: Final = 0.95
REFUSAL_S_MAX: Final = 0.05
BURST_MIN: Final = 0.95
MAKESPAN_MAX: Final = 1.3
LOADS_MAX: Final = 1.2
PREFILL_MAX: Final = 1.25

MODELS: Final = ("a:latest", "b:latest")
KEYS: Final = {name: f"sk-{name}-0123456789abcdefghijklmnop" for name in ("flood", "light")}
PATIENT_S: Final = 1200.0
"""What a request has where only the order of the work is looked at."""

SLACK_S: Final = 0.5
"""Of the box. The oracle's slot holds nothing of any prompt, and so is late by a token each."""

DIRECT: Final = "  the box's own line"


def loops(scope: Scope) -> Iterator[Figure]:
    """Clients that ask again as soon as they are answered, and don't retry."""
    refusals: list[float] = []
    with box_stand(scope) as stand:
        for level in scope.levels:
            yield _loop(stand, f"closed loop, {level:2}", level, refusals=refusals)
            yield _loop(stand, DIRECT, level, direct=True)
    p99_s = quantile(refusals, 0.99)
    yield Figure(
        name="closed loops: time to a refusal, p99",
        goal=f"< {REFUSAL_S_MAX * 1e3:.0f} ms, real",
        measured=f"{p99_s * 1e3:.0f} ms of {len(refusals)}",
        passed=p99_s < REFUSAL_S_MAX,
        values={"p99_s": p99_s, "refusals": len(refusals)},
    )


def streams(scope: Scope) -> Iterator[Figure]:
    """The same for streams, whose first token must come in time."""
    with box_stand(scope) as stand:
        for direct in (False, True):
            name = DIRECT if direct else f"closed loop of streams, {STREAMS}"
            yield _loop(stand, name, STREAMS, direct=direct, stream=True)


def _loop(
    stand: Stand,
    name: str,
    level: int,
    *,
    direct: bool = False,
    stream: bool = False,
    refusals: list[float] | None = None,
) -> Figure:
    """One level.

    Args:
        refusals: Takes the real seconds of each.
    """
    # Each level says other things: a gateway may remember.
    client = stand.client(direct=direct, stream=stream, prompts=Unique(seed=level))
    before = stand.answered_504()
    results = stand.put(ClosedLoop(level, stand.scope.loop_s), client)
    loop_s = stand.scope.loop_s / stand.at.scale
    goodput = stand.known(client).goodput(results, since=begun_at(results), for_s=loop_s)
    too_late = accepted_too_late(results, deadline_s=client.deadline_s)
    counted = stand.answered_504() - before
    summary = summarise(results, deadline_s=client.deadline_s)
    first_tokens = [
        waited_s * stand.at.scale
        for result in results
        if result.stream and (waited_s := result.waited_s()) is not None
    ]
    if refusals is not None:
        refusals += _refusals_s(results)
    told = f", first token <= {max(first_tokens, default=math.nan):.1f} s" if stream else ""
    return Figure(
        name=f"{name}: goodput, accepted too late",
        goal="" if direct else f">= {GOODPUT_MIN:.0%}, 0",
        measured=f"{goodput:.1%}, {too_late} ({counted:.0f} × 504, {summary.truncated} cut){told}",
        passed=None if direct else goodput >= GOODPUT_MIN and not too_late and not counted,
        values={
            "level": level,
            "goodput": goodput,
            "too_late": too_late,
            "answered_504": counted,
            "truncated": summary.truncated,
            "answered": summary.in_time,
            "refused": summary.outcomes[Outcome.REFUSED],
            "failed": summary.outcomes[Outcome.FAILED],
            "first_token_max_s": max(first_tokens, default=math.nan),
            "busy": stand.state()["busy_s"] / makespan_s(results) if results else math.nan,
        },
    )


SHORT: Final = Unique(tokens=8)
"""2.8 s each on average: a hundred take nearly as long as the patience of an SDK, which comes
back twice within 120 s and then waits for 60."""


def burst(scope: Scope) -> Iterator[Figure]:
    """100 at once that don't come back, against who knows how long each answer is."""
    with box_stand(scope, told=True) as stand:
        yield _burst(stand, "burst of 100, no retries, lengths told")
        yield _burst(stand, DIRECT, direct=True)
    with box_stand(scope) as stand:
        yield _burst(stand, "  lengths not told", goal=False)


def _burst(stand: Stand, name: str, *, direct: bool = False, goal: bool = True) -> Figure:
    client = stand.client(direct=direct)
    jobs = stand.known(client).jobs(BURST, due_s=client.deadline_s)
    fit = len(oracle.in_turn(jobs))
    results = stand.put(Burst(BURST), client)
    summary = summarise(results, deadline_s=client.deadline_s)
    too_late = accepted_too_late(results, deadline_s=client.deadline_s)
    refusals = _refusals_s(results)
    p99_s = quantile(refusals, 0.99)
    refused = f"refusals p99 {p99_s * 1e3:.0f} ms" if refusals else "no refusals"
    share = summary.in_time / fit
    return Figure(
        name=f"{name}: in time ÷ perfect admission, accepted too late",
        goal=f">= {BURST_MIN:.0%}, 0" if goal and not direct else "",
        measured=f"{share:.0%} ({summary.in_time} of {fit}), {too_late}, {refused}",
        passed=share >= BURST_MIN and not too_late if goal and not direct else None,
        values={
            "answered": summary.in_time,
            "fit": fit,
            "too_late": too_late,
            "truncated": summary.truncated,
            "refusal_p99_s": p99_s,
        },
    )


def burst_retries(scope: Scope) -> Iterator[Figure]:
    """100 at once that come back as openai-python does, and by openai-python itself."""
    with box_stand(scope) as stand:
        for direct in (False, True):
            client = stand.client(direct=direct, retries=stand.retries(), prompts=SHORT)
            results = stand.put(Burst(BURST), client)
            summary = summarise(results, deadline_s=client.deadline_s)
            name = DIRECT if direct else "burst of 100, clients that retry twice"
            yield _all_answered(
                name,
                summary.in_time,
                makespan_s(results),
                stand.known(client),
                goal=not direct,
                more=f", {accepted_too_late(results, deadline_s=client.deadline_s)} too late",
            )
        # Prompts that no load before had: nothing can be found again.
        client = stand.client(prompts=attrs.evolve(SHORT, seed=2))
        stand.reset()
        came = uvloop.run(sdk.burst(stand.at.url, client, BURST))
        errors = ", ".join(f"{count} × {name}" for name, count in Counter(came.errors).items())
        yield _all_answered(
            "burst of 100, the real openai-python",
            came.answered,
            came.makespan_s,
            stand.known(client),
            goal=True,
            more=f"; {errors}" if errors else "",
        )


def _all_answered(
    name: str, answered: int, whole_s: float, known: Known, *, goal: bool, more: str
) -> Figure:
    own_s = sum(known.service_s(number) for number in range(BURST))
    return Figure(
        name=f"{name}: answered, all of it ÷ the slot's own time",
        goal=f"{BURST}, <= {MAKESPAN_MAX}" if goal else "",
        measured=f"{answered}, {whole_s / own_s:.2f}{more}",
        passed=answered == BURST and whole_s / own_s <= MAKESPAN_MAX if goal else None,
        values={"answered": answered, "makespan": whole_s / own_s},
    )


def fairness(scope: Scope) -> Iterator[Figure]:
    """A caller with one request at a time beside one that keeps 40 in flight."""
    with box_stand(scope, more={"auth.keys": KEYS}, key=KEYS["flood"]) as stand:
        for direct in (False, True):
            # Past the gateway nobody leaves, so that the wait can be seen.
            deadline_s = PATIENT_S if direct else DEADLINE_S
            flood, light = (
                stand.client(
                    direct=direct,
                    deadline_s=deadline_s,
                    key=KEYS[name],
                    prompts=Unique(seed=seed),
                    retries=stand.retries(),
                )
                for seed, name in enumerate(KEYS, 1)
            )

            async def both() -> list[list[Result]]:
                loads = ((flood, FLOOD), (light, 1))  # noqa: B023
                return await asyncio.gather(
                    *(
                        run(
                            stand.url(client),
                            scaled(ClosedLoop(clients, scope.loop_s), scope.scale),
                            client,
                        )
                        for client, clients in loads
                    )
                )

            stand.reset()
            theirs, mine = uvloop.run(both())
            services = [
                stand.known(client).service_s(result.number)
                for client, results in ((flood, theirs), (light, mine))
                for result in results
            ]
            mean_s = fmean(services)
            waits = stand.known(light).waits_s(mine)
            p95 = quantile(waits, 0.95) / mean_s
            own_s = max(stand.known(light).service_s(result.number) for result in mine)
            # For each second of its own it waits one of the other's: their weights are equal.
            bound = (max(services) + own_s) / mean_s
            refused = sum(result.outcome(light.deadline_s) is Outcome.REFUSED for result in mine)
            yield Figure(
                name=f"{DIRECT if direct else 'light beside a flood of 40'}: its wait p95, in"
                " mean service times",
                goal="" if direct else f"<= {bound:.1f} (one that runs + its share)",
                measured=f"{p95:.1f} of {len(waits)}, {refused} refused for good",
                passed=None if direct else p95 <= bound and not refused,
                values={"p95": p95, "bound": bound, "answers": len(waits), "refused": refused},
            )


def models(scope: Scope) -> Iterator[Figure]:
    """A B A B: two models of which one fits, 5 s to load."""
    plans: tuple[tuple[str, Plan], ...] = (
        ("16 at once", Burst(16)),
        ("half load", OpenLoop(0.18, scope.loop_s)),
    )
    with box_stand(scope, models=MODELS) as stand:
        for seed, (name, plan) in enumerate(plans, 1):
            for direct in (False, True):
                yield _model_loads(stand, f"A B A B, {name}", plan, seed=seed, direct=direct)


def _model_loads(stand: Stand, name: str, plan: Plan, *, seed: int, direct: bool) -> Figure:
    client = stand.client(
        direct=direct,
        deadline_s=PATIENT_S if direct else DEADLINE_S,
        prompts=Unique(seed=seed),
        retries=stand.retries(),
    )
    # One answer of the first model before, so that each load begins with it.
    first = stand.client(direct=True, models=MODELS[:1], prompts=Unique(seed=9))
    stand.put(Burst(1), first)
    results = stand.put(plan, client)
    loads = stand.state()["loads"]
    in_time = sum(result.outcome(client.deadline_s) is Outcome.IN_TIME for result in results)
    longest_s, best = fewest_loads(results, stand.known(client), scale=stand.at.scale)
    ratio = loads / best if best else math.nan
    return Figure(
        name=f"{DIRECT if direct else name}: loads, ÷ the fewest with the same longest wait",
        goal="" if direct else f"<= {LOADS_MAX}",
        measured=f"{loads}, {ratio:.2f}; {in_time} of {len(results)} in time,"
        f" waits <= {longest_s:.0f} s",
        passed=None if direct else ratio <= LOADS_MAX,
        values={"loads": loads, "fewest": best or math.nan, "wait_max_s": longest_s},
    )


def fewest_loads(
    results: Sequence[Result], known: Known, *, scale: float
) -> tuple[float, int | None]:
    """What who knew the future would have needed, with the same longest wait.

    Returns:
        That wait, in seconds of the box, and the loads. The oracle does not count a load
        as waiting, where a client can't tell them apart: it has the easier task.
    """
    kinds: dict[str, list[oracle.Job]] = {model: [] for model in MODELS}
    answers = [one for one in results if (last := one.last) is not None and last.whole]
    for result in sorted(answers, key=lambda result: result.attempts[0].sent_at):
        sent_at = (result.attempts[0].sent_at - begun_at(results)) * scale
        service_s = known.service_s(result.number) * scale
        kinds[result.model].append(oracle.Job(sent_at, service_s))
    longest_s = max(known.waits_s(answers), default=0.0) * scale
    return longest_s, oracle.fewest_changes(
        *kinds.values(),
        change_s=known.settings.hardware.load_s,
        wait_max_s=longest_s + SLACK_S,
        begins_with=0,
    )


def prefixes(scope: Scope) -> Iterator[Figure]:
    """Conversations that take turns on one slot, which holds one of them."""
    patient: Tables = {
        "queue": {"max_queue_size": 200},
        "timeouts": {"request_timeout_seconds": PATIENT_S / scope.scale},
    }
    with box_stand(scope, more=patient) as stand:
        for seed, (count, prefix_tokens, requests) in enumerate(((2, 1000, 20), (20, 300, 80))):
            prompts = Conversations(count=count, prefix_tokens=prefix_tokens, seed=seed)
            for direct in (False, True):
                client = stand.client(direct=direct, deadline_s=PATIENT_S, prompts=prompts)
                results = stand.put(Burst(requests), client)
                best = stand.known(client).fewest_read(requests)
                read = stand.state()["prefill_tokens"]
                answered = sum(
                    result.outcome(client.deadline_s) is Outcome.IN_TIME for result in results
                )
                name = f"{count} conversations of {prefix_tokens} tokens, {requests} at once"
                yield Figure(
                    name=f"{DIRECT if direct else name}: tokens read ÷ the best order's",
                    goal="" if direct else f"<= {PREFILL_MAX}",
                    measured=f"{read / best:.2f} ({read:,} of {best:,}), {answered} answered,"
                    f" {makespan_s(results) * scope.scale:.0f} s",
                    passed=None if direct else read <= PREFILL_MAX * best and answered == requests,
                    values={"read": read, "best": best, "answered": answered},
                )


def _refusals_s(results: Sequence[Result]) -> list[float]:
    tries = chain.from_iterable(result.attempts for result in results)
    return [attempt.took_s for attempt in tries if attempt.refused]
