"""`gateway config migrate`: the .env of the gateway that came before this one, as a TOML file.

Its variables keep their names here, and so could stay in the environment. A file says more:
each value with what is different about it now, and what has no place here at all.
"""

import argparse
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from gateway.cli.command import CommandError
from gateway.cli.output import note
from gateway.cli.settings import read_text
from gateway.cli.toml_words import toml_key, toml_value
from gateway.config import env_file, private_file
from gateway.config.addresses import is_loopback
from gateway.config.environment import SHORT_NAMES, Override, overrides
from gateway.config.keys import SETTINGS, quoted
from gateway.config.load import read
from gateway.config.mistakes import file_words
from gateway.core import exit_codes
from gateway.core.errors import ConfigError

NOTES: Final[Mapping[str, str]] = {
    "MAX_QUEUE_SIZE": (
        "Requests that wait. One that would not be answered in time is refused although there is"
        " room, and told when to come back."
    ),
    "BATCH_MAX_SIZE": (
        "Requests that get a slot in one turn; streams are among them now. How many run at once"
        " is backend.slots."
    ),
    "BATCH_WAIT_MS": "Only while every slot is busy: while one is free, nobody is waited for.",
    "REQUEST_TIMEOUT_SECONDS": (
        "From arrival, waiting included. A stream must begin in it, and end within"
        " timeouts.stream_timeout_seconds (600)."
    ),
    "API_KEY": (
        "One key for everybody. `gateway keys new NAME` gives each caller one of its own, of"
        " which no more than a digest is kept."
    ),
}
"""What is different about a variable that there was before."""

HOST_BEFORE: Final = "0.0.0.0"
OLLAMA_URL_BEFORE: Final = "http://ollama:11434"
"""What held there where the variable was not set; the latter in its compose file."""

_LEVELS: Final = {"warn": "warning", "critical": "error", "fatal": "error", "trace": "debug"}
_WIDTH: Final = 98
_NAMES: Final = {key: name for name, key in SHORT_NAMES.items()}
_ORDER: Final = [setting.key for setting in SETTINGS]


@attrs.frozen
class Migration:
    """What became of the variables.

    Attributes:
        text: The TOML file.
        notes: What must be known about it at once, a sentence each.
    """

    text: str
    notes: Sequence[str]


def migrate(variables: Mapping[str, str], source: str) -> Migration:
    """Make a configuration of them.

    Args:
        source: Where they stood, in words.

    Raises:
        ConfigError: With each that would be refused here.
    """
    given = {name: value for name, value in variables.items() if value}
    host = given.get("HOST", HOST_BEFORE)
    opened = not given.get("API_KEY") and not is_loopback(host)
    if opened:
        given.pop("HOST", None)
    level = given.get("LOG_LEVEL", "").lower()
    if level in _LEVELS:
        given["LOG_LEVEL"] = _LEVELS[level]
    others = [
        name for name in given if name not in SHORT_NAMES and not name.startswith("GATEWAY__")
    ]
    read(None, given)  # As the daemon would: it knows every rule.

    notes = []
    comments = [f"From {source}, by `gateway config migrate`. What is not here has its default."]
    if opened:
        was = f"It was open to everybody who reached {host}, without a key, and is not any more"
        comments.append(
            f"{was}: it listens on 127.0.0.1. With a key (`gateway keys new NAME`) it listens on"
            " every address again."
        )
        notes.append(f"{was}: make a key with `gateway keys new NAME`.")
    if "OLLAMA_URL" not in given:
        comments.append(
            f"OLLAMA_URL was not set. That meant {OLLAMA_URL_BEFORE} in its containers, and means"
            " http://localhost:11434 here."
        )
    if others:
        left_out = ", ".join(quoted(name)[1:-1] for name in others)
        comments.append(f"Nothing here has a use for {left_out}.")
        notes.append(f"Left out, since nothing here has a use for it: {left_out}.")
    if given.get("API_KEY"):
        notes.append("It holds the API key, so nobody but the daemon should be able to read it.")
    tables = _tables(overrides(given, {})[0])
    return Migration("\n\n".join([_comment(*comments), *tables]) + "\n", notes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the .env")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write the configuration, such as /etc/gateway/conf.d/migrated.toml;"
        " else it is printed",
    )


def run(arguments: argparse.Namespace) -> int:
    source = Path(arguments.file)
    variables, mistakes = env_file.parse(read_text(source))
    if mistakes:
        raise ConfigError([f"{file_words(source)}: {mistake}" for mistake in mistakes])
    migration = migrate(variables, file_words(source))
    if arguments.output is None:
        print(migration.text, end="")
    else:
        _write(Path(arguments.output), migration.text)
    for sentence in migration.notes:
        note(sentence)
    return exit_codes.OK


def _write(path: Path, text: str) -> None:
    problem = "is there already; name another file, or move it away."
    if not path.exists():
        try:
            private_file.write(path, text)
        except OSError as error:
            problem = f"can't be written: {error.strerror}."
        else:
            note(f"Written: {file_words(path)}. `gateway check` says what it means.")
            return
    raise CommandError(f"{file_words(path)}: {problem}", exit_code=exit_codes.CANT_CREATE)


def _tables(found: Sequence[Override]) -> Iterator[str]:
    # A later one of the same key is the stronger one.
    settings = {one.key: one.value for one in found}
    ordered = sorted(settings, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    for table, keys in itertools.groupby(ordered, key=lambda key: key[:-1]):
        lines = [f"[{toml_key(table)}]"]
        for key in keys:
            if text := NOTES.get(_NAMES.get(key, "")):
                lines.append(_comment(text))
            lines.append(f"{toml_key(key[-1:])} = {toml_value(settings[key])}")
        yield "\n".join(lines)


def _comment(*sentences: str) -> str:
    return "\n".join(
        textwrap.fill(sentence, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        for sentence in sentences
    )
