"""Which values labels may have. None of them comes from a caller."""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.core.errors import GatewayError
from gateway.telemetry.exchange import CLIENT_GONE
from gateway.telemetry.series import fit_for_label

MODELS_MAX: Final = 32


def _tree(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


_ERRORS: Final = tuple(_tree(GatewayError))

STATUSES: Final = frozenset({200, 204, CLIENT_GONE, *(error.status for error in _ERRORS)})

REFUSALS: Final = {error.status for error in _ERRORS if error.status < 500} | {503}
"""What says no before any work was done. Other statuses of errors tell what broke."""

REJECTED: Final = sorted({e.reason for e in _ERRORS if e.status in REFUSALS})

ERROR_TYPES: Final = (
    *("backend_error", "model_not_found", "overload", "queue_full", "auth_failure"),
    *("timeout", "stall", "deadline", "client_gone", "shutting_down", "memory_pressure"),
    *("invalid_request", "invalid_json", "context_length", "unsupported_parameter"),
    *("unsupported_by_model", "too_large", "body_timeout", "internal_error"),
)
"""The predecessor's five, and what else can become of a generation request."""

UPSTREAM_KINDS: Final = sorted({e.kind for e in _ERRORS if hasattr(e, "kind")})

PHASES: Final = ("reading", "queued", "waiting", "streaming")
"""Where a caller left: while its request was read, then as in RequestRecord."""

CLOSE_REASONS: Final = (
    *("header_timeout", "body_timeout", "keepalive_timeout", "write_stall", "evicted"),
    *("too_many_connections", "bad_http"),
)
"""Why we, not the client, closed a connection."""


class ModelLabels:
    """The models that have labels of their own: those that are there, MODELS_MAX at the most.

    One that is gone keeps its label, since it may come back, until another model
    needs the room.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}  # in the order they came, as a set has none
        self.allowed: Final = self._names.keys()

    def update(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """These are there now, as callers spell them, what matters most first.

        Returns:
            Which are new, and which are forgotten for them.
        """
        wanted = [name for name in dict.fromkeys(names) if fit_for_label(name)][:MODELS_MAX]
        begun, forgotten = [], []
        for name in wanted:
            if name in self._names:
                continue
            if len(self._names) == MODELS_MAX:
                gone = next(known for known in self._names if known not in wanted)
                del self._names[gone]
                forgotten.append(gone)
            self._names[name] = None
            begun.append(name)
        return begun, forgotten
