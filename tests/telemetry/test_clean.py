import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import QueueFull
from gateway.telemetry.clean import clean, tell


@given(text=st.text() | st.text(alphabet='\x00\x1b\r\n\x7f\x85\u2028\ud800\U0001f999"\\a'))
def test_clean_text_is_bounded_printable_ascii(text: str) -> None:
    cleaned = clean(text, 50)
    assert len(cleaned) <= 50
    assert cleaned.isascii()
    assert cleaned.isprintable()


def test_plain_text_stays_as_it_is() -> None:
    assert clean('hf.co/a/b:Q4 "x" \\') == 'hf.co/a/b:Q4 "x" \\'


def test_a_cut_can_be_seen() -> None:
    assert clean("x" * 300) == "x" * 197 + "..."


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_traceback_tells_where_and_what() -> None:
    told = tell(raised(OSError(24, "Too many open files")))
    assert "in raised" in told
    assert told.endswith("OSError: [Errno 24] Too many open files")


@pytest.mark.parametrize("error", [ValueError("canary"), KeyError("canary"), Exception("canary")])
def test_an_error_that_quotes_its_input_is_told_by_type_alone(error: Exception) -> None:
    told = tell(raised(error))
    assert "canary" not in told
    assert told.endswith(type(error).__name__)


def test_our_own_errors_speak_for_themselves() -> None:
    assert tell(QueueFull("The queue is full.")) == "QueueFull: The queue is full."


def test_the_cause_comes_first() -> None:
    error = RuntimeError("after")
    error.__cause__ = RuntimeError("before")
    assert tell(error) == "RuntimeError: before\nand then\nRuntimeError: after"


def test_a_suppressed_context_is_not_told() -> None:
    error = RuntimeError("after")
    error.__context__ = RuntimeError("before")
    error.__suppress_context__ = True
    assert tell(error) == "RuntimeError: after"


def test_a_group_tells_its_children() -> None:
    group = ExceptionGroup("both", [RuntimeError("one"), ValueError("two")])
    assert tell(group).splitlines()[-2:] == ["of which one is", "ValueError"]


def test_a_chain_without_end_is_cut() -> None:
    error = RuntimeError("x")
    for _ in range(1000):
        following = RuntimeError("x")
        following.__cause__ = error
        error = following
    assert tell(error).count("RuntimeError") == 8


def deep(levels: int) -> None:
    if levels == 0:
        raise RuntimeError("deep")
    deep(levels - 1)


def test_of_many_frames_the_last_are_told() -> None:
    try:
        deep(100)
    except RuntimeError as error:
        told = tell(error)
    assert told.count("in deep") == 12
    assert told.endswith("RuntimeError: deep")
