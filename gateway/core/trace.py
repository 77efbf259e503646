"""Which trace a request belongs to, as its headers say and as it is passed on. Pure.

Source: W3C Trace Context, Level 1 (2021) and, for the flag of random ids, Level 2.
What does not fit is as if it were missing: nothing that a client sends is passed
on to an engine, or written to a log, in any other form than this.
"""

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final

import attrs

SAMPLED: Final = 0x01
RANDOM: Final = 0x02

STATE_CHARS_MAX: Final = 512
STATE_MEMBERS_MAX: Final = 32

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY: Final = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(f"{_KEY}={_VALUE}")


@attrs.frozen
class TraceContext:
    """A place in a trace: the span that what is sent from here belongs below.

    Attributes:
        trace_id: 32 hexadecimal digits, not all 0.
        span_id: 16 of them, not all 0.
        flags: SAMPLED and RANDOM, as they are passed on.
        state: What the tracing systems before us say beside it (`tracestate`); "" if nothing.
    """

    trace_id: str
    span_id: str
    flags: int = SAMPLED
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether those before us record it, and want us to."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def headers(self) -> Mapping[str, str]:
        """For a request that is sent on from here."""
        if not self.state:
            return {"traceparent": self.traceparent}
        return {"traceparent": self.traceparent, "tracestate": self.state}


@attrs.frozen
class Trace:
    """The trace that one HTTP request is part of.

    Attributes:
        context: Its place, which whatever is sent for it belongs below.
        ours: That place is a span of ours, else the client's, and we only pass it on.
        parent_id: The span that ours belongs below; "" where the trace begins with it.
    """

    context: TraceContext
    ours: bool = False
    parent_id: str = ""


current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)
"""Of the request that this task works for; None where there is none.

A variable of the context, since it concerns whoever happens to speak HTTP or to log
for a request, and nobody in between. The server runs each request in a context of
its own, and a task that one begins has a copy of it.
"""


def context_of(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """What the headers of a request say; None where they say nothing that holds.

    Args:
        parents: The values of `traceparent`; there must be one.
        states: Those of `tracestate`, which count as one list.
    """
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may say more at the end; version 0 says no more, and ff there is none.
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0"):
        return None
    if not span_id.strip("0"):
        return None
    known = int(flags, 16) & (SAMPLED | RANDOM)
    return TraceContext(trace_id, span_id, known, _state(states))


def _state(values: Sequence[str]) -> str:
    text = ",".join(values)
    if not text or len(text) > STATE_CHARS_MAX:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > STATE_MEMBERS_MAX or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)
