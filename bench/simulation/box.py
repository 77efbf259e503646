"""The box of `bench.machine` on the virtual clock, a few events for each request. Pure.

It spends its time as that one does, to the same moments (a test holds the two
together), but doesn't stop at every token: ten thousand histories are run of it.
"""

import math
from collections.abc import Callable

import attrs

from bench.machine import Hardware
from bench.simulation.asks import Ask, Part, shared_tokens
from bench.simulation.events import Event, Events


def _nobody(_run: "Run") -> None:
    """Whom a run tells that nobody follows."""


@attrs.define(eq=False, slots=True)
class Run:
    """A request as the box sees it, or a load and nothing more.

    Attributes:
        ask: None: only have the model loaded.
        tell: Called when the first token is there, and at the end.
        loaded_at: When its model was there.
        started_at: When it had a slot.
        read_at: When its prompt had been read.
        evaluated: Tokens of the prompt that the slot did not hold.
        written: Tokens of the answer; see `Box.written` while it runs.
    """

    model: str
    ask: Ask | None = None
    tell: Callable[["Run"], None] = _nobody
    submitted_at: float = 0.0
    loaded_at: float | None = None
    started_at: float | None = None
    read_at: float | None = None
    first_at: float | None = None
    ended_at: float | None = None
    evaluated: int = 0
    written: int = 0
    left: bool = False


@attrs.define(kw_only=True)
class Totals:
    """What the box has done; `busy_s` in which it loaded, read or wrote."""

    answered: int = 0
    left: int = 0
    loads: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    busy_s: float = 0.0


@attrs.define(eq=False, slots=True)
class _Slot:
    """One line of work. `due` and `since` are on the scale of work, not of time.

    Attributes:
        since: When the prompt had been read.
        each: Work for each token that is written.
    """

    held: tuple[Part, ...] = ()
    run: Run | None = None
    due: float = 0.0
    since: float = 0.0
    each: float = 0.0


@attrs.define(eq=False, slots=True)
class _Resident:
    """A model in memory."""

    slots: list[_Slot]
    used_at: float


class Box:
    """See `bench.machine` for who waits for what."""

    def __init__(self, hardware: Hardware, events: Events) -> None:
        self.totals = Totals()
        self.hardware = hardware
        self._events = events
        self._read_s = hardware.work_s(read=1, written=0)
        self._write_s = hardware.work_s(read=0, written=1)
        self._at = 0.0
        self._work = 0.0
        self._resident: dict[str, _Resident] = {}
        self._working: list[_Slot] = []
        self._waiting: list[Run] = []
        self._next: Event | None = None
        self._load: tuple[Run, Event] | None = None

    @property
    def resident(self) -> tuple[str, ...]:
        """Models in memory."""
        return tuple(self._resident)

    @property
    def idle(self) -> bool:
        return not (self._working or self._waiting or self._load)

    def warm(self, model: str) -> None:
        """The model is in memory from the start."""
        slots = [_Slot() for _ in range(self.hardware.slots)]
        self._resident[model] = _Resident(slots, self._at)

    def submit(self, run: Run) -> None:
        run.submitted_at = self._events.now
        self._waiting.append(run)
        self._fill()

    def leave(self, run: Run) -> None:
        """Its client is gone; not noticed while its prompt is read."""
        if run.ended_at is not None or run.left:
            return
        now = self._pass()
        run.left = True
        self.totals.left += 1
        if run.started_at is None:
            if run in self._waiting:
                self._waiting.remove(run)
            run.ended_at = now
            if self._load is not None and self._load[0] is run:
                self._load[1].cancel()
                self._load = None
        elif run.read_at is not None:
            slot = next(slot for slot in self._working if slot.run is run)
            run.written = self.written(run)
            self._end(slot)
            self._plan()
        self._fill()

    def written(self, run: Run) -> int:
        """Tokens of its answer so far."""
        if run.ended_at is None and run.read_at is not None:
            self._pass()
            slot = next(slot for slot in self._working if slot.run is run)
            run.written = math.floor((self._work - slot.since) / slot.each + 1e-9)
        return run.written

    def _pass(self) -> float:
        """Bring the work up to now."""
        now = self._events.now
        if now > self._at:
            elapsed_s = now - self._at
            if self._working or self._load is not None:
                self.totals.busy_s += elapsed_s
            self._work += elapsed_s * self.hardware.speed(len(self._working))
            self._at = now
        return now

    def _plan(self) -> None:
        """Wait for the next milestone of those that work."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._working:
            slot = min(self._working, key=_due)
            speed = self.hardware.speed(len(self._working))
            when = self._at + max(0.0, slot.due - self._work) / speed
            self._next = self._events.at(when, lambda: self._step(slot))

    def _step(self, slot: _Slot) -> None:
        """A milestone: the prompt has been read, the first token is there, or the last."""
        self._next = None
        now = self._pass()
        # Exactly, lest rounding leave it a hair before and never due.
        self._work = slot.due
        run = slot.run
        assert run is not None
        assert run.ask is not None
        length = run.ask.length
        if run.read_at is None:
            run.read_at = now
            self.totals.prefill_tokens += run.evaluated
            if not run.left:
                slot.since = slot.due
                slot.due = slot.since + slot.each
                self._plan()
                return
        elif run.first_at is None:
            run.first_at = now
            run.written = 1
            if length > 1:
                slot.due = slot.since + length * slot.each
                self._plan()
                run.tell(run)
                return
        else:
            run.written = length
        self._end(slot)
        self._plan()
        self._fill()
        if not run.left:
            self.totals.answered += 1
            run.tell(run)

    def _end(self, slot: _Slot) -> None:
        """Free the slot. What was read and written stays in it."""
        run = slot.run
        assert run is not None
        assert run.ask is not None
        ask = run.ask
        whole = ask.reply is not None and run.written == ask.reply.tokens
        slot.held = (*ask.prompt, ask.reply) if whole and ask.reply else ask.prompt
        slot.run = None
        self._working.remove(slot)
        self._resident[run.model].used_at = self._at
        self.totals.decode_tokens += run.written
        run.ended_at = self._at

    def _fill(self) -> None:
        """Start what can be started."""
        if not self._waiting:
            return
        now = self._pass()
        may_load = self._load is None
        ended: list[Run] = []
        started = False
        still_waiting: list[Run] = []
        for run in self._waiting:
            resident = self._resident.get(run.model)
            if resident is None:
                if may_load and self._make_room():
                    self._begin_load(run)
                # Only the first in line, whether there was room for it or not.
                may_load = False
            else:
                if run.loaded_at is None:
                    run.loaded_at = now
                resident.used_at = now
                if run.ask is None:
                    run.ended_at = now
                    ended.append(run)
                    continue
                slot = _free_slot_for(resident.slots, run.ask.prompt)
                if slot is not None:
                    self._start(slot, run, run.ask)
                    started = True
                    continue
            still_waiting.append(run)
        self._waiting = still_waiting
        if started:
            self._plan()
        for run in ended:
            run.tell(run)
        if ended:
            # What they kept in memory may go now, if they have not gone on with it.
            self._fill()

    def _start(self, slot: _Slot, run: Run, ask: Ask) -> None:
        run.started_at = self._at
        # The last token is always evaluated: the first word of the answer comes of it.
        run.evaluated = max(1, ask.prompt_tokens - shared_tokens(slot.held, ask.prompt))
        slot.run = run
        slot.each = self._write_s * ask.pace
        slot.due = self._work + run.evaluated * self._read_s * ask.pace
        self._working.append(slot)

    def _begin_load(self, run: Run) -> None:
        due_at = self._at + self.hardware.real_load_s
        self._load = (run, self._events.at(due_at, self._loaded))

    def _loaded(self) -> None:
        assert self._load is not None
        self._pass()
        model = self._load[0].model
        self._load = None
        self.totals.loads += 1
        self.warm(model)
        self._fill()

    def _make_room(self) -> bool:
        if len(self._resident) < self.hardware.memory_models:
            return True
        wanted = {run.model for run in self._waiting}
        unused = [
            (resident.used_at, model)
            for model, resident in self._resident.items()
            if model not in wanted and all(slot.run is None for slot in resident.slots)
        ]
        if not unused:
            return False
        del self._resident[min(unused)[1]]
        return True


def _due(slot: _Slot) -> float:
    return slot.due


def _free_slot_for(slots: list[_Slot], prompt: tuple[Part, ...]) -> _Slot | None:
    """The free slot that holds most of the prompt."""
    free = [slot for slot in slots if slot.run is None]
    if len(free) < 2:
        return free[0] if free else None
    return max(free, key=lambda slot: shared_tokens(slot.held, prompt))
