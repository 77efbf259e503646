"""What the streams of OpenAI's two ways to generate have in common, read as their client. Pure.

Events with choices, the last of which tells why the answer ends; then `[DONE]`.
The counts and times come with that last one or after it, as far as an engine
tells them at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.backends.refusals import overflow
from gateway.backends.values import natural, seconds
from gateway.core.errors import (
    GatewayError,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.jsonio import Json
from gateway.core.messages import Event, Finished, FinishReason, Timings, Usage
from gateway.dialects.framing import DONE_PAYLOAD, SseSplitter

# gc=False: nothing here can be part of a cycle, and one is made for each token.


class Choice(msgspec.Struct, gc=False):
    """One piece of an answer; what the piece is, a subclass knows."""

    index: int = 0
    finish_reason: str | None = None


C = TypeVar("C", bound=Choice)


class Chunk(msgspec.Struct, Generic[C], gc=False):
    """One event."""

    choices: list[C] | None = None
    error: Any = None
    usage: Any = None
    timings: Any = None


_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_BROKE_OFF: Final = frozenset({"abort", "error"})
"""vLLM's words for an answer that it gave up."""

_MS: Final = 1e-3


class EventsReader(ABC, Generic[C]):
    """Reads the events of one answer. See `AnswerReader`.

    `Finished` is held back until `[DONE]`: the usage comes after the reason.

    Args:
        decode: One event; ValueError where it can't be read.
        prompt: What the prompt is called, for an error.
    """

    def __init__(
        self, decode: Callable[[bytes], Chunk[C]], *, event_bytes_max: int, prompt: str
    ) -> None:
        self._decode = decode
        self._prompt = prompt
        self._records = SseSplitter(event_bytes_max)
        self._any = False
        self._called = False
        """The model has called a tool."""
        self._reason: FinishReason | None = None
        self._usage: Any = None
        self._timings: Any = None

    def feed(self, data: bytes) -> list[Event]:
        try:
            return self._events(self._records.feed(data))
        except ValueError as error:
            raise _unreadable() from error

    def end(self) -> list[Event]:
        # Not every last record is closed by a blank line.
        events: list[Event] = []
        if rest := self._records.rest.strip():
            try:
                events = self._events([rest])
            except ValueError as error:
                raise _unreadable() from error
        if events and isinstance(events[-1], Finished):
            return events
        if self._reason is not None:
            return [*events, self._finish()]
        if not self._any:
            raise UpstreamBadResponse("The model's engine sent an empty answer.")
        raise UpstreamDisconnected("The model's engine ended its answer midway.")

    def salvage(self) -> list[Event]:
        # With its reason told an answer is whole; only `[DONE]` was still to come.
        return [] if self._reason is None else [self._finish()]

    @abstractmethod
    def _read(self, choice: C, events: list[Event]) -> None:
        """Add what a choice says, its reason aside. Raises ValueError where it can't be read."""
        ...

    def _events(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        decode = self._decode
        for payload in payloads:
            if payload == DONE_PAYLOAD:
                if not self._any:
                    raise ValueError("an end without a beginning")
                events.append(self._finish())
                break
            chunk = decode(payload)
            if chunk.error is not None:
                raise self._broke_off(chunk.error)
            if chunk.usage is not None:
                self._usage = chunk.usage
            if chunk.timings is not None:
                self._timings = chunk.timings
            if chunk.choices is None:
                if chunk.usage is None and chunk.timings is None:
                    raise ValueError("a record without choices")
                continue
            self._any = True
            for choice in chunk.choices:
                self._read(choice, events)
                if choice.finish_reason is not None:
                    self._end_with(choice.finish_reason)
        return events

    def _end_with(self, reason: str) -> None:
        if reason in _BROKE_OFF:
            raise UpstreamFailed("The model's engine gave the answer up.")
        self._reason = _REASONS.get(reason, FinishReason.STOP)

    def _finish(self) -> Finished:
        reason = self._reason or FinishReason.STOP
        if reason is FinishReason.STOP and self._called:
            # What OpenAI says when a call was forced is "stop".
            reason = FinishReason.TOOL_CALLS
        usage = _object(self._usage)
        timings = _object(self._timings)
        prefill_s = seconds(timings.get("prompt_ms"), _MS)
        decode_s = seconds(timings.get("predicted_ms"), _MS)
        cached = natural(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))
        return Finished(
            reason,
            Usage(
                prompt=natural(usage.get("prompt_tokens")) or 0,
                completion=natural(usage.get("completion_tokens")) or 0,
                cached=natural(timings.get("cache_n")) if cached is None else cached,
                reasoning=natural(
                    _object(usage.get("completion_tokens_details")).get("reasoning_tokens")
                ),
            ),
            Timings(
                total_s=None if prefill_s is None or decode_s is None else prefill_s + decode_s,
                prefill_s=prefill_s,
                decode_s=decode_s,
            ),
        )

    def _broke_off(self, error: Json) -> GatewayError:
        found = overflow(error if isinstance(error, str) else repr(error))
        if found is not None:
            return found.error(self._prompt)
        return UpstreamFailed("The model's engine broke off with an error.")


def _unreadable() -> UpstreamBadResponse:
    return UpstreamBadResponse("The answer of the model's engine can't be read.")


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
