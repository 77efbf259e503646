"""What a .gguf file tells of its model before the weights begin.

Source: ggml, docs/gguf.md, versions 2 and 3.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)

_STRING: Final = 8
_ARRAY: Final = 9
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type; strings and arrays tell their own."""

_KEY_BYTES_MAX: Final = 65_535

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def is_for_embeddings(path: Path) -> bool:
    """Whether the file names a way to make one vector of many: the model was trained for that.

    False for what is no such file: who loads it will say so.
    """
    try:
        with path.open("rb") as file:
            return any(key.endswith(b".pooling_type") for key in _keys(file))
    except (OSError, ValueError, LookupError, OverflowError, struct.error):
        return False


def _keys(file: BinaryIO) -> Iterator[bytes]:
    """The names of all that the file tells. Raises as a file that is not one."""
    if file.read(len(_MAGIC)) != _MAGIC or _number(file, _U32) not in _VERSIONS:
        raise ValueError("no such file")
    _number(file, _U64)  # How many tensors.
    for _ in range(_number(file, _U64)):
        length = _number(file, _U64)
        if length > _KEY_BYTES_MAX:
            raise ValueError("a key that is too long")
        yield file.read(length)
        _skip(file, _number(file, _U32))


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        file.seek(_number(file, _U64), 1)
    elif kind == _ARRAY:
        kind, count = _number(file, _U32), _number(file, _U64)
        if kind == _STRING:
            for _ in range(count):
                file.seek(_number(file, _U64), 1)
        else:
            file.seek(_SIZES[kind] * count, 1)
    else:
        file.seek(_SIZES[kind], 1)


def _number(file: BinaryIO, form: struct.Struct) -> int:
    number: int = form.unpack(file.read(form.size))[0]
    return number
