"""The command line: `gateway serve`, `gateway check`, `gateway --version`.

Exit codes are those of sysexits.h: a service manager that sees 78 knows that
starting again won't help.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from gateway import __version__
from gateway.config.effective import api_keys, bind_address
from gateway.config.environment import Override, override
from gateway.config.keys import Key
from gateway.config.load import find, load
from gateway.config.mistakes import file_words
from gateway.config.schema import Backend, Config
from gateway.core.errors import ConfigError

EX_OK: Final = 0
EX_USAGE: Final = 64
EX_CONFIG: Final = 78
EX_INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell reports it."""

_OPTIONS: Final[tuple[tuple[str, Key], ...]] = (
    ("host", ("server", "host")),
    ("port", ("server", "port")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Raises:
        SystemExit: By argparse, for --help, --version and a wrong usage (64).
    """
    arguments = _parser().parse_args(argv)
    try:
        path = find(arguments.config, os.environ)
        config = load(path, os.environ, _overrides(arguments))
        if arguments.command == "check":
            print(_summary(config, path))
            return EX_OK
        # The daemon brings the event loop and every engine with it, which the
        # other commands need not wait for.
        from gateway.daemon.run import serve

        return serve(config, path)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"gateway: {mistake}", file=sys.stderr)
        return EX_CONFIG
    except KeyboardInterrupt:
        return EX_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gateway",
        description="Serve Ollama as a dependable OpenAI-compatible service.",
        epilog="Settings: --config, $GATEWAY_CONFIG, /etc/gateway/gateway.toml or"
        " ./conf/gateway.toml, the first that is there; environment variables win over the file.",
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway")
    check = commands.add_parser("check", help="read the configuration, say what is wrong, end")
    for command in (serve, check):
        command.add_argument("--config", metavar="FILE", help="the TOML file to read")
    serve.add_argument("--host", help="address to bind, instead of server.host")
    serve.add_argument("--port", help="port to bind, instead of server.port")
    return parser


def _overrides(arguments: argparse.Namespace) -> list[Override]:
    given = ((option, key, getattr(arguments, option, None)) for option, key in _OPTIONS)
    return [override(f"--{option}", key, text) for option, key, text in given if text is not None]


def _summary(config: Config, path: Path | None) -> str:
    host, port = bind_address(config)
    shown_host = f"[{host}]" if ":" in host else host
    callers = len(api_keys(config))
    who = f"{callers} API key{'s' if callers > 1 else ''}" if callers else "no API key"
    engines = ", ".join(
        _engine_words(name, backend)
        for name, backend in {"default": config.backend, **config.upstreams}.items()
    )
    aliases = ", ".join(
        f"{name} is {model.target}" for name, model in config.models.items() if model.target
    )
    return (
        f"{file_words(path)}: OK\n"
        f"Would listen on http://{shown_host}:{port} ({who}) and serve from {engines}."
    ) + (f"\nAliases: {aliases}." if aliases else "")


def _engine_words(name: str, backend: Backend) -> str:
    match backend.kind:
        case "auto":
            return f"{name}: Ollama at {backend.url} if it answers, else the embedded model"
        case "llamacpp":
            return f"{name}: the embedded model"
        case "echo":
            return f"{name}: echo"
        case kind:
            return f"{name}: {kind} at {backend.url}"
