"""What the box will do for a load, known in advance, and what of it was of use. Pure; one slot."""

import itertools
import math
from collections.abc import Iterable, Sequence

import attrs

from bench.answers import natural_length, prompt_text, shared_tokens, tokens_in
from bench.asking import Client
from bench.box import Settings
from bench.results import Outcome, Result
from bench.simulation.oracle import Job


@attrs.frozen
class Known:
    """A client's requests to a box whose seed is known. Seconds are real."""

    settings: Settings
    client: Client

    def service_s(self, number: int) -> float:
        """Of a slot that holds nothing of the prompt, not even the word that opens them all."""
        return self.settings.hardware.work_s(read=self.read(number), written=self.written(number))

    def read(self, number: int) -> int:
        """Tokens of the prompt."""
        return tokens_in(self._prompt(number))

    def written(self, number: int) -> int:
        """Tokens of the answer."""
        natural = natural_length(
            self.settings.lengths,
            seed=self.settings.seed,
            model=self.client.model(number),
            prompt=self._prompt(number),
        )
        limit = self.client.limit(number)
        return natural if limit is None else min(natural, limit)

    def jobs(self, count: int, *, due_s: float) -> list[Job]:
        """So many at once, as who knows the future sees them."""
        return [Job(0.0, self.service_s(number), due_s) for number in range(count)]

    def fewest_read(self, count: int) -> int:
        """Prompt tokens of so many requests, one conversation after the other on one slot."""
        talks: dict[str, list[str]] = {}
        for number in range(count):
            beginning = self.client.prompts.messages(number)[0]["content"]
            talks.setdefault(beginning, []).append(self._prompt(number))
        prompts = [prompt for talk in talks.values() for prompt in talk]
        shared = sum(itertools.starmap(shared_tokens, itertools.pairwise(prompts)))
        return sum(map(tokens_in, prompts)) - shared

    def goodput(self, results: Iterable[Result], *, since: float, for_s: float) -> float:
        """The part of the slot's time that went into answers that came in time, whole.

        Args:
            since: By the clock of the results. An answer that ended beyond the end
                counts as far as it was made before.
        """
        until = since + for_s
        useful_s = 0.0
        for result in results:
            last = result.last
            if last is None or last.truncated:
                continue
            if result.outcome(self.client.deadline_s) is Outcome.IN_TIME:
                begun_at = last.ended_at - self.service_s(result.number)
                useful_s += max(0.0, min(last.ended_at, until) - max(begun_at, since))
        return useful_s / for_s

    def waits_s(self, results: Iterable[Result]) -> list[float]:
        """From the first try: all that was not a request's own work.

        Whom the end of the load found refused would have waited as long as it was told.
        """
        found = []
        for result in results:
            if (last := result.last) is None:
                continue
            if last.whole:
                until = last.ended_at - self.service_s(result.number)
            else:
                until = last.ended_at + (last.told_s or 0.0)
            found.append(until - result.attempts[0].sent_at)
        return found

    def _prompt(self, number: int) -> str:
        messages = self.client.prompts.messages(number)
        return prompt_text((one["role"], one["content"]) for one in messages)


def begun_at(results: Iterable[Result]) -> float:
    """When the first try was sent; NaN of none."""
    tries = (attempt.sent_at for result in results for attempt in result.attempts)
    return min(tries, default=math.nan)


def makespan_s(results: Sequence[Result]) -> float:
    """From the first try to the end of the last answer; 0 of none."""
    ends = [last.ended_at for result in results if (last := result.last) and last.whole]
    return max(ends) - begun_at(results) if ends else 0.0


def accepted_too_late(results: Iterable[Result], *, deadline_s: float) -> int:
    """Tries that were not refused, and timed out or were answered too late."""
    found = 0
    for result in results:
        found += sum(attempt.timed_out for attempt in result.attempts)
        found += result.outcome(deadline_s) is Outcome.LATE
    return found
