import pytest

from gateway.core.trace import RANDOM, SAMPLED, TraceContext, context_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_place_in_a_trace_is_read_and_passed_on_as_it_came() -> None:
    context = context_of([PARENT], ["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"])
    assert context == TraceContext(TRACE, SPAN, SAMPLED, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert dict(context.headers) == {"traceparent": PARENT, "tracestate": context.state}


def test_without_a_state_none_is_passed_on() -> None:
    context = context_of([PARENT], [])
    assert context is not None
    assert dict(context.headers) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    ("flags", "known", "sampled"),
    [("00", 0, False), ("01", SAMPLED, True), ("03", SAMPLED | RANDOM, True), ("fc", 0, False)],
)
def test_flags_that_are_known_go_on_and_others_do_not(
    flags: str, known: int, sampled: bool
) -> None:
    context = context_of([f"00-{TRACE}-{SPAN}-{flags}"], [])
    assert context is not None
    assert (context.flags, context.sampled) == (known, sampled)
    assert context.traceparent.endswith(f"-{known:02x}")


@pytest.mark.parametrize("parent", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"])
def test_a_later_version_is_read_as_far_as_it_is_known(parent: str) -> None:
    context = context_of([parent], [])
    assert context is not None
    assert context.traceparent == PARENT


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f" {PARENT}",
        f"{PARENT}\n",
        f"00-{'４' * 32}-{SPAN}-01",
    ],
)
def test_what_does_not_fit_is_as_if_it_were_missing(parent: str) -> None:
    assert context_of([parent], []) is None


def test_two_parents_are_none() -> None:
    assert context_of([PARENT, PARENT], []) is None
    assert context_of([], ["a=b"]) is None


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 , b=2,,"], "a=1,b=2"),
        (["tenant@system=x y"], "tenant@system=x y"),
        (["a"], ""),
        (["a=1,B=2"], ""),
        (["a=1\x1b[31m"], ""),
        (["a=é"], ""),
        (["a=" + "x" * 511], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(values: list[str], state: str) -> None:
    context = context_of([PARENT], values)
    assert context is not None
    assert context.state == state
