"""Reads the one string out of the arguments of an emulated custom tool, as they come.

The model writes `{"input": "…"}`, cut anywhere; the caller gets the text alone.
What is no JSON after all, such as a line end in the clear or `\\d`, stands for
itself: a patch that is nearly right is worth more than none.
"""

import re
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.dialects.openai_responses_tools import INPUT

_HEAD: Final = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')

_H: Final = "[0-9a-fA-F]"
_HIGH: Final = f"[dD][89abAB]{_H}{{2}}"
_LOW: Final = f"[dD][c-fC-F]{_H}{{2}}"

_PIECE: Final = re.compile(
    r'(?P<clear>[^"\\]+)'
    rf"|(?P<pair>\\u{_HIGH}\\u{_LOW})"
    rf"|\\u(?P<unit>{_H}{{4}})"
    r"|\\(?P<short>.)",
    re.DOTALL,
)
"""What the string is made of; the quote that ends it is none of them."""

_HALF: Final = re.compile(
    rf"\\(?:u{_H}{{0,3}}|u{_HIGH}(?:\\(?:u(?:[dD](?:[c-fC-F]{_H}?)?)?)?)?)?\Z"
)
"""The beginning of an escape, or of a pair of them, that ends with the text so far."""

_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/"} | {
    "\\": "\\",
    '"': '"',
}


class Freeform:
    """The input of one call."""

    def __init__(self) -> None:
        self._unread = ""
        self._begun = False
        self._told: list[str] = []

    @property
    def text(self) -> str:
        """All that was told."""
        return "".join(self._told)

    def feed(self, piece: str) -> str:
        """What this piece of the arguments adds to the text."""
        self._unread += piece
        if not self._begun:
            head = _HEAD.match(self._unread)
            if head is None:
                return ""
            self._begun = True
            self._unread = self._unread[head.end() :]
        return self._tell(self._take(last=False))

    def finish(self) -> str:
        """What is left to tell after the last piece."""
        return self._tell(self._take(last=True) if self._begun else _otherwise(self._unread))

    def _take(self, *, last: bool) -> str:
        text, at = self._unread, 0
        taken: list[str] = []
        while piece := _PIECE.match(text, at):
            if not last and _HALF.match(text, at):
                break
            taken.append(_meant(piece))
            at = piece.end()
        self._unread = text[at:]
        return "".join(taken)

    def _tell(self, text: str) -> str:
        if text:
            self._told.append(text)
        return text


def _meant(piece: re.Match[str]) -> str:
    match piece.lastgroup:
        case "pair":
            return str(jsonio.loads(f'"{piece[0]}"'))
        case "unit":
            unit = chr(int(piece["unit"], 16))
            return "\ufffd" if "\ud800" <= unit <= "\udfff" else unit
        case "short":
            return _SHORT.get(piece["short"], piece[0])
        case _:
            return piece[0]


def _otherwise(arguments: str) -> str:
    """The input of arguments that hold more than it, else all of them."""
    try:
        document: Json = jsonio.loads(arguments)
    except ValueError:
        return arguments
    if isinstance(document, dict) and isinstance(document.get(INPUT), str):
        return str(document[INPUT])
    return arguments
