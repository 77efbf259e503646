"""How a command tells facts: to people in columns, to programs as JSON."""

import argparse
import json
import sys
from collections.abc import Sequence

from gateway.core.jsonio import Json


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="tell it as JSON")


def print_json(document: Json) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, one below the other; the last cell may be of any length."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def note(sentence: str) -> None:
    """What is said beside the answer, which a program may be reading."""
    print(sentence, file=sys.stderr)
