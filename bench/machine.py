"""How a small box with an Ollama spends its time. Pure: every method is told the time.

A box keeps a few models in memory. Each has the same number of slots, and a slot holds
the text that it has read and written last. A request waits until its model is loaded
and one of its slots is free; then the slot reads what of the prompt it does not hold
(prefill), and writes one token after the other (decode). Slots at work share the
processor: k of them do together `gains[k - 1]` times the work of one.

Who waits for what is as in Ollama 0.24: requests for a loaded model stand in line for its
slots, first come first served and without a bound. Requests for others stand in a line
of their own, whose first one loads its model once there is room; room is made of the
model that was used longest ago, and only of one that nobody uses or waits for. A load
belongs to the request that began it and is lost with it. A client that leaves while its
prompt is read is not noticed before the first token (ollama#11889).

What is due happens at its own moment, however late the machine is told of the time, so
that no rounding adds up. All times are real seconds; `scale` divides what the box would
take.
"""

from collections.abc import Callable
from typing import Final

import attrs

from bench.answers import TOKEN_CHARS, shared_tokens, tokens_in


@attrs.frozen(kw_only=True)
class Hardware:
    """What the box is, in its own seconds; it lives `scale` times as fast.

    Attributes:
        memory_models: How many models it keeps.
        gains: Work done by 1, 2, 3… slots together, relative to one; the last one
            holds for more.
    """

    slots: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    memory_models: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    load_s: float = attrs.field(default=5.0, validator=attrs.validators.ge(0.0))
    prefill_per_s: float = attrs.field(default=60.0, validator=attrs.validators.gt(0.0))
    decode_per_s: float = attrs.field(default=7.5, validator=attrs.validators.gt(0.0))
    gains: tuple[float, ...] = attrs.field(
        default=(1.0,),
        validator=attrs.validators.deep_iterable(
            attrs.validators.gt(0.0), attrs.validators.min_len(1)
        ),
    )
    scale: float = attrs.field(default=1.0, validator=attrs.validators.gt(0.0))

    @property
    def real_load_s(self) -> float:
        return self.load_s / self.scale

    def work_s(self, *, read: int, written: int) -> float:
        """Real seconds of a slot alone for so many tokens."""
        return (read / self.prefill_per_s + written / self.decode_per_s) / self.scale

    def speed(self, working: int) -> float:
        """Of each of so many slots at work, relative to one alone."""
        return self.gains[min(working, len(self.gains)) - 1] / working if working else 0.0


def _nobody() -> None:
    """Whom a job tells that nobody follows."""


@attrs.define(eq=False)
class Job:
    """One request. The machine fills in what becomes of it, and calls `tell` each time.

    Attributes:
        answer: All that will be written, TOKEN_CHARS characters a token; "" to have
            the model loaded and no more.
        cut: Whether the answer would be longer but for its limit.
        submitted_at: When it came.
        loaded_at: When its model was there; what is missing then, is waiting for a slot.
        started_at: When it had a slot.
        decoding_at: When its prompt had been read.
        ended_at: When its last token was written, or it was given up.
        evaluated: Tokens of the prompt that the slot did not hold.
        written: Tokens of the answer so far.
    """

    model: str
    prompt: str = ""
    answer: str = ""
    cut: bool = attrs.field(default=False, kw_only=True)
    tell: Callable[[], None] = _nobody
    submitted_at: float = 0.0
    loaded_at: float | None = None
    started_at: float | None = None
    decoding_at: float | None = None
    ended_at: float | None = None
    evaluated: int = 0
    written: int = 0
    left: bool = False

    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def length(self) -> int:
        return len(self.answer) // TOKEN_CHARS

    @property
    def text(self) -> str:
        """What has been written so far."""
        return self.answer[: self.written * TOKEN_CHARS]

    def token(self, index: int) -> str:
        return self.answer[index * TOKEN_CHARS : (index + 1) * TOKEN_CHARS]


@attrs.define(kw_only=True)
class Totals:
    """What the box has done.

    Attributes:
        requests: Those with a prompt.
        left: Clients that did not wait for the end.
        loads_lost: Broken off, because who wanted the model left.
        busy_s: Real seconds in which it loaded, read or wrote.
    """

    requests: int = 0
    answered: int = 0
    left: int = 0
    loads: int = 0
    loads_lost: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    busy_s: float = 0.0
    waiting_max: int = 0


@attrs.define(eq=False)
class _Slot:
    """One line of work. `due` and `since` are on the scale of work, not of time.

    Attributes:
        held: The text that the last job left here, which need not be read again.
        due: When its next step is done.
        since: When its prompt had been read.
    """

    held: str = ""
    job: Job | None = None
    due: float = 0.0
    since: float = 0.0


@attrs.define(eq=False)
class _Resident:
    """A model in memory."""

    slots: list[_Slot]
    used_at: float

    @property
    def idle(self) -> bool:
        return all(slot.job is None for slot in self.slots)

    def free_slot_for(self, prompt: str) -> _Slot | None:
        """The free slot that holds most of the prompt."""
        free = [slot for slot in self.slots if slot.job is None]
        if len(free) < 2:
            return free[0] if free else None
        return max(free, key=lambda slot: shared_tokens(slot.held, prompt))


@attrs.frozen
class _Load:
    """A load under way, and whose it is."""

    job: Job
    due_at: float


class Machine:
    """The box.

    Keeps: no slot of a loaded model is free while a request for it waits; the steps of
    a job follow each other without a gap.
    """

    def __init__(self, hardware: Hardware, *, now: float = 0.0) -> None:
        self.totals = Totals()
        self._hardware = hardware
        self._read_s: Final = hardware.work_s(read=1, written=0)
        self._write_s: Final = hardware.work_s(read=0, written=1)
        self._now = now
        # Seconds of work that a slot has done which was never idle: runs slower than
        # time while several share the processor.
        self._work = 0.0
        self._resident: dict[str, _Resident] = {}
        self._working: list[_Slot] = []
        self._waiting: list[Job] = []
        self._load: _Load | None = None

    @property
    def resident(self) -> tuple[str, ...]:
        """Models in memory."""
        return tuple(self._resident)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._working)

    @property
    def due_at(self) -> float | None:
        """When `advance` is next of use; None while there is nothing to do."""
        step = self._next()
        return None if step is None else step[0]

    def submit(self, job: Job, now: float) -> None:
        self.advance(now)
        job.submitted_at = now
        if job.answer:
            self.totals.requests += 1
        self._waiting.append(job)
        self._fill()
        self.totals.waiting_max = max(self.totals.waiting_max, len(self._waiting))

    def leave(self, job: Job, now: float) -> None:
        """Its client is gone. Of no effect on a job that has ended."""
        self.advance(now)
        if job.ended() or job.left:
            return
        self.totals.left += 1
        job.left = True
        if job in self._waiting:
            self._waiting.remove(job)
            job.ended_at = now
            if self._load is not None and self._load.job is job:
                self._load = None
                self.totals.loads_lost += 1
        elif job.decoding_at is not None:
            self._end(next(slot for slot in self._working if slot.job is job))
        self._fill()

    def unload(self, model: str, now: float) -> bool:
        """Take an idle model out of memory; False where it is in use."""
        self.advance(now)
        resident = self._resident.get(model)
        if resident is not None and not self._unused(model, resident):
            return False
        self._resident.pop(model, None)
        self._fill()
        return True

    def advance(self, now: float) -> None:
        """Let everything happen that was due until now, each at its own moment."""
        while (step := self._next()) is not None and step[0] <= now:
            at, slot = step
            self._pass(at)
            if slot is None:
                self._loaded()
            else:
                # Exactly, lest rounding leave it a hair before and never due.
                self._work = slot.due
                self._step(slot)
        self._pass(now)

    def _next(self) -> tuple[float, _Slot | None] | None:
        """When the next thing happens, and to which slot; to none: a load ends."""
        found: tuple[float, _Slot | None] | None = None
        if self._working:
            slot = min(self._working, key=lambda slot: slot.due)
            speed = self._hardware.speed(len(self._working))
            found = self._now + max(0.0, slot.due - self._work) / speed, slot
        if self._load is not None and (found is None or self._load.due_at < found[0]):
            found = self._load.due_at, None
        return found

    def _pass(self, to: float) -> None:
        elapsed_s = max(0.0, to - self._now)
        if self._working or self._load is not None:
            self.totals.busy_s += elapsed_s
        self._work += elapsed_s * self._hardware.speed(len(self._working))
        self._now = max(self._now, to)

    def _loaded(self) -> None:
        assert self._load is not None
        model, self._load = self._load.job.model, None
        self.totals.loads += 1
        slots = [_Slot() for _ in range(self._hardware.slots)]
        self._resident[model] = _Resident(slots, self._now)
        self._fill()

    def _step(self, slot: _Slot) -> None:
        job = slot.job
        assert job is not None
        if job.decoding_at is None:
            self.totals.prefill_tokens += job.evaluated
            job.decoding_at = self._now
            slot.since = slot.due
            if job.left:
                self._end(slot)
                self._fill()
                return
        else:
            self.totals.decode_tokens += 1
            job.written += 1
            if job.written == job.length:
                self.totals.answered += 1
                self._end(slot)
                self._fill()
                return
        # From the prompt's end, not from the last token: no rounding adds up.
        slot.due = slot.since + (job.written + 1) * self._write_s
        job.tell()

    def _end(self, slot: _Slot) -> None:
        """Free the slot. What was read and written stays in it."""
        job = slot.job
        assert job is not None
        slot.held = job.prompt + job.text
        slot.job = None
        self._working.remove(slot)
        self._resident[job.model].used_at = self._now
        job.ended_at = self._now
        job.tell()

    def _fill(self) -> None:
        """Start what can be started."""
        self._waiting = [job for job in self._waiting if not self._served(job)]
        if self._load is None:
            # Only the first in line, whether there is room for it or not.
            resident = self._resident
            first = next((job for job in self._waiting if job.model not in resident), None)
            if first is not None and self._make_room():
                self._load = _Load(first, self._now + self._hardware.real_load_s)

    def _served(self, job: Job) -> bool:
        """Give the job what it waits for, if that is there."""
        resident = self._resident.get(job.model)
        if resident is None:
            return False
        if job.loaded_at is None:
            job.loaded_at = self._now
        if not job.answer:
            resident.used_at = self._now
            job.ended_at = self._now
            job.tell()
            return True
        slot = resident.free_slot_for(job.prompt)
        if slot is None:
            return False
        self._start(slot, job)
        return True

    def _start(self, slot: _Slot, job: Job) -> None:
        job.started_at = self._now
        # The last token is always evaluated: the first word of the answer comes of it.
        job.evaluated = max(1, tokens_in(job.prompt) - shared_tokens(slot.held, job.prompt))
        slot.job = job
        slot.due = self._work + job.evaluated * self._read_s
        self._working.append(slot)

    def _make_room(self) -> bool:
        if len(self._resident) < self._hardware.memory_models:
            return True
        unused = {
            model: resident
            for model, resident in self._resident.items()
            if self._unused(model, resident)
        }
        if not unused:
            return False
        del self._resident[min(unused, key=lambda model: unused[model].used_at)]
        return True

    def _unused(self, model: str, resident: _Resident) -> bool:
        return resident.idle and all(job.model != model for job in self._waiting)


def shares_s(job: Job) -> dict[str, float]:
    """The parts of an ended job's time, as Ollama tells them.

    Returns:
        total, load (with the waiting for a load), prefill and decode; what is missing
        in their sum was spent waiting for a slot.
    """
    assert job.ended_at is not None
    assert job.loaded_at is not None
    started_at = job.ended_at if job.started_at is None else job.started_at
    decoding_at = started_at if job.decoding_at is None else job.decoding_at
    return {
        "total": job.ended_at - job.submitted_at,
        "load": job.loaded_at - job.submitted_at,
        "prefill": decoding_at - started_at,
        "decode": job.ended_at - decoding_at,
    }
