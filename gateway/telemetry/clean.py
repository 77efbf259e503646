"""Making text safe to stand in a log line: printable ASCII, bounded, nobody's secrets."""

import traceback
from collections.abc import Iterator
from typing import Final

from gateway.core.errors import GatewayError

TEXT_CHARS_MAX: Final = 200

_FRAMES_MAX: Final = 12
_ERRORS_MAX: Final = 8

_SPEAK_OF_THEMSELVES: Final = (
    *(GatewayError, OSError, RuntimeError, TypeError, AttributeError, NameError),
    *(AssertionError, ImportError, ArithmeticError, MemoryError, BaseExceptionGroup),
)
"""Errors whose text is ours or the system's. Those of parsers and look-ups quote their
input, which may be a prompt or a key: of them only the type is told."""


def clean(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """One line of printable ASCII; whatever else is in it is spelled as Python does."""
    if len(text) <= chars_max and text.isascii() and text.isprintable():
        return text
    text = text[: chars_max + 1]
    if not (text.isascii() and text.isprintable()):
        text = ascii(text)[1:-1]
    return text if len(text) <= chars_max else text[: chars_max - 3] + "..."


def tell(error: BaseException) -> str:
    """The traceback, its causes first; lines of printable ASCII, no locals, bounded."""
    return "\n".join(clean(line) for line in _lines(error, [_ERRORS_MAX]))


def _lines(error: BaseException, errors_left: list[int]) -> Iterator[str]:
    if errors_left[0] == 0:
        return
    errors_left[0] -= 1
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _lines(cause, errors_left)
        yield "and then"
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES_MAX)
    for frame in frames:
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"    {frame.line}"
    kind = type(error).__qualname__
    yield f"{kind}: {error}" if isinstance(error, _SPEAK_OF_THEMSELVES) else kind
    if isinstance(error, BaseExceptionGroup):
        for child in error.exceptions:
            yield "of which one is"
            yield from _lines(child, errors_left)
