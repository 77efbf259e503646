"""The trace that a request is part of: read from its headers, begun if it is to be ours."""

from collections.abc import Callable
from typing import Final

from multidict import CIMultiDictProxy, istr

from gateway.core.trace import Trace, TraceContext, context_of, current

TRACE_RESPONSE: Final = "traceresponse"
"""Tells a client where its request is in a trace (W3C Trace Context, Level 3 draft)."""

BeginTrace = Callable[[TraceContext | None], Trace]
"""Gives a request a span of ours, from what its client says."""

_PARENT: Final = istr("traceparent")
_STATE: Final = istr("tracestate")


def trace_of(headers: CIMultiDictProxy[str], begin: BeginTrace | None) -> Trace | None:
    """Of this request, whose own task asks: what it sends from now on is part of it.

    Args:
        begin: None where it gets no span of ours; what its client says is passed on then.
    """
    came = None
    if _PARENT in headers:
        came = context_of(headers.getall(_PARENT), headers.getall(_STATE, ()))
    if begin is not None:
        trace = begin(came)
    elif came is not None:
        trace = Trace(came)
    else:
        return None
    current.set(trace)
    return trace
