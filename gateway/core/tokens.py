"""Texts in a model's own vocabulary: what is asked of it, and what it answers."""

from collections.abc import Sequence

import attrs

Piece = str | bytes
"""The text of one token; bytes where it is only a part of a character."""


@attrs.frozen(kw_only=True)
class Spelling:
    """How a text is to be taken apart.

    Attributes:
        add_special: Begin as a prompt begins, where the model has a token for that. A
            conversation begins as its template has it, whatever this says.
        parse_special: Take the marks of a template in the text for what they are in
            one, not for the characters that they are written with.
        pieces: Tell the text of each token, too.
    """

    add_special: bool = False
    parse_special: bool = True
    pieces: bool = False


@attrs.frozen
class Tokens:
    """A text in the model's own vocabulary.

    Attributes:
        pieces: One for each id, where they were wanted.
    """

    ids: Sequence[int]
    pieces: Sequence[Piece] | None = None
