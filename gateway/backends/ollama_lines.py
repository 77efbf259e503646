"""What the answers of Ollama's two ways to generate have in common. Pure.

NDJSON: a line for each piece, and a last one that says how it ended and what it took.
"""

from abc import ABC, abstractmethod
from typing import Any, Final

import msgspec

from gateway.backends.refusals import overflow
from gateway.backends.values import natural, seconds
from gateway.core.errors import (
    GatewayError,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import Event, Finished, FinishReason, Timings, Usage
from gateway.dialects.framing import LineSplitter


class _Done(msgspec.Struct, gc=False):
    """What the last line adds. Engines disagree on these; none may break an answer."""

    done_reason: Any = None
    total_duration: Any = None
    load_duration: Any = None
    prompt_eval_count: Any = None
    prompt_eval_cached_count: Any = None
    prompt_eval_duration: Any = None
    eval_count: Any = None
    eval_duration: Any = None


_done = LineDecoder(_Done)

_NS: Final = 1e-9


class LinesReader(ABC):
    """Reads the NDJSON of one answer. See `AnswerReader`."""

    def __init__(self, *, line_bytes_max: int) -> None:
        self._lines = LineSplitter(line_bytes_max)
        self._any = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            return self._events(self._lines.feed(data))
        except ValueError as error:
            raise unreadable() from error

    def end(self) -> list[Event]:
        # Not every last line has an end of its own.
        if rest := self._lines.rest.strip():
            try:
                events = self._events([rest])
            except ValueError as error:
                raise unreadable() from error
            if events and isinstance(events[-1], Finished):
                return events
        if not self._any:
            raise UpstreamBadResponse("The model's engine sent an empty answer.")
        # Also how Ollama ends an answer that repeats itself: without a word.
        raise UpstreamDisconnected("The model's engine ended its answer midway.")

    def salvage(self) -> list[Event]:
        return []

    @abstractmethod
    def _events(self, lines: list[bytes]) -> list[Event]:
        """The events of these lines, empty ones among them; sets `_any` if it saw one.

        Raises:
            ValueError: One can't be read.
            As `AnswerReader.feed`.
        """
        ...


def finished(line: bytes, *, called: bool = False) -> Finished:
    """What the last line says.

    Args:
        called: The model has called a tool.

    Raises:
        ValueError: It can't be read.
    """
    done = _done(line)
    if done.done_reason == "length":
        reason = FinishReason.LENGTH
    elif called:
        reason = FinishReason.TOOL_CALLS
    else:
        # "stop", and "load" where there was nothing to answer.
        reason = FinishReason.STOP
    return Finished(
        reason,
        Usage(
            prompt=natural(done.prompt_eval_count) or 0,
            completion=natural(done.eval_count) or 0,
            cached=natural(done.prompt_eval_cached_count),
        ),
        Timings(
            total_s=seconds(done.total_duration, _NS),
            load_s=seconds(done.load_duration, _NS),
            prefill_s=seconds(done.prompt_eval_duration, _NS),
            decode_s=seconds(done.eval_duration, _NS),
        ),
    )


def broke_off(error: Json, *, param: str = "messages") -> GatewayError:
    """What a line with an error means that comes midway. `param` is what the prompt is called."""
    found = overflow(error if isinstance(error, str) else repr(error))
    if found is not None:
        return found.error(param)
    return UpstreamFailed("The model's engine broke off with an error.")


def unreadable() -> UpstreamBadResponse:
    return UpstreamBadResponse("The answer of the model's engine can't be read.")
