"""Who asks for how much. Callers are those of the configuration."""

from collections.abc import Iterable
from typing import Final, get_args

from gateway.core.ticket import Outcome, RequestRecord
from gateway.telemetry.exchange import CLIENT_GONE
from gateway.telemetry.families.registry import Families
from gateway.telemetry.usage import counts_of

CALLERS_MAX: Final = 32
"""With labels of their own; the ledger knows all of them."""

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)


class CallerFamilies:
    def __init__(self, families: Families) -> None:
        self._names: dict[str, None] = {}
        names = self._names.keys()
        self._requests = families.tally(
            "gateway_caller_requests_total",
            "Requests for models, by caller and what became of them.",
            caller=names,
            outcome=OUTCOMES,
        )
        self._tokens = families.tally(
            "gateway_caller_tokens_total",
            "Tokens that callers are charged, cached ones of prompts too.",
            caller=names,
            kind=("prompt", "completion"),
        )
        self._slot_s = families.tally(
            "gateway_caller_slot_seconds_total",
            "Time that callers had in slots.",
            caller=names,
        )
        self._storage_errors = families.total(
            "gateway_storage_errors_total",
            "Times that something could not be stored that is to outlive the daemon.",
        )

    def set_callers(self, names: Iterable[str]) -> None:
        """These may call. Whoever has a label keeps it."""
        for name in names:
            if name not in self._names and len(self._names) < CALLERS_MAX:
                self._names[name] = None
                self._requests.begin((name, "completed"))
                self._tokens.begin((name, "prompt"))
                self._tokens.begin((name, "completion"))
                self._slot_s.begin((name,))

    def told(self, record: RequestRecord) -> None:
        """A request has ended; a retry that got the answer of an earlier try is that try."""
        if record.rejoined or (record.outcome == "refused" and record.status == CLIENT_GONE):
            return
        caller, counts = record.caller, counts_of(record)
        self._requests.add((caller, record.outcome))
        self._tokens.add((caller, "prompt"), counts.prompt_tokens)
        self._tokens.add((caller, "completion"), counts.completion_tokens)
        self._slot_s.add((caller,), counts.slot_s)

    def storage_failed(self) -> None:
        self._storage_errors.value += 1
