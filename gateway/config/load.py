"""Find the configuration, read it, and refuse it with every mistake at once.

The file's TOML, over it the environment, over that the command line; then one
Config. What is refused names its place, its key and what would be right.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from gateway.config.checks import CHECKS
from gateway.config.environment import Override, overrides
from gateway.config.mistakes import Document, Mistake, Sources, file_words
from gateway.config.schema import Backend, Config
from gateway.config.structure import structure
from gateway.core.errors import ConfigError

DEFAULT_PATHS: Final = (Path("/etc/gateway/gateway.toml"), Path("conf/gateway.toml"))
PATH_VARIABLE: Final = "GATEWAY_CONFIG"

FILE_BYTES_MAX: Final = 1024 * 1024
KEY_FILE_BYTES_MAX: Final = 4096

_PLACE: Final = re.compile(r"(?P<what>.*) \(at (?P<place>.*)\)", re.DOTALL)


def find(explicit: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one asked for, else the first default that exists.

    Returns:
        None when nobody asked for a file and there is none.

    Raises:
        ConfigError: A file was asked for, by option or variable, and is missing.
    """
    for source, text in (
        ("--config", explicit),
        (f"environment variable {PATH_VARIABLE}", environ.get(PATH_VARIABLE)),
    ):
        if text:
            path = Path(text)
            if not _exists(path):
                raise ConfigError([f"{source}: {file_words(path)}: there is no such file."])
            return path
    return next((path for path in DEFAULT_PATHS if _exists(path)), None)


def load(path: Path | None, environ: Mapping[str, str], options: Iterable[Override] = ()) -> Config:
    """Read the configuration.

    Args:
        path: The TOML file; None for defaults alone.
        environ: Its settings win over the file's.
        options: From the command line; they win over the environment.

    Returns:
        A Config that passed every check, with the key of auth.api_key_file in
        auth.api_key and no `/` at the end of a URL.

    Raises:
        ConfigError: With every mistake there is, a line each.
    """
    document, unreadable = _read(path)
    strong, lines = overrides(environ, document)
    strong += options
    for override in strong:
        _put(document, override)
    sources = Sources(
        path=path,
        document=document,
        overrides={override.key: override.source for override in strong},
    )

    config, mistakes = structure(document)
    config, unread = _with_key_file(config)
    mistakes += unread
    if not unreadable:
        # Judged on what is right so far: a rule is left out where a key that it
        # rests on is already known to be wrong.
        wrong = [mistake.key for mistake in mistakes]
        mistakes += [
            mistake
            for check in CHECKS
            for mistake in check(config)
            if not any(mistake.rests_on(key) for key in wrong)
        ]
    if told := [*unreadable, *lines, *map(sources.tell, mistakes)]:
        raise ConfigError(told)
    return attrs.evolve(
        config,
        backend=_with_plain_url(config.backend),
        upstreams={name: _with_plain_url(backend) for name, backend in config.upstreams.items()},
    )


def _read(path: Path | None) -> tuple[Document, list[str]]:
    """The file's document, or an empty one and the reason."""
    if path is None:
        return {}, []
    text = ""
    try:
        # Editors on Windows put a byte order mark first.
        text = _content(path, FILE_BYTES_MAX).decode("utf-8-sig")
        return tomllib.loads(text), []
    except OSError as error:
        problem = f"can't be read: {error.strerror}."
    except _TooLargeError:
        problem = f"is larger than {FILE_BYTES_MAX} bytes."
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: this is not UTF-8 text."
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_words(str(error), text)
    except ValueError:
        problem = "a number in it has too many digits."
    except RecursionError:
        problem = "is nested too deeply."
    return {}, [f"{file_words(path)}: {problem}"]


class _TooLargeError(Exception):
    """The file holds more than any of its sort needs."""


def _content(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise _TooLargeError
    return content


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


def _exists(path: Path) -> bool:
    """Whether there is a file, even one that may not be read.

    A file that is ours and out of reach must not be passed over in silence: it
    may be the one with the keys.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _put(document: Document, override: Override) -> None:
    *tables, name = override.key
    node: Any = document
    for table in tables:
        node = node.setdefault(table, {})
        if not isinstance(node, dict):
            return  # That it is no table will be told.
    node[name] = override.value


def _with_key_file(config: Config) -> tuple[Config, list[Mistake]]:
    auth = config.auth
    key = ("auth", "api_key_file")
    if not auth.api_key_file:
        return config, []
    if auth.api_key:
        text = "is given together with auth.api_key; keep one of the two."
        return config, [Mistake(key, text, concerns=(("auth", "api_key"),))]
    try:
        secret = _content(Path(auth.api_key_file), KEY_FILE_BYTES_MAX).decode().strip()
    except OSError as error:
        return config, [Mistake(key, f"this file can't be read: {error.strerror}.")]
    except (_TooLargeError, ValueError):
        return config, [Mistake(key, "this file must hold one line, the key.")]
    if not secret:
        return config, [Mistake(key, "this file is empty; it must hold one line, the key.")]
    return attrs.evolve(config, auth=attrs.evolve(auth, api_key=secret)), []


def _with_plain_url(backend: Backend) -> Backend:
    return attrs.evolve(backend, url=backend.url.removesuffix("/"))
