"""What happens to one request, noted as it happens; and its answer, as its consumer sees it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.admission.rejoin import Key
from gateway.backends.base import EventStream
from gateway.backends.recording import Recording
from gateway.core.clock import Timeout
from gateway.core.errors import GatewayError
from gateway.core.messages import (
    Embeddings,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ReasoningDelta,
    Request,
    TextDelta,
    Timings,
    Usage,
    totals,
)
from gateway.core.ticket import Caller, Outcome, Progress, RequestRecord, State, Ticket
from gateway.scheduling.microbatch import BatchMember

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that left; it never reaches a wire."""


class Answer:
    """The events of a running request.

    Attributes:
        ignored: Parameters that the chosen upstream can't honour, by name.
        cut_to: Tokens of it, where these are fewer than the caller wants.
        queue_s: How long it waited for its slot.
        truncated: It reached its deadline, and what there was is all there will be.
        cut_usage: What had been written by then of the answer that was cut.
        rejoined: It is the answer to an earlier try of the same request.
        delivered: All of it is written; for its consumer to say. A client that leaves
            then, before its connection is tidied up, has what it came for.
        tokens: Events that its consumer has read, which are about its tokens; for that
            consumer to count, since every token passes there anyway.
    """

    __slots__ = (
        "_answers",
        "_first",
        "_prompt_tokens",
        "_stream",
        "_tokens",
        "cut",
        "cut_to",
        "cut_usage",
        "delivered",
        "ignored",
        "queue_s",
        "rejoined",
        "tokens",
        "truncated",
    )

    def __init__(
        self,
        stream: EventStream,
        first: Sequence[Event],
        *,
        answers: int,
        ignored: tuple[str, ...],
        queue_s: float,
        cut: Callable[[], bool] | None = None,
        prompt_tokens: int = 0,
        cut_to: int | None = None,
        rejoined: bool = False,
    ) -> None:
        """
        Args:
            cut: Asked when reading is cancelled: whether that is because its time is
                over. None where what came so far is worth nothing.
            prompt_tokens: As estimated, for the count of an answer that is cut.
        """
        self._stream = stream
        self._answers = answers
        self._first: Sequence[Event] | None = first
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self.cut = cut
        self.cut_to = cut_to
        self.ignored = ignored
        self.queue_s = queue_s
        self.cut_usage = Usage()
        self.delivered = False
        self.truncated = False
        self.rejoined = rejoined
        self.tokens = 0

    @property
    def whole(self) -> bool:
        """Whether the engine has said all; what was read last is then the end."""
        return len(self._stream.ends) == self._answers

    @property
    def embeddings(self) -> Embeddings:
        """What there is instead of events where vectors were asked for, after the end was read."""
        assert isinstance(self._stream, BatchMember)
        return self._stream.embeddings

    def read(self) -> Awaitable[Sequence[Event]]:
        """The next events, as many as came together; empty when all answers are finished.

        Not a coroutine itself: a token costs one frame less on its way.

        Raises, when awaited:
            BackendError, RequestTimeout: The answer broke.
        """
        if self.cut is not None:
            return self._read_until_cut(self.cut)
        first, self._first = self._first, None
        return self._stream.read() if first is None else _now(first)

    async def _read_until_cut(self, cut: Callable[[], bool]) -> Sequence[Event]:
        """As `read`; at the deadline the answer ends with what it has."""
        if self.truncated:
            return ()
        first, self._first = self._first, None
        try:
            events = await self._stream.read() if first is None else first
        except asyncio.CancelledError:
            ends = len(self._stream.ends)
            if not (self._tokens or ends) or not cut():
                raise
            self.truncated = True
            self.cut_usage = Usage(prompt=self._prompt_tokens, completion=self._tokens)
            unbegun = [Finished(FinishReason.LENGTH)] * (self._answers - ends - 1)
            return [Finished(FinishReason.LENGTH, self.cut_usage), *unbegun]
        for event in events:
            if isinstance(event, (TextDelta, ReasoningDelta)):
                self._tokens += 1
            elif isinstance(event, Finished):
                self._tokens = 0
        return events


async def _now(events: Sequence[Event]) -> Sequence[Event]:
    return events


class Story:
    """What happens to one request, noted as it happens.

    Attributes:
        loading: Its model is being brought to memory for it.
        stream: Of its answer, once there is one.
        rejoin_key: By which its client's next try is known; None where none is expected.
        share: The part of its slot that it uses, where several are computed in one call.
        recordings: Of its answer, one for each attempt, for that next try.
    """

    def __init__(
        self, request: Request, caller: Caller, request_id: str, arrived_at: float
    ) -> None:
        self.request = request
        self.caller = caller
        self.request_id = request_id
        self.arrived_at = arrived_at
        self.accepted = False
        self.ticket: Ticket | None = None
        self.upstream = ""
        self.attempts = 0
        self.retried: set[str] = set()
        self.leased_at: float | None = None
        self.slot_s = 0.0
        self._slot_since = 0.0
        self.share = 1.0
        self.loading = False
        self.load_s = 0.0
        self.expected_s = 0.0
        self.cached_chars = 0
        self.swaps = 0
        self.first_event_at: float | None = None
        self.timer: Timeout | None = None
        self.aborted_by: GatewayError | None = None
        self.stream: EventStream | None = None
        self.rejoin_key: Key | None = None
        self.recordings: list[Recording] = []
        self.answer: Answer | None = None
        self._outcome: Outcome = "refused"
        self._status = 200
        self._reason = ""
        self._phase = ""

    @property
    def queue_s(self) -> float:
        return 0.0 if self.leased_at is None else self.leased_at - self.arrived_at

    @property
    def state(self) -> State:
        if self.leased_at is None:
            return "queued"
        if self.loading:
            return "loading"
        return "prefill" if self.first_event_at is None else "decode"

    @property
    def delivered(self) -> bool:
        """Whether its client has the whole answer, whatever comes of the connection then."""
        return self.answer is not None and self.answer.delivered

    def leased(self, upstream: str, now: float) -> None:
        self.upstream = upstream
        self.attempts += 1
        self.leased_at = now
        self._slot_since = now

    def gave_back(self, now: float) -> None:
        """It has a slot no longer."""
        self.slot_s += (now - self._slot_since) * self.share

    def parted(self) -> None:
        """The answer that it had joined broke before it began: it is a request like any other."""
        self.attempts = 0
        self.leased_at = None

    def end(self) -> None:
        """The consumer is done."""
        answer = self.answer
        if answer is not None and (answer.whole or answer.truncated):
            self._outcome = "completed"
        else:
            self.leave()

    def fail(self, error: GatewayError) -> None:
        """It is refused or broke; of no matter to a caller who is gone already."""
        if self._outcome == "cancelled":
            return
        self._outcome = "failed" if self.accepted else "refused"
        self._status = error.status
        self._reason = error.reason

    def leave(self) -> None:
        """The caller is gone, or no longer reads."""
        if self.delivered:
            self._outcome = "completed"
            return
        self._outcome = "cancelled" if self.accepted else "refused"
        self._status = CLIENT_CLOSED_REQUEST
        self._reason = "client_gone"
        if self.first_event_at is not None:
            self._phase = "streaming"
        else:
            self._phase = "queued" if self.leased_at is None else "waiting"

    def abort(self, error: GatewayError, now: float) -> None:
        """End it if it runs; one that waits for a slot is the worker's to fail."""
        self.aborted_by = error
        if self.timer is not None and not self.timer.expired():
            self.timer.reschedule(now)

    def progress(self, now: float) -> Progress:
        """Where it is now; what it waits for is the scheduler's to add."""
        state = self.state
        slot_at = self.leased_at
        first_at = self.first_event_at
        return Progress(
            request_id=self.request_id,
            model=self.request.model,
            state=state,
            service_s=self.expected_s,
            so_far_s=now - self.arrived_at,
            queue_s=now - self.arrived_at if slot_at is None else self.queue_s,
            load_s=self.load_s,
            prefill_s=0.0
            if slot_at is None
            else (now if first_at is None else first_at) - slot_at - self.load_s,
            decode_s=0.0 if first_at is None else now - first_at,
        )

    def record(self, now: float) -> RequestRecord:
        total_s = now - self.arrived_at
        usage, timings = self._counted()
        backend_s = timings.total_s
        if backend_s is None and self.leased_at is not None:
            backend_s = now - self.leased_at
        first = self.first_event_at
        answer, ticket = self.answer, self.ticket
        return RequestRecord(
            request_id=self.request_id,
            caller=self.caller.name,
            model=self.request.model,
            operation=self.request.operation,
            stream=self.request.stream,
            outcome=self._outcome,
            status=self._status,
            reason=self._reason,
            phase=self._phase,
            upstream=self.upstream,
            queue_s=total_s if self.leased_at is None else self.queue_s,
            first_token_s=None if first is None else first - self.arrived_at,
            total_s=total_s,
            backend_s=backend_s,
            usage=usage,
            charged=self._charged(usage),
            timings=timings,
            attempts=self.attempts,
            expected_wait_s=0.0 if ticket is None else ticket.expected_wait_s,
            expected_s=self.expected_s,
            service_s=self.slot_s,
            prompt_chars=0 if ticket is None else ticket.prompt_chars,
            cached_chars=self.cached_chars,
            load_s=self.load_s,
            swaps=self.swaps,
            priority=None if ticket is None else ticket.priority,
            truncated=answer is not None and answer.truncated,
            rejoined=answer is not None and answer.rejoined,
            taken_over=self._outcome == "cancelled" and self._taken_over(),
        )

    def _taken_over(self) -> bool:
        """Whether the answer has gone to another try, or is about to."""
        return any(
            recording.delivered or (recording.replays > 0 and recording.error is None)
            for recording in self.recordings
        )

    def _counted(self) -> tuple[Usage, Timings]:
        """What the engine has said of the answers that are whole."""
        usage, timings = totals(() if self.stream is None else self.stream.ends, n=self.request.n)
        if self.answer is not None:
            usage = usage + self.answer.cut_usage
        return usage, timings

    def _charged(self, usage: Usage) -> Usage:
        """What its caller is charged; what no engine has told, as it was foreseen and seen."""
        ticket, answer, request = self.ticket, self.answer, self.request
        if ticket is None or (isinstance(request, GenerateRequest) and not request.asks):
            return Usage()
        read_part = 1.0
        if self.first_event_at is None:
            if self._outcome == "failed":
                return Usage()
            reading_s, cost_s = max(self.slot_s - self.load_s, 0.0), ticket.cost.prefill_s
            read_part = min(1.0, reading_s / cost_s) if cost_s > 0.0 else 0.0
        elif self._outcome == "completed" and (usage.prompt or usage.completion):
            return usage
        ends = 0 if self.stream is None else len(self.stream.ends)
        seen = 0 if answer is None else max(answer.tokens - ends, 0)
        return Usage(
            prompt=usage.prompt or round(ticket.cost.prompt_tokens * read_part),
            completion=max(usage.completion, seen),
            cached=usage.cached,
        )


def ended_progress(record: RequestRecord) -> Progress:
    """What can be asked of a request that has ended; the engine's own times where it told them."""
    timings = record.timings
    load_s = max(record.load_s, timings.load_s or 0.0)
    first_s = record.total_s if record.first_token_s is None else record.first_token_s
    prefill_s, decode_s = timings.prefill_s, timings.decode_s
    return Progress(
        request_id=record.request_id,
        model=record.model,
        state="ended",
        service_s=record.expected_s,
        so_far_s=record.total_s,
        queue_s=record.queue_s,
        load_s=load_s,
        prefill_s=first_s - record.queue_s - load_s if prefill_s is None else prefill_s,
        decode_s=record.total_s - first_s if decode_s is None else decode_s,
        record=record,
    )
