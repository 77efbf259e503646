"""`gateway serve`."""

import argparse
from typing import Final

from gateway.cli.command import Command
from gateway.cli.settings import add_config_option, environment, read_settings
from gateway.config.environment import Override, override
from gateway.config.keys import Key
from gateway.config.load import load

_OPTIONS: Final[tuple[tuple[str, Key], ...]] = (
    ("host", ("server", "host")),
    ("port", ("server", "port")),
)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser)
    parser.add_argument("--host", help="address to bind, instead of server.host")
    parser.add_argument("--port", help="port to bind, instead of server.port")


def _run(arguments: argparse.Namespace) -> int:
    options = _overrides(arguments)
    config, path = read_settings(arguments, options)
    environ = environment(arguments)
    # The daemon brings the event loop and every engine with it, which the
    # other commands need not wait for.
    from gateway.daemon.run import serve

    return serve(config, path, lambda: load(path, environ, options))


def _overrides(arguments: argparse.Namespace) -> list[Override]:
    given = ((option, key, getattr(arguments, option)) for option, key in _OPTIONS)
    return [override(f"--{option}", key, text) for option, key, text in given if text is not None]


SERVE: Final = Command("serve", "run the gateway", _arguments, _run)
