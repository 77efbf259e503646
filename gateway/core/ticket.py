"""An admitted request on its way to a slot, and what is told when it has ended."""

import enum
import math
from typing import Final, Literal

import attrs

from gateway.core.messages import Operation, Request, Timings, Usage


class Priority(enum.IntEnum):
    """Classes of urgency; the lower goes first."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


@attrs.frozen(kw_only=True)
class CallerLimits:
    """How much one caller may ask for; 0: as much as it likes.

    Attributes:
        requests_per_minute: Requests that are begun.
        tokens_per_minute: Of prompts and answers, as the engine counts them.
        tokens_per_day: The same, in a day of UTC.
        requests_at_once: Requests that run or wait.
        max_tokens: Of one answer.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    requests_at_once: int = 0
    max_tokens: int = 0

    @property
    def counted(self) -> bool:
        """Whether it has to be counted what the caller asks for."""
        return bool(
            self.requests_per_minute
            or self.tokens_per_minute
            or self.tokens_per_day
            or self.requests_at_once
        )


NO_LIMITS: Final = CallerLimits()


@attrs.frozen
class Caller:
    """Who holds an API key.

    Attributes:
        name: From the configuration, never from the request, so that it may be
            a log field and a metric label.
        priority: The class of its requests, unless it asks for another.
        priority_max: The most urgent class that it may ask for.
        weight: Share of the slots against the other callers of the same class.
        user_header: The header in which it names its own end users; each then has
            a share of its own. Empty: its word is not taken.
        manage_models: Whether it may change which models there are, and put them
            out of memory.
        admin: Whether it may see what others do, and change how the daemon runs.
        models: Which it may ask for, in its own words; empty: all.
        limits: How much it may ask for.
    """

    name: str
    priority: Priority = Priority.NORMAL
    priority_max: Priority = Priority.NORMAL
    weight: float = 1.0
    user_header: str = ""
    manage_models: bool = False
    admin: bool = False
    models: frozenset[str] = frozenset()
    limits: CallerLimits = NO_LIMITS


ANONYMOUS: Final = Caller(name="anonymous")


@attrs.frozen(kw_only=True)
class Hints:
    """What a client says beside its request, in headers. All of it may be missing or a lie.

    Attributes:
        timeout_s: How long it will wait for an answer.
        priority: The class it would like.
        user: Which end user it stands for; empty where its word is not taken.
        session: The name of the conversation.
        retry_count: How often it has sent this very request before; None where it
            doesn't say, and so may not come back.
        place: The id of the place that an earlier refusal has promised.
        fingerprint: Digest of the body, to know the same request again.
    """

    timeout_s: float | None = None
    priority: Priority | None = None
    user: str = ""
    session: str = ""
    retry_count: int | None = None
    place: str = ""
    fingerprint: bytes = b""


NO_HINTS: Final = Hints()

Chain = tuple[tuple[int, int], ...]
"""A prompt as marks along its text: characters so far, hash of all of them. Two
prompts share as many characters as the last mark that both have."""


@attrs.frozen
class Cost:
    """What a request is expected to take of a slot.

    Attributes:
        prefill_s: Reading that part of the prompt which no slot holds yet.
        decode_s: Writing the answer, on average.
        spread_s: Standard deviation of the sum.
        prompt_tokens: Of the whole prompt.
        answer_tokens: Of all answers together, on average.
    """

    prefill_s: float = 0.0
    decode_s: float = 0.0
    spread_s: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    @property
    def service_s(self) -> float:
        return self.prefill_s + self.decode_s


@attrs.define(eq=False)
class Ticket:
    """An admitted request that wants a slot.

    Attributes:
        request_id: The id that the caller sees in `x-request-id`.
        arrived_at: Clock seconds; also the order among equals, with `number`.
        number: Counts arrivals, so that order is total.
        deadline_at: Clock seconds by which it must have started and, whole
            answers, ended. It never starts later.
        flow: Whose share of the slots it uses: the caller, or one of its end users.
        session: The conversation that it belongs to; "" if none is named.
        chain: Its prompt, for comparing it with what a slot holds.
        prompt_chars: Of its prompt, or of all texts to embed.
        cost: What it is expected to take.
        priced_for: For what that is so: the upstream, the characters of the prompt that
            it holds, and how many run at once.
        due_at: When it must leave its slot for its deadline to hold: a stream may
            write on after the first token, and so later than `deadline_at`.
        expected_wait_s: Until its slot, as it was expected when it was let in.
        tried: Names of upstreams that already failed it.
    """

    request_id: str
    number: int
    caller: Caller
    request: Request
    arrived_at: float
    deadline_at: float
    priority: Priority = Priority.NORMAL
    flow: str = ""
    session: str = ""
    chain: Chain = ()
    prompt_chars: int = 0
    cost: Cost = Cost()
    priced_for: tuple[str, int, int] = ("", 0, 0)
    due_at: float = math.inf
    expected_wait_s: float = 0.0
    tried: set[str] = attrs.field(factory=set)

    @property
    def model(self) -> str:
        return self.request.model


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
        expected_wait_s: Until its slot, as expected when it was let in.
        expected_s: In its slot, as expected when it got it.
        service_s: In its slot, as it was.
        charged: What its caller is charged: `usage`, and of an answer that did not end
            an estimate. Nothing of one that failed before it began or was another try's.
        prompt_chars: Of its prompt, as prompts are compared.
        cached_chars: Of these, expected to be found in its slot.
        load_s: Waited until its model was loaded.
        swaps: Times that a model had to be loaded for it.
        priority: Its class; None where it was refused or rejoined.
        truncated: It was cut at its deadline.
        rejoined: It got the answer of an earlier try.
        taken_over: Its caller left, and the caller's next try got the answer.
    """

    request_id: str
    caller: str
    model: str
    stream: bool
    outcome: Outcome
    status: int
    operation: Operation = "chat"
    reason: str = ""
    phase: str = ""
    upstream: str = ""
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    backend_s: float | None = None
    usage: Usage = Usage()
    charged: Usage = Usage()
    timings: Timings = Timings()
    attempts: int = 0
    expected_wait_s: float = 0.0
    expected_s: float = 0.0
    service_s: float = 0.0
    prompt_chars: int = 0
    cached_chars: int = 0
    load_s: float = 0.0
    swaps: int = 0
    priority: Priority | None = None
    truncated: bool = False
    rejoined: bool = False
    taken_over: bool = False


State = Literal["queued", "loading", "prefill", "decode", "ended"]


@attrs.frozen(kw_only=True)
class Progress:
    """Where one accepted request is, as its own caller may see it.

    Attributes:
        state: `prefill` from the slot to the first event, `decode` from there on.
        position: How many are before it, 0 when it is next or runs.
        wait_s: From now until its slot, as expected; 0.0 when it has one.
        why: What it waits for, in words; "" when it has ended.
        service_s: What it is expected to take of its slot.
        so_far_s: Since its arrival.
        record: What became of it; None until it has ended.
    """

    request_id: str
    model: str
    state: State
    position: int = 0
    wait_s: float = 0.0
    why: str = ""
    service_s: float = 0.0
    so_far_s: float = 0.0
    queue_s: float = 0.0
    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    record: RequestRecord | None = None


@attrs.frozen(kw_only=True)
class Active:
    """One accepted request that has not ended, as the operator may see it.

    Attributes:
        upstream: Where its slot is; "" while it has none.
        tokens: Of its answer so far, about.
        deadline_s: How much of its time is left.
    """

    progress: Progress
    caller: str
    priority: Priority
    upstream: str = ""
    stream: bool = False
    tokens: int = 0
    deadline_s: float = 0.0


@attrs.frozen(kw_only=True)
class Forecast:
    """What would become of a request that came now.

    Attributes:
        refused: The public code of the refusal; "" when it would be accepted.
        wait_s: Until its slot.
        service_s: What it is expected to take of the slot.
        position: How many are before it.
        deadline_s: How long it may take.
        retry_after_s: When coming back would help; None when it would be accepted.
    """

    refused: str = ""
    wait_s: float = 0.0
    service_s: float = 0.0
    position: int = 0
    deadline_s: float = 0.0
    retry_after_s: float | None = None
