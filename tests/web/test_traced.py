"""What is read of a request's headers, and what its own task is told."""

from contextvars import copy_context

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.trace import Trace, TraceContext, current
from gateway.web.traced import trace_of

CONTEXT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1, "a=b,c=d")
CAME = (("Traceparent", CONTEXT.traceparent), ("TraceState", "a=b"), ("tracestate", "c=d"))
OURS = Trace(
    TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"), ours=True, parent_id="p"
)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def test_a_trace_that_comes_along_is_passed_on_as_it_is() -> None:
    assert copy_context().run(trace_of, headers(*CAME), None) == Trace(CONTEXT)


def test_where_requests_get_a_span_of_ours_it_is_made_of_what_came() -> None:
    asked: list[TraceContext | None] = []

    def begin(came: TraceContext | None) -> Trace:
        asked.append(came)
        return OURS

    for given in (headers(*CAME), headers(), headers(("traceparent", "nonsense"))):
        assert copy_context().run(trace_of, given, begin) == OURS
    assert asked == [CONTEXT, None, None]


def test_whoever_works_for_the_request_finds_it() -> None:
    def request() -> Trace | None:
        trace_of(headers(*CAME), None)
        return current.get()

    assert copy_context().run(request) == Trace(CONTEXT)
    assert current.get() is None


@pytest.mark.parametrize(
    "given",
    [
        headers(),
        headers(("tracestate", "a=b")),
        headers(("traceparent", "nonsense")),
        headers(*CAME, ("traceparent", CONTEXT.traceparent)),
    ],
)
def test_without_a_trace_there_is_none(given: CIMultiDictProxy[str]) -> None:
    assert copy_context().run(trace_of, given, None) is None
