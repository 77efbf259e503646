"""OpenTelemetry's names for what a model server does, so that ready-made dashboards find them.

Source: "Semantic conventions for generative AI metrics", opentelemetry.io, spelled
as Prometheus does: a unit at the end, underscores for dots. The edges are the
standard ones, extended upwards to what a CPU takes.
"""

from collections.abc import Collection
from typing import Final

from gateway.core.messages import OPERATIONS
from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import tokens_per_s
from gateway.telemetry.families.registry import Families
from gateway.telemetry.series import Budget

DURATION_S: Final = tuple(0.01 * 2**doublings for doublings in range(17))
FIRST_TOKEN_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0),
)
TOKEN_S: Final = (*(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),)
TOKENS: Final = tuple(4**power for power in range(14))

ERROR_TYPES: Final = ("", "backend_error", "client_gone", "timeout", "_OTHER")
"""Coarse, as each is a whole histogram: "" where all went well, OpenTelemetry's own word
for the rest."""

BEGUN_MAX: Final = 4
"""Models whose chats are shown at 0 before the first; the others begin with their first."""


class GenAiFamilies:
    """Of accepted requests: a refusal takes no time of a model.

    Args:
        models: Those that have labels of their own; may grow and shrink.
        budget: Of all its series.
    """

    def __init__(self, families: Families, *, models: Collection[str], budget: Budget) -> None:
        # The model comes first: it is what can be forgotten.
        of_what = {"gen_ai_request_model": models, "gen_ai_operation_name": OPERATIONS}
        self._duration = families.distributions(
            "gen_ai_server_request_duration_seconds",
            "From arrival to the end of the answer, of accepted requests.",
            DURATION_S,
            budget,
            **of_what,
            error_type=ERROR_TYPES,
        )
        self._first_token = families.distributions(
            "gen_ai_server_time_to_first_token_seconds",
            "From arrival to the first token, of streams that were answered.",
            FIRST_TOKEN_S,
            budget,
            **of_what,
        )
        self._token = families.distributions(
            "gen_ai_server_time_per_output_token_seconds",
            "Between two tokens of an answer, on its average.",
            TOKEN_S,
            budget,
            **of_what,
        )
        self._tokens = families.distributions(
            "gen_ai_client_token_usage",
            "Tokens of a prompt or of an answer.",
            TOKENS,
            budget,
            **of_what,
            gen_ai_token_type=("input", "output"),
        )
        self._begun = 0

    def told(self, record: RequestRecord) -> None:
        """A request has ended."""
        if record.outcome == "refused":
            return
        what = (record.model, record.operation)
        completed = record.outcome == "completed"
        self._duration.observe((*what, "" if completed else _error_type(record)), record.total_s)
        if completed and record.stream and record.first_token_s is not None:
            self._first_token.observe(what, record.first_token_s)
        if record.rejoined:
            return  # What the model did is told by the request that it came back for.
        usage = record.usage
        if usage.prompt > 0:
            self._tokens.observe((*what, "input"), usage.prompt)
        if usage.completion > 0:
            self._tokens.observe((*what, "output"), usage.completion)
            speed = tokens_per_s(record) if completed else None
            if speed:
                self._token.observe(what, 1.0 / speed)

    def begin_model(self, name: str) -> None:
        if self._begun == BEGUN_MAX:
            return
        self._begun += 1
        chat = (name, "chat")
        self._duration.begin((*chat, ""))
        self._first_token.begin(chat)
        self._token.begin(chat)
        for type_ in ("input", "output"):
            self._tokens.begin((*chat, type_))

    def forget_model(self, name: str) -> None:
        for family in (self._duration, self._first_token, self._token, self._tokens):
            family.forget(name)


def _error_type(record: RequestRecord) -> str:
    if record.outcome == "cancelled":
        return "client_gone"
    if record.status == 504:
        return "timeout"
    return record.reason if record.reason in ERROR_TYPES else "_OTHER"
