import random

import pytest

from gateway.core.trace import RANDOM, SAMPLED, TraceContext
from gateway.telemetry.tracing import Tracing

CAME = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", SAMPLED, "a=b")


def tracing(sample_ratio: float = 1.0) -> Tracing:
    return Tracing(sample_ratio=sample_ratio, dice=random.Random(7))


def test_a_trace_that_begins_here_has_an_id_of_its_own() -> None:
    ours = tracing()
    traces = [ours.begin(None) for _ in range(100)]
    assert len({trace.context.trace_id for trace in traces}) == 100
    assert len({trace.context.span_id for trace in traces}) == 100
    for trace in traces:
        assert (trace.ours, trace.parent_id, trace.context.state) == (True, "", "")
        assert (len(trace.context.trace_id), len(trace.context.span_id)) == (32, 16)
        assert trace.context.flags == RANDOM | SAMPLED


def test_one_that_came_along_goes_on_with_a_span_of_ours() -> None:
    trace = tracing().begin(CAME)
    context = trace.context
    assert (trace.ours, trace.parent_id) == (True, CAME.span_id)
    assert (context.trace_id, context.flags, context.state) == (CAME.trace_id, CAME.flags, "a=b")
    assert context.span_id != CAME.span_id


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_of_traces_that_begin_here_a_part_is_recorded(ratio: float) -> None:
    ours = tracing(ratio)
    sampled = sum(ours.begin(None).context.sampled for _ in range(5000))
    assert sampled == pytest.approx(5000 * ratio, abs=150 if 0 < ratio < 1 else 0)


@pytest.mark.parametrize("flags", [0, SAMPLED])
def test_of_one_that_came_along_its_client_decides(flags: int) -> None:
    came = TraceContext(CAME.trace_id, CAME.span_id, flags)
    for ratio in (0.0, 1.0):
        assert tracing(ratio).begin(came).context.flags == flags
