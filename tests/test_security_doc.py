"""SECURITY.md names tests; each is there, and each row has one."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED: Final = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def rows() -> Iterator[str]:
    """Those of the tables that have a column for the proof."""
    proven = False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            proven = False
        elif line.endswith("| proof |"):
            proven = True
        elif proven and not line.startswith("| ---"):
            yield line


@pytest.mark.parametrize(("path", "name"), NAMED, ids="::".join)
def test_a_proof_is_a_test_that_is_there(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), path
    assert name in names_in(path)


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row[2:40])
def test_each_row_says_what_is_done_and_has_a_proof(row: str) -> None:
    _, risk, done, proof, _ = (cell.strip() for cell in row.split("|"))
    assert risk
    assert done
    assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`(, `tests/[\w/]+\.py::test_\w+`)*", proof)


def test_both_lists_of_owasp_are_whole() -> None:
    for name, items in (("API", 10), ("LLM", 10)):
        told = re.findall(rf"^\| {name}(\d+) ", PAGE, re.MULTILINE)
        assert [int(number) for number in told] == list(range(1, items + 1))
