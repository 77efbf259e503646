"""`gateway check`."""

import argparse
from pathlib import Path
from typing import Final

from gateway.cli.command import Command
from gateway.cli.output import add_json_option, print_json
from gateway.cli.settings import add_config_option, read_all
from gateway.config.effective import api_keys, bind_address
from gateway.config.load import Loaded
from gateway.config.mistakes import file_words
from gateway.config.schema import Backend, Config
from gateway.core import exit_codes
from gateway.core.jsonio import Json


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser)
    parser.add_argument(
        "--deep",
        action="store_true",
        help="look at engines, models, memory, port, clock, disk and permissions too",
    )
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    loaded = read_all(arguments)
    if arguments.deep:
        return _look(loaded, as_json=arguments.json)
    config, path = loaded.config, loaded.sources.path
    if arguments.json:
        print_json(_document(config, path))
    else:
        print(_summary(config, path))
    return exit_codes.OK


def _look(loaded: Loaded, *, as_json: bool) -> int:
    # It brings the drivers of all engines with it, which the plain check need not wait for.
    from gateway.cli.deep import finding
    from gateway.cli.deep.run import findings

    found = findings(loaded)
    if as_json:
        print_json(finding.document(found))
    else:
        print(finding.text(found))
    return exit_codes.FAILED if finding.worst(found) == "fail" else exit_codes.OK


def _engines(config: Config) -> dict[str, Backend]:
    return {"default": config.backend, **config.upstreams}


def _aliases(config: Config) -> dict[str, str]:
    return {name: model.target for name, model in config.models.items() if model.target}


def _summary(config: Config, path: Path | None) -> str:
    host, port = bind_address(config)
    shown_host = f"[{host}]" if ":" in host else host
    callers = len(api_keys(config))
    who = f"{callers} API key{'s' if callers > 1 else ''}" if callers else "no API key"
    engines = ", ".join(_engine_words(name, backend) for name, backend in _engines(config).items())
    aliases = ", ".join(f"{name} is {target}" for name, target in _aliases(config).items())
    return (
        f"{file_words(path)}: OK\n"
        f"Would listen on http://{shown_host}:{port} ({who}) and serve from {engines}."
    ) + (f"\nAliases: {aliases}." if aliases else "")


def _document(config: Config, path: Path | None) -> Json:
    host, port = bind_address(config)
    return {
        "file": None if path is None else str(path),
        "host": host,
        "port": port,
        "callers": list(api_keys(config)),
        "engines": [
            {"name": name, "kind": backend.kind, "url": backend.url}
            for name, backend in _engines(config).items()
        ],
        "aliases": _aliases(config),
    }


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


CHECK: Final = Command("check", "read the configuration, say what is wrong, end", _arguments, _run)
