"""The configuration that a command works with."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from gateway.config.environment import Override
from gateway.config.load import find, load
from gateway.config.schema import Config


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the TOML file to read")


def read_settings(
    arguments: argparse.Namespace, options: Iterable[Override] = ()
) -> tuple[Config, Path | None]:
    """The configuration, and the file that it came from.

    Args:
        options: From the command line; they win over all else.

    Raises:
        ConfigError: With every mistake there is.
    """
    path = find(arguments.config, os.environ)
    return load(path, os.environ, options), path
