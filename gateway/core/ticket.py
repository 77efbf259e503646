"""An admitted request on its way to a slot, and what is told when it has ended."""

import enum
from typing import Final, Literal

import attrs

from gateway.core.messages import GenerateRequest, Timings, Usage


class Priority(enum.IntEnum):
    """Classes of urgency; the lower goes first."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


@attrs.frozen
class Caller:
    """Who holds an API key.

    Attributes:
        name: From the configuration, never from the request, so that it may be
            a log field and a metric label.
        weight: Share of the slots against the other callers of the same class.
    """

    name: str
    priority: Priority = Priority.NORMAL
    weight: float = 1.0


ANONYMOUS: Final = Caller(name="anonymous")


@attrs.define(eq=False)
class Ticket:
    """An admitted request that wants a slot.

    Attributes:
        request_id: The id that the caller sees in `x-request-id`.
        arrived_at: Clock seconds; also the order among equals, with `number`.
        number: Counts arrivals, so that order is total.
        deadline_at: Clock seconds by which it must have started and, whole
            answers, ended. It never starts later.
        tried: Names of upstreams that already failed it.
    """

    request_id: str
    number: int
    caller: Caller
    request: GenerateRequest
    arrived_at: float
    deadline_at: float
    tried: set[str] = attrs.field(factory=set)

    @property
    def model(self) -> str:
        return self.request.model


@attrs.frozen
class Load:
    """How busy the slots are that could run one model.

    Attributes:
        slots: All of them, free or not, of healthy upstreams.
        service_time_s: What one request has been taking in a slot lately.
    """

    slots: int
    running: int
    waiting: int
    service_time_s: float


Outcome = Literal["completed", "failed", "cancelled", "refused"]


@attrs.frozen(kw_only=True)
class RequestRecord:
    """All that is told of one parsed request, refused ones too. Holds no text and no key.

    Every parsed request ends in exactly one. `completed`, `failed` and
    `cancelled` were accepted; `refused` was not.

    Attributes:
        status: The HTTP status that belongs to the outcome; 499 for a caller who left.
        reason: The finer word of a failure or refusal; "" when completed.
        phase: Where a cancelled request was: queued, waiting (for the first
            event) or streaming.
        upstream: Name of the last one tried; "" if none was.
        queue_s: From arrival to the slot, or to the end if it never got one.
        first_token_s: From arrival to the first event; None if none came.
        total_s: From arrival to the end.
        backend_s: As the engine reports its own work, else as it was seen from here.
    """

    request_id: str
    caller: str
    model: str
    stream: bool
    outcome: Outcome
    status: int
    reason: str = ""
    phase: str = ""
    upstream: str = ""
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    backend_s: float | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()
    attempts: int = 0
