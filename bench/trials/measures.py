"""What is told of a load in an experiment: numbers by key, in seconds of the box. Pure."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

import attrs

from bench.results import Outcome, Result, summarise


@attrs.frozen
class Measure:
    """A column.

    Attributes:
        key: Ends in its unit.
        heading: In words, with the unit.
        form: How a value is written.
    """

    key: str
    heading: str
    form: str = ".2f"


MEASURES: Final = {
    measure.key: measure
    for measure in (
        Measure("requests", "requests", ".0f"),
        Measure("answered", "answered in time", ".0f"),
        Measure("refused", "refused", ".0f"),
        Measure("timed_out", "timed out", ".0f"),
        Measure("truncated", "cut at the deadline", ".0f"),
        Measure("failed", "failed", ".0f"),
        Measure("latency_mean_s", "mean latency, s"),
        Measure("first_token_mean_s", "mean time to first token, s"),
        Measure("first_token_min_s", "shortest, s"),
        Measure("first_token_max_s", "longest, s"),
        Measure("refusal_mean_s", "mean time to a refusal, s", ".3f"),
        Measure("tokens", "tokens", ".0f"),
        Measure("tokens_per_s", "tokens/s", ".2f"),
        Measure("loads", "models loaded", ".0f"),
    )
}


def measured(results: Sequence[Result], *, deadline_s: float, scale: float) -> dict[str, float]:
    """Of a load on a world that goes `scale` times as fast.

    Args:
        deadline_s: Real seconds.

    Returns:
        By key of a measure, what there is to tell; latencies are those of whole answers,
        from their first try, with all refusals and waits. A refusal is no work of the
        box: the time that it takes is real.
    """
    summary = summarise(results, deadline_s=deadline_s)
    answers = [
        (result.attempts[0].sent_at, last)
        for result in results
        if (last := result.last) is not None and last.whole and not result.abandoned
    ]
    refusals = [
        attempt.took_s for result in results for attempt in result.attempts if attempt.refused
    ]
    first_tokens = [
        (last.first_token_at - sent_at) * scale
        for sent_at, last in answers
        if last.first_token_at is not None
    ]
    outcomes = summary.outcomes
    found = {
        "requests": float(len(results)),
        "answered": float(outcomes[Outcome.IN_TIME]),
        "refused": float(outcomes[Outcome.REFUSED]),
        # To a client that has a deadline, late is what a timeout is.
        "timed_out": float(outcomes[Outcome.TIMED_OUT] + outcomes[Outcome.LATE]),
        "truncated": float(summary.truncated),
        "failed": float(outcomes[Outcome.FAILED] + outcomes[Outcome.ABANDONED]),
        "tokens": float(sum(last.tokens for _, last in answers)),
        "tokens_per_s": summary.tokens_per_s / scale,
    }
    if answers:
        found["latency_mean_s"] = (
            fmean(last.ended_at - sent_at for sent_at, last in answers) * scale
        )
    if first_tokens:
        found["first_token_mean_s"] = fmean(first_tokens)
        found["first_token_min_s"] = min(first_tokens)
        found["first_token_max_s"] = max(first_tokens)
    if refusals:
        found["refusal_mean_s"] = fmean(refusals)
    return found
