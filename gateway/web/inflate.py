"""Undoes the compression of a body, step by step, so that no bomb gets beyond its bound. Pure.

`Content-Encoding: gzip` is RFC 1952, `deflate` the zlib format of RFC 1950; as RFC 9110
section 8.4.1.2 notes, some send it without its wrapper, and every server takes that too.

Inflating takes time by the bytes that come out, so the bound on these bounds both; the ratio
needs none of its own.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.core.errors import BadContentEncoding

STEP_BYTES: Final = 256 * 1024
"""What comes out at once: less than a millisecond of work."""

MEMBERS_MAX: Final = 64
"""A gzip file may be several, one after the other; no encoder of bodies makes many, and each
costs time although nothing may come of it."""

ACCEPTED: Final = "gzip, deflate"
"""For an Accept-Encoding header that tells a client what it might have sent."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_DEFLATED: Final = 8
"""The compression method in the low half of a zlib header's first byte. In raw deflate it would
be a stored block with padding that no encoder writes."""

CODINGS: Final[Mapping[str, int]] = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
"""Content codings that are undone, in lower case (RFC 9110 section 8.4.1)."""


class Inflater:
    """One compressed body.

    Args:
        coding: One of CODINGS.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._window = CODINGS[coding]
        self._member = zlib.decompressobj(self._window)
        self._members_left = MEMBERS_MAX if self._window == _GZIP else 1
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes of the next bytes of the body, in pieces of 1 to STEP_BYTES.

        Raises:
            BadContentEncoding: They are not what they should be.
        """
        if not self._begun and data:
            self._begun = True
            if self._window == _ZLIB and data[0] & 0x0F != _DEFLATED:
                self._member = zlib.decompressobj(_RAW)
        more = bool(data)
        while more:
            if self._member.eof:
                self._next_member()
            try:
                piece = self._member.decompress(data, STEP_BYTES)
            except zlib.error:
                raise self._broken() from None
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            # A full step may have left something inside although all bytes were taken.
            more = bool(data) or (len(piece) == STEP_BYTES and not self._member.eof)
            if piece:
                yield piece

    def end(self) -> None:
        """Raises BadContentEncoding if there should have been more."""
        if not self._member.eof:
            raise BadContentEncoding(f"The body is {self._coding} that is cut short.")

    def _next_member(self) -> None:
        self._members_left -= 1
        if not self._members_left:
            raise self._broken()
        self._member = zlib.decompressobj(self._window)

    def _broken(self) -> BadContentEncoding:
        return BadContentEncoding(f"The body is not valid {self._coding}.")
