"""The configuration that a command works with."""

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.cli.command import CommandError
from gateway.config import env_file
from gateway.config.environment import Override
from gateway.config.key_file import KeyFile
from gateway.config.load import Loaded, find, read
from gateway.config.mistakes import file_words
from gateway.config.schema import Config
from gateway.core import exit_codes
from gateway.core.errors import ConfigError


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """`--config` and `--env-file`."""
    parser.add_argument("--config", metavar="FILE", help="the TOML file to read")
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="variables that are not in this environment, such as /etc/gateway/environment",
    )


def environment(arguments: argparse.Namespace) -> Mapping[str, str]:
    """The process's variables, and under them those of `--env-file`.

    Raises:
        ConfigError: The file can't be read.
    """
    if not getattr(arguments, "env_file", None):
        return os.environ
    path = Path(arguments.env_file)
    variables, mistakes = env_file.parse(read_text(path))
    if mistakes:
        raise ConfigError([f"{file_words(path)}: {mistake}" for mistake in mistakes])
    return {**variables, **os.environ}


def read_settings(
    arguments: argparse.Namespace, options: Iterable[Override] = ()
) -> tuple[Config, Path | None]:
    """The configuration, and the file that it came from.

    Args:
        options: From the command line; they win over all else.

    Raises:
        ConfigError: With every mistake there is.
    """
    loaded = read_all(arguments, options)
    return loaded.config, loaded.sources.path


def read_all(
    arguments: argparse.Namespace,
    options: Iterable[Override] = (),
    *,
    stored: KeyFile | None = None,
) -> Loaded:
    """As `read_settings`, and where everything came from.

    Args:
        stored: Instead of the keys that are stored now.
    """
    environ = environment(arguments)
    return read(find(arguments.config, environ), environ, options, stored=stored)


def read_text(path: Path) -> str:
    """A file that the user has named.

    Raises:
        CommandError: It can't be read, or is no text.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        problem = f"can't be read: {error.strerror}."
    except UnicodeDecodeError:
        problem = "is not UTF-8 text."
    raise CommandError(f"{file_words(path)}: {problem}", exit_code=exit_codes.NO_INPUT)
