"""The configuration's files: the one in use, and over it those in `conf.d` beside it.

`conf.d/*.toml` are read in the order of their names, as a shell lists them: hidden files are
passed over. Tables are merged key by key; a value or a list replaces what stood below.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.config.mistakes import Document, Layer, file_words

FOLDER: Final = "conf.d"

FILE_BYTES_MAX: Final = 1024 * 1024
FILES_MAX: Final = 256

_PLACE: Final = re.compile(r"(?P<what>.*) \(at (?P<place>.*)\)", re.DOTALL)


class TooLargeError(Exception):
    """The file holds more than any of its sort needs."""


class UnreadableError(Exception):
    """Why a file is none of ours, as the end of a sentence."""


def read_layers(path: Path | None) -> tuple[list[Layer], list[str]]:
    """The file and those over it, the strongest last.

    Args:
        path: The file in use; None for none, and then there is no `conf.d` either.

    Returns:
        Those that could be read, and a line for each that could not.
    """
    if path is None:
        return [], []
    others, lines = _over(path)
    layers = []
    for each in (path, *others):
        try:
            layers.append(read_layer(each))
        except UnreadableError as error:
            lines.append(f"{file_words(each)}: {error}")
    return layers, lines


def read_layer(path: Path) -> Layer:
    """One TOML file. Raises UnreadableError."""
    try:
        return parse_layer(path, read_bytes(path, FILE_BYTES_MAX))
    except OSError as error:
        problem = f"can't be read: {error.strerror}."
    except TooLargeError:
        problem = f"is larger than {FILE_BYTES_MAX} bytes."
    raise UnreadableError(problem)


def parse_layer(path: Path, content: bytes) -> Layer:
    """What was read from this file, or is to be written to it. Raises UnreadableError."""
    text = ""
    try:
        # Editors on Windows put a byte order mark first.
        text = content.decode("utf-8-sig")
        return Layer(path=path, text=text, document=tomllib.loads(text))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: this is not UTF-8 text."
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_words(str(error), text)
    except ValueError:
        problem = "a number in it has too many digits."
    except RecursionError:
        problem = "is nested too deeply."
    raise UnreadableError(problem)


def merged(documents: Iterable[Document]) -> Document:
    """All of them in one, the strongest last; none of them is changed."""
    whole: Document = {}
    for document in documents:
        whole = _over_it(whole, document)
    return whole


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """A small file. Raises OSError, TooLargeError."""
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise TooLargeError
    return content


def _over(path: Path) -> tuple[list[Path], list[str]]:
    folder = path.parent / FOLDER
    try:
        names = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.name.endswith(".toml") and not entry.name.startswith(".")
        )
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{file_words(folder)}: can't be read: {error.strerror}."]
    if len(names) > FILES_MAX:
        return [], [f"{file_words(folder)}: holds more than {FILES_MAX} files."]
    return [folder / name for name in names], []


def _syntax_words(message: str, text: str) -> str:
    """`Invalid value (at line 3, column 5)` → `line 3, column 5: not valid TOML: invalid value.`"""
    found = _PLACE.fullmatch(message)
    assert found is not None, message
    what, place = found["what"], found["place"]
    if place == "end of document":
        lines = text.split("\n")
        place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    if what == "Cannot overwrite a value":
        what = "the key stands here a second time"
    return f"{place}: not valid TOML: {what[0].lower()}{what[1:]}."


def _over_it(below: Mapping[str, Any], over: Mapping[str, Any]) -> Document:
    whole = dict(below)
    for name, value in over.items():
        if isinstance(value, dict):
            under = whole.get(name)
            whole[name] = _over_it(under if isinstance(under, dict) else {}, value)
        else:
            whole[name] = value
    return whole
