"""What was decided of requests that had a slot, and what came of it."""

from typing import Final

from gateway.core.ticket import Priority, RequestRecord
from gateway.telemetry.exchange import CLASSES, cached_tokens
from gateway.telemetry.families.registry import Families

LOAD_S: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

RATIO: Final = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 4)
"""What was expected over what it was: below 1 it took longer."""

JUDGED_S_MIN: Final = 0.05
"""Of a shorter time the ratio says nothing."""


class SchedulingFamilies:
    def __init__(self, families: Families) -> None:
        self._wait_ratio = families.distribution(
            "gateway_wait_estimate_ratio",
            "Expected over actual wait for a slot, of waits from 50 ms.",
            RATIO,
        )
        self._service_ratio = families.distribution(
            "gateway_service_estimate_ratio",
            "Expected over actual time in a slot, of whole answers from 50 ms.",
            RATIO,
        )
        self._slot_s = families.tally(
            "gateway_slot_seconds_total",
            "Time that requests had in slots, by class.",
            priority=CLASSES,
        )
        self._wasted_slot_s = families.total(
            "gateway_wasted_slot_seconds_total",
            "Of that the time of requests that failed or whose caller left, unless the caller's"
            " next try got the answer.",
        )
        self._prompt_tokens = families.tally(
            "gateway_prompt_tokens_total",
            "Tokens of prompts, evaluated or found in a slot: as the engine tells, else estimated"
            " from the characters that the slot was expected to hold.",
            source=("evaluated", "cached"),
        )
        self._swaps = families.total(
            "gateway_model_swaps_total",
            "Times that a request got a slot whose engine did not hold its model.",
        )
        self._load_s = families.distribution(
            "gateway_model_load_seconds", "What it took to load a model.", LOAD_S
        )

    def told(self, record: RequestRecord) -> None:
        """A request has ended; of a refused or a rejoined one there is nothing to tell."""
        if record.outcome == "refused" or record.rejoined:
            return
        if record.priority is not None and record.upstream:
            self._told_slot(record, record.priority)
        prompt = record.usage.prompt
        if prompt > 0:
            cached = cached_tokens(record)
            self._prompt_tokens.add(("cached",), cached)
            self._prompt_tokens.add(("evaluated",), prompt - cached)

    def model_loaded(self, seconds: float) -> None:
        self._load_s.observe(seconds)

    def _told_slot(self, record: RequestRecord, priority: Priority) -> None:
        """What it used of a slot, and how well that was foreseen."""
        self._slot_s.add((CLASSES[priority],), record.service_s)
        self._swaps.value += record.swaps
        completed = record.outcome == "completed"
        if not completed and not record.taken_over:
            self._wasted_slot_s.value += record.service_s
        if record.attempts != 1:
            return  # It was foreseen for the first.
        if record.queue_s >= JUDGED_S_MIN:
            self._wait_ratio.observe(record.expected_wait_s / record.queue_s)
        if completed and not record.truncated and record.service_s >= JUDGED_S_MIN:
            self._service_ratio.observe(record.expected_s / record.service_s)
