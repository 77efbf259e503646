"""`gateway check`."""

import argparse
from pathlib import Path
from typing import Final

from gateway.cli.command import Command
from gateway.cli.settings import add_config_option, read_settings
from gateway.config.effective import api_keys, bind_address
from gateway.config.mistakes import file_words
from gateway.config.schema import Backend, Config
from gateway.core import exit_codes


def _run(arguments: argparse.Namespace) -> int:
    config, path = read_settings(arguments)
    print(_summary(config, path))
    return exit_codes.OK


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


CHECK: Final = Command(
    "check", "read the configuration, say what is wrong, end", add_config_option, _run
)
