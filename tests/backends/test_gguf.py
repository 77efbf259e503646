import struct
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.gguf import is_for_embeddings


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


U32 = 4
STRING = 8
ARRAY = 9

# One of each kind before what is looked for.
BEFORE = [
    entry("general.architecture", STRING, text("bert")),
    entry("tokens", ARRAY, struct.pack("<IQ", STRING, 3) + text("a") + text("") + text("ccc")),
    entry("scores", ARRAY, struct.pack("<IQ", 6, 2) + bytes(8)),
    *(
        entry(f"number.{kind}", kind, bytes(size))
        for kind, size in {0: 1, 1: 1, 2: 2, 3: 2, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}.items()
    ),
]
POOLING = entry("bert.pooling_type", U32, struct.pack("<I", 1))


def gguf(*entries: bytes, version: int = 3, count: int | None = None) -> bytes:
    count = len(entries) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", version, 0, count) + b"".join(entries)


@pytest.mark.parametrize("version", [2, 3])
def test_a_model_that_names_its_pooling_is_for_embeddings(tmp_path: Path, version: int) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(*BEFORE, POOLING, version=version) + b"weights")
    assert is_for_embeddings(path)
    path.write_bytes(gguf(*BEFORE, version=version) + POOLING)
    assert not is_for_embeddings(path)


def test_what_a_value_says_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(entry("general.name", STRING, text("bert.pooling_type"))))
    assert not is_for_embeddings(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + gguf(POOLING)[4:],
        gguf(POOLING, version=1),
        gguf(*BEFORE, count=2**63),
        gguf(entry("x", 99, b""), POOLING),
        gguf(entry("x", STRING, struct.pack("<Q", 2**64 - 1)), POOLING),
        gguf(entry("x", ARRAY, struct.pack("<IQ", STRING, 2**63)), POOLING),
        gguf(entry("x", ARRAY, struct.pack("<IQ", ARRAY, 1)), POOLING),
        gguf(struct.pack("<Q", 2**60), POOLING),
        *(gguf(*BEFORE, POOLING)[:end] for end in range(5, 60, 7)),
    ],
)
def test_what_is_no_such_file_is_no_such_model(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert not is_for_embeddings(path)


def test_a_file_that_is_not_there_is_no_such_model(tmp_path: Path) -> None:
    assert not is_for_embeddings(tmp_path / "none.gguf")
    assert not is_for_embeddings(tmp_path)
