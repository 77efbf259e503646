"""What all dialects for embeddings share: parameters, and how a vector is written."""

import binascii
import sys
from array import array
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.messages import Vector
from gateway.dialects import fields
from gateway.dialects.draft import Draft, Fate, Parameter, Table, schema_of, walk

DIMENSIONS_MAX: Final = 16_384
"""Beyond every model's, and little enough to be computed."""


def _meaningless(draft: Draft, value: Json, path: str) -> Fate:
    return "ignored"


def options(table: Table) -> Parameter:
    """Ollama's object of options. The context alone means something to a vector.

    Args:
        table: All that a model knows which generates text.
    """
    heeded: Table = {
        name: parameter
        if name == "num_ctx"
        else Parameter(_meaningless, how="ignored", note="nothing is generated")
        for name, parameter in table.items()
    }

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        walk(draft, heeded, fields.obj(value, path), under=f"{path}.")
        return "no-op"

    return Parameter(reader, schema_of(heeded))


def numbers(vector: Vector) -> bytes:
    """As a JSON array."""
    return jsonio.dumps(vector if isinstance(vector, list) else list(vector))


def base64(vector: Vector) -> bytes:
    """As a JSON string: base64 of float32, little endian."""
    floats = vector if isinstance(vector, array) and vector.typecode == "f" else array("f", vector)
    if sys.byteorder == "big":
        floats = array("f", floats)
        floats.byteswap()
    return b'"%b"' % binascii.b2a_base64(floats, newline=False)
