"""Reads a file of environment variables, as service managers and compose files take them.

# a comment
export MODEL_NAME=llama3.2
API_KEY="with \\"quotes\\""    # the rest of the line is a comment
EMPTY=
"""

import re
from typing import Final

from gateway.config.keys import quoted

_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE: Final = re.compile(r"'([^']*)'\s*(?:#.*)?")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")
_ESCAPED: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """The variables in it.

    Nothing is put in for `$NAME`: what another program would make of that is not known here.

    Returns:
        Name → value, the last one where a name stands twice; and for each line that is none
        of them, which and why, with nothing of a value in it.
    """
    variables: dict[str, str] = {}
    mistakes: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith(("#", ";")):
            continue
        found = _ASSIGNMENT.fullmatch(bare)
        if found is None:
            mistakes.append(f"line {number}: must be NAME=value.")
            continue
        name, written = found.groups()
        value = _value(written)
        if value is None:
            mistakes.append(f"line {number}: the quotes of {quoted(name)[1:-1]} do not close.")
        else:
            variables[name] = value
    return variables, mistakes


def _value(written: str) -> str | None:
    """What stands after the `=`; None where a quote is left open."""
    if written.startswith('"'):
        found = _DOUBLE.fullmatch(written)
        return found and _ESCAPED.sub(lambda it: _ESCAPES.get(it[1], it[1]), found[1])
    if written.startswith("'"):
        found = _SINGLE.fullmatch(written)
        return found and found[1]
    return _COMMENT.sub("", written).strip()
