"""What a request will take of a slot, learned from those that ended. Pure.

A price is made of four things, each learned from what engines tell of their own
work: how many tokens a text is (`prompts.py`), how long answers get
(`lengths.py`), how fast an engine reads and writes, and what it takes to load a
model (`rates.py`). The first two are a model's, wherever it runs; the others
belong to a model on an upstream.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import attrs
import msgspec
from msgspec import Meta

from gateway.core.jsonio import Json
from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Cost
from gateway.pool.upstream import LOAD_S_MIN
from gateway.scheduling.lengths import AnswerLengths, LengthSums
from gateway.scheduling.prompts import PromptLengths, PromptSums
from gateway.scheduling.rates import Meter, Sums, WritingRates
from gateway.scheduling.remembered import Name

KNOWN_MAX: Final = 64
"""Models, and pairs of upstream and model; the one that answered longest ago goes."""

CONFIDENT_AFTER: Final = 5
"""Observations; by then a prior that was wrong by two either way no longer shows."""

READ_TOKENS_MIN: Final = 16
"""Reading fewer tokens takes as long as starting to read."""

WRITTEN_TOKENS_MIN: Final = 4
"""Fewer tell nothing of a rate: llama.cpp's clock starts when the first is there."""

OVERHEAD_S_MAX: Final = 1.0
"""What goes beyond is not overhead but a queue inside the engine."""

_TOLD_TOO_MUCH: Final = 1.1
_TOLD_TOO_MUCH_S: Final = 0.5
"""An engine that says it worked for longer than we waited has another clock."""


@attrs.frozen
class Work:
    """What a request is, before it has run.

    Attributes:
        cached_chars: Of `prompt_chars`, from the start: already held by a slot.
        max_tokens: Of one answer, the cap that holds.
        answers: Drawn one after the other in one slot.
    """

    prompt_chars: int
    messages: int
    cached_chars: int
    max_tokens: int
    answers: int = 1


def together(works: Sequence[Work]) -> Work:
    """Several requests whose texts are read in one go."""
    return attrs.evolve(
        works[0],
        prompt_chars=sum(work.prompt_chars for work in works),
        messages=sum(work.messages for work in works),
    )


@attrs.frozen(kw_only=True)
class Priors:
    """What is believed before anything was seen: the box that this gateway is made for.

    Four ARM cores with llama3.2, 3B; where the box is faster the first answers say so.
    """

    prefill_tokens_per_s: float = 60.0
    """Read eight times as fast as written, as a few cores do with a 3B model."""

    decode_tokens_per_s: float = 7.5
    """Measured there: 7.2 to 7.5, 7.6 over two minutes."""

    load_s: float = 5.0
    """2 GB from its disk."""

    chars_per_token: float = 4.0
    """English prose in a vocabulary of 32,000 and more."""

    tokens_per_message: float = 4.0
    """The marks of a role and of an end in common chat templates."""

    answer_tokens: float = 100.0
    """A chat answer, if nothing cuts it off; a guess, and outvoted by two answers."""

    overhead_s: float = 0.02
    """Of a request, neither reading nor writing: measured at Ollama alone, 4 to 17 ms."""


class CostModel:
    """Prices of requests, before they run. Never raises for what an engine tells.

    At the most KNOWN_MAX models are known, and as many pairs of upstream and model.
    """

    def __init__(self, priors: Priors = Priors()) -> None:
        self._priors = priors
        self._habits: dict[str, _Habits] = {}
        self._paces: dict[tuple[str, str], _Pace] = {}
        self._any_habits = _Habits.of(priors)
        self._any_pace = _Pace.of(priors)

    def price(self, upstream: str, model: str, work: Work, *, concurrency: int) -> Cost:
        """What the work will take of a slot while so many requests run, this one too."""
        habits = self._habits.get(model, self._any_habits)
        pace = self._paces.get((upstream, model), self._any_pace)
        prompts = habits.prompts
        tokens = prompts.tokens(work.prompt_chars, work.messages)
        fresh_s = tokens * _fresh_part(work) * pace.reading.each_s
        length, length_variance = habits.answers.moments(work.max_tokens)
        writing = pace.writing.at(concurrency)
        each_s = writing.each_s
        decode_s = length * work.answers * each_s
        return Cost(
            fresh_s + pace.overhead.each_s,
            decode_s,
            math.sqrt(
                length_variance * work.answers * each_s * each_s
                + decode_s * decode_s * writing.variance
                + fresh_s * fresh_s * (prompts.variance + pace.reading.variance)
            ),
            round(tokens),
            round(length * work.answers),
        )

    def prompt_tokens(self, model: str, *, chars: int, messages: int) -> int:
        """About how many tokens a prompt is to this model, at least one."""
        habits = self._habits.get(model, self._any_habits)
        return max(1, round(habits.prompts.tokens(chars, messages)))

    def left_s(
        self,
        upstream: str,
        model: str,
        work: Work,
        cost: Cost,
        so_far_s: float,
        *,
        concurrency: int,
    ) -> float:
        """What is left of work that cost so much and has run for so long.

        One that has outrun its mean is mostly one of the long ones, and not about to end.
        """
        left_s = cost.service_s - so_far_s
        writing_s = so_far_s - cost.prefill_s
        if work.answers != 1 or writing_s <= 0.0:
            return max(left_s, 0.0)
        habits = self._habits.get(model, self._any_habits)
        pace = self._paces.get((upstream, model), self._any_pace)
        each_s = pace.writing.at(concurrency).each_s
        return habits.answers.left(int(writing_s / each_s), work.max_tokens) * each_s

    def load_s(self, upstream: str, model: str) -> float:
        """What it takes to load the model there."""
        return self._paces.get((upstream, model), self._any_pace).loading.each_s

    def confident_of_reading(self, upstream: str, model: str) -> bool:
        """Whether enough was seen that a refusal to embed may rest on a price."""
        pace = self._paces.get((upstream, model))
        return pace is not None and pace.reading.sums.count >= CONFIDENT_AFTER

    def confident(self, upstream: str, model: str) -> bool:
        """Whether enough was seen that a refusal may rest on a price."""
        pace, habits = self._paces.get((upstream, model)), self._habits.get(model)
        return (
            pace is not None
            and habits is not None
            and max(pace.reading.sums.count, pace.writing.count) >= CONFIDENT_AFTER
            and habits.answers.count >= CONFIDENT_AFTER
        )

    def observe(
        self,
        upstream: str,
        model: str,
        work: Work,
        *,
        concurrency: int,
        usage: Usage,
        timings: Timings,
        capped: bool,
        seen_s: float,
    ) -> None:
        """A request has ended, and the engine told what of it whatever it tells.

        Args:
            usage, timings: Of all its answers together, as `Usage.__add__` has it.
            capped: An answer would have gone on: it reached its cap, or was cut off.
            seen_s: In its slot, as seen from here.
        """
        habits, pace = self._habits_of(model), self._pace_of(upstream, model)
        answers = max(work.answers, 1)
        load_s = timings.load_s or 0.0
        if load_s >= LOAD_S_MIN:
            pace.loading.observe(1.0, load_s)
            seen_s -= load_s
        read, sure = pace.tokens_read(work, usage, habits.prompts)
        written = usage.completion or habits.answers.moments(work.max_tokens)[0] * answers
        if usage.prompt:
            habits.prompts.observe(work.prompt_chars, work.messages, usage.prompt)
        if usage.completion:
            habits.answers.observe(max(round(usage.completion / answers), 1), capped=capped)
        told_s = (timings.prefill_s or 0.0) + (timings.decode_s or 0.0)
        if told_s > seen_s * _TOLD_TOO_MUCH + _TOLD_TOO_MUCH_S or not told_s:
            pace.share_out(seen_s, read, written, concurrency, sure=sure)
            return
        if timings.prefill_s is not None and sure:
            pace.read(read, timings.prefill_s)
        if timings.decode_s is not None:
            pace.write(concurrency, usage.completion, timings.decode_s)
        if None not in (timings.prefill_s, timings.decode_s):
            pace.rest(max(seen_s - told_s, 0.0) / answers)

    def observe_reading(
        self, upstream: str, model: str, work: Work, *, tokens: int, seen_s: float
    ) -> None:
        """Texts were embedded: read, and nothing written. `tokens` is 0 where nobody says."""
        habits, pace = self._habits_of(model), self._pace_of(upstream, model)
        if tokens:
            habits.prompts.observe(work.prompt_chars, work.messages, tokens)
        read = tokens or habits.prompts.tokens(work.prompt_chars, work.messages)
        if read >= READ_TOKENS_MIN:
            pace.read(read, max(seen_s - pace.overhead.each_s, seen_s / 2))
        else:
            pace.rest(max(seen_s - read * pace.reading.each_s, 0.0))

    def loaded(self, upstream: str, model: str, seconds: float) -> None:
        """A load that really happened took so long."""
        self._pace_of(upstream, model).loading.observe(1.0, seconds)

    def forget(self, upstream: str) -> None:
        """Another machine has this name now."""
        for key in [key for key in self._paces if key[0] == upstream]:
            del self._paces[key]

    def to_document(self) -> dict[str, Json]:
        """All that was learned, for `restore`."""
        document = _Document(
            version=1,
            models=[
                _ModelState(name, habits.prompts.sums, habits.answers.state())
                for name, habits in self._habits.items()
            ],
            pairs=[
                _PairState(
                    upstream,
                    model,
                    pace.reading.sums,
                    pace.writing.state(),
                    pace.loading.sums,
                    pace.overhead.sums,
                )
                for (upstream, model), pace in self._paces.items()
            ],
        )
        plain: dict[str, Json] = msgspec.to_builtins(document)
        return plain

    def restore(self, document: Json) -> None:
        """Go on from what `to_document` gave.

        Raises:
            ValueError: It does not fit. Nothing has changed then.
        """
        state = msgspec.convert(document, _Document)
        habits = {each.model: _Habits.restored(each, self._priors) for each in state.models}
        paces = {
            (each.upstream, each.model): _Pace.restored(each, self._priors) for each in state.pairs
        }
        self._habits, self._paces = habits, paces

    def _habits_of(self, model: str) -> "_Habits":
        """Those of a model, which counts as used just now."""
        habits = self._habits.pop(model, None) or _Habits.of(self._priors)
        if len(self._habits) >= KNOWN_MAX:
            del self._habits[next(iter(self._habits))]
        self._habits[model] = habits
        return habits

    def _pace_of(self, upstream: str, model: str) -> "_Pace":
        key = (upstream, model)
        pace = self._paces.pop(key, None) or _Pace.of(self._priors)
        if len(self._paces) >= KNOWN_MAX:
            del self._paces[next(iter(self._paces))]
        self._paces[key] = pace
        return pace


def _fresh_part(work: Work) -> float:
    """The part of the prompt that no slot holds."""
    if work.cached_chars <= 0:
        return 1.0
    if work.cached_chars >= work.prompt_chars:
        return 0.0
    return 1.0 - work.cached_chars / work.prompt_chars


# --- What is remembered -------------------------------------------------------


class _ModelState(msgspec.Struct):
    model: Name
    prompts: PromptSums
    answers: LengthSums


class _PairState(msgspec.Struct):
    upstream: Name
    model: Name
    reading: Sums
    writing: Annotated[list[tuple[int, Sums]], Meta(max_length=KNOWN_MAX)]
    loading: Sums
    overhead: Sums


class _Document(msgspec.Struct):
    version: Literal[1]
    models: Annotated[list[_ModelState], Meta(max_length=KNOWN_MAX)]
    pairs: Annotated[list[_PairState], Meta(max_length=KNOWN_MAX)]


# --- What is learned ----------------------------------------------------------

# Of each prior: an answer of eight tokens outweighs it, a prompt of 32, a load.
_WRITING_UNITS: Final = 8.0
_READING_UNITS: Final = 32.0
_LOADING_UNITS: Final = 1.0
_OVERHEAD_UNITS: Final = 1.0


@attrs.define(eq=False)
class _Habits:
    """A model's, wherever it runs."""

    prompts: PromptLengths
    answers: AnswerLengths

    @classmethod
    def of(cls, priors: Priors) -> "_Habits":
        return cls(_prompts(PromptSums(), priors), AnswerLengths(priors.answer_tokens))

    @classmethod
    def restored(cls, state: _ModelState, priors: Priors) -> "_Habits":
        answers = AnswerLengths(priors.answer_tokens)
        answers.restore(state.answers)
        return cls(_prompts(state.prompts, priors), answers)


@attrs.define(eq=False)
class _Pace:
    """A model's on one upstream.

    Attributes:
        reading, writing: Seconds per token, of what has to be evaluated.
        loading: Seconds per load.
        overhead: Seconds per request, of what is none of these. Small, but it would
            add up over a queue.
        tells_cached: The engine says how much of a prompt it found in its cache,
            and so means none where it says nothing: Ollama leaves out zeros.
    """

    reading: Meter
    writing: WritingRates
    loading: Meter
    overhead: Meter
    tells_cached: bool = False

    @classmethod
    def of(cls, priors: Priors) -> "_Pace":
        return cls(
            reading=_reading(Sums(began_s=1.0 / priors.prefill_tokens_per_s)),
            writing=_writing(priors),
            loading=_loading(Sums(began_s=priors.load_s)),
            overhead=_overhead(Sums(began_s=priors.overhead_s)),
        )

    @classmethod
    def restored(cls, state: _PairState, priors: Priors) -> "_Pace":
        writing = _writing(priors)
        writing.restore(state.writing)
        return cls(
            reading=_reading(state.reading),
            writing=writing,
            loading=_loading(state.loading),
            overhead=_overhead(state.overhead),
        )

    def tokens_read(self, work: Work, usage: Usage, prompts: PromptLengths) -> tuple[float, bool]:
        """Tokens of the prompt that were evaluated, and whether a rate may be learned from it.

        Our own idea of what a slot holds may be wrong, so where the engine says
        nothing only those prompts count most of which were new.
        """
        whole = usage.prompt or prompts.tokens(work.prompt_chars, work.messages)
        if usage.cached is not None:
            self.tells_cached = True
            # Further answers find nearly all of the prompt.
            return max(whole - usage.cached, 0.0), True
        fresh = 1.0 if self.tells_cached else _fresh_part(work)
        return whole * fresh, fresh >= 0.5

    def read(self, tokens: float, seconds: float) -> None:
        if tokens >= READ_TOKENS_MIN:
            self.reading.observe(tokens, seconds)

    def write(self, concurrency: int, tokens: float, seconds: float) -> None:
        if tokens >= WRITTEN_TOKENS_MIN:
            self.writing.observe(concurrency, tokens, seconds)

    def rest(self, seconds: float) -> None:
        if seconds <= OVERHEAD_S_MAX:
            self.overhead.observe(1.0, max(seconds, 1e-4))

    def share_out(
        self, seconds: float, read: float, written: float, concurrency: int, *, sure: bool
    ) -> None:
        """Learn from the whole time alone, shared out as the present rates have it.

        Where requests differ in how much they read and write, the rates come right
        with time (the iteration of Richardson 1972 and Lucy 1974).
        """
        read_s = read * self.reading.each_s
        write_s = written * self.writing.at(concurrency).each_s
        if read_s + write_s <= 0.0:
            return
        ratio = max(seconds - self.overhead.each_s, 0.0) / (read_s + write_s)
        if sure:
            self.read(read, read_s * ratio)
        self.write(concurrency, written, write_s * ratio)


def _prompts(sums: PromptSums, priors: Priors) -> PromptLengths:
    return PromptLengths(
        sums, per_char=1.0 / priors.chars_per_token, per_message=priors.tokens_per_message
    )


def _reading(sums: Sums) -> Meter:
    return Meter(sums, prior_units=_READING_UNITS)


def _writing(priors: Priors) -> WritingRates:
    return WritingRates(1.0 / priors.decode_tokens_per_s, prior_units=_WRITING_UNITS)


def _loading(sums: Sums) -> Meter:
    return Meter(sums, prior_units=_LOADING_UNITS, memory=8)


def _overhead(sums: Sums) -> Meter:
    return Meter(sums, prior_units=_OVERHEAD_UNITS)
