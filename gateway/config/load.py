"""Find the configuration, read it, and refuse it with every mistake at once.

The files' TOML, over it the environment, over that the command line; then one
Config. What is refused names its place, its key and what would be right.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from gateway.config import key_file
from gateway.config.checks import CHECKS
from gateway.config.effective import api_keys
from gateway.config.environment import Override, overrides
from gateway.config.files import TooLargeError, merged, read_bytes, read_layers
from gateway.config.key_file import KeyFile
from gateway.config.mistakes import Document, Mistake, Sources, file_words
from gateway.config.schema import Backend, Config
from gateway.config.structure import structure
from gateway.core.errors import ConfigError

DEFAULT_PATHS: Final = (Path("/etc/gateway/gateway.toml"), Path("conf/gateway.toml"))
PATH_VARIABLE: Final = "GATEWAY_CONFIG"

KEY_FILE_BYTES_MAX: Final = 4096

_KEYS_FILE: Final = ("auth", "keys_file")


@attrs.frozen
class Loaded:
    """A configuration, and where each of its values came from.

    Attributes:
        stored: Where its `stored_keys` came from, and how those callers are treated.
    """

    config: Config
    sources: Sources
    stored: KeyFile | None = None


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
    """As `read`, the configuration alone."""
    return read(path, environ, options).config


def read(
    path: Path | None,
    environ: Mapping[str, str],
    options: Iterable[Override] = (),
    *,
    stored: KeyFile | None = None,
) -> Loaded:
    """Read the configuration.

    Args:
        path: The TOML file, with `conf.d` beside it; None for defaults alone.
        environ: Its settings win over the files'.
        options: From the command line; they win over the environment.
        stored: Instead of what auth.keys_file holds, to see whether that would do.

    Returns:
        A Config that passed every check, with the key of auth.api_key_file in
        auth.api_key, those of auth.keys_file in stored_keys and no `/` at the end of a URL.

    Raises:
        ConfigError: With every mistake there is, a line each.
    """
    sources, unreadable, lines = _given(path, environ, options)
    config, mistakes = structure(sources.document)
    config, unread = _with_key_file(config)
    mistakes += unread
    try:
        stored = stored or key_file.find(config.auth.keys_file, path)
    except ConfigError as error:
        unstored = error.mistakes
    else:
        unstored = []
        config, doubled = _with_stored_keys(config, stored)
        mistakes += doubled
    lines += unstored
    if not unreadable:
        # Judged on what is right so far: a rule is left out where a key that it
        # rests on is already known to be wrong.
        wrong = [mistake.key for mistake in mistakes]
        if unstored:
            wrong.append(_KEYS_FILE)
        mistakes += [
            mistake
            for check in CHECKS
            for mistake in check(config)
            if not any(mistake.rests_on(key) for key in wrong)
        ]
    if told := [*unreadable, *lines, *map(sources.tell, mistakes)]:
        raise ConfigError(told)
    config = attrs.evolve(
        config,
        backend=_with_plain_url(config.backend),
        upstreams={name: _with_plain_url(backend) for name, backend in config.upstreams.items()},
    )
    return Loaded(config, sources, stored)


def keys_path(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Where stored keys are or would be, even if the configuration is wrong without them.

    Returns:
        None where no file is named, and there is none in use that it could stand beside.
    """
    sources, _, _ = _given(path, environ, ())
    return key_file.place(structure(sources.document)[0].auth.keys_file, path)


def _given(
    path: Path | None, environ: Mapping[str, str], options: Iterable[Override]
) -> tuple[Sources, list[str], list[str]]:
    """All that was given; then a line for each file, and for each variable, that is no good."""
    layers, unreadable = read_layers(path)
    document = merged(layer.document for layer in layers)
    strong, lines = overrides(environ, document)
    strong += options
    for override in strong:
        _put(document, override)
    sources = Sources(
        path=path,
        document=document,
        overrides={override.key: override.source for override in strong},
        layers=layers,
    )
    return sources, unreadable, lines


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
        secret = read_bytes(Path(auth.api_key_file), KEY_FILE_BYTES_MAX).decode().strip()
    except OSError as error:
        return config, [Mistake(key, f"this file can't be read: {error.strerror}.")]
    except (TooLargeError, ValueError):
        return config, [Mistake(key, "this file must hold one line, the key.")]
    if not secret:
        return config, [Mistake(key, "this file is empty; it must hold one line, the key.")]
    return attrs.evolve(config, auth=attrs.evolve(auth, api_key=secret)), []


def _with_stored_keys(config: Config, stored: KeyFile | None) -> tuple[Config, list[Mistake]]:
    if stored is None:
        return config, []
    mistakes = [
        Mistake(
            ("callers", name),
            f"{file_words(stored.path)} says how this caller is treated too; keep one of the two.",
            value_shown=False,
        )
        for name in config.callers
        if name in stored.callers
    ]
    config = attrs.evolve(
        config,
        callers={**config.callers, **stored.callers},
        stored_keys=dict(stored.keys),
    )
    if not api_keys(config):
        # A file that was cut short must not open the door to everybody.
        text = (
            f"{file_words(stored.path)} holds no key, and there is no other: make one (`gateway"
            " keys new NAME`), or remove the file and let everybody in."
        )
        mistakes.append(Mistake(_KEYS_FILE, text, value_shown=False))
    return config, mistakes


def _with_plain_url(backend: Backend) -> Backend:
    return attrs.evolve(backend, url=backend.url.removesuffix("/"))
