"""`gateway models`: which there are, what is in memory, and how long their contexts are."""

import argparse
from typing import Any, Final
from urllib.parse import quote

from gateway.cli import status_words
from gateway.cli.client import add_client_options, connect
from gateway.cli.command import Command, add_command
from gateway.cli.output import add_json_option, columns, note, print_json
from gateway.core import exit_codes

LOAD_TIMEOUT_S: Final = 660.0
"""Reading a model from a slow disk takes minutes, and others may be served before it."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = add_command(actions, "list", "show all models, and which of them are in memory")
    listing.set_defaults(action=_list)
    load = add_command(actions, "load", "bring a model to memory, in its turn")
    load.set_defaults(action=_load)
    unload = add_command(actions, "unload", "put a model out of memory")
    unload.set_defaults(action=_unload)
    context = add_command(actions, "ctx", "show the context of a model, in tokens")
    context.set_defaults(action=_context)
    for one in (load, unload, context):
        one.add_argument("model", metavar="MODEL", help="its name, as callers use it")
    for one in (listing, load, unload, context):
        add_client_options(one)
        add_json_option(one)


def _run(arguments: argparse.Namespace) -> int:
    code: int = arguments.action(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    document = connect(arguments).get("/v1/models")
    if arguments.json:
        print_json(document)
        return exit_codes.OK
    models = document["data"]
    if not models:
        note("No engine has a model. For Ollama: ollama pull llama3.2")
        return exit_codes.OK
    rows = [("model", "of", "in memory", "context", "file", "can")]
    rows += [
        (
            model["id"],
            model.get("alias_of") or model["owned_by"],
            {True: "yes", False: "no"}.get(model.get("loaded"), "-"),
            _tokens(model.get("context_length") or model.get("context_length_max")),
            status_words.size(model.get("size_bytes")),
            ", ".join(model.get("capabilities", ())) or "-",
        )
        for model in models
    ]
    print(columns(rows))
    return exit_codes.OK


def _load(arguments: argparse.Namespace) -> int:
    return _move(arguments, "load", "is in memory")


def _unload(arguments: argparse.Namespace) -> int:
    return _move(arguments, "unload", "is out of memory")


def _move(arguments: argparse.Namespace, word: str, done: str) -> int:
    moved = connect(arguments).post(
        f"/gateway/models/{word}", {"model": arguments.model}, timeout_s=LOAD_TIMEOUT_S
    )
    if arguments.json:
        print_json(moved)
    else:
        print(f"{moved['model']} {done}, after {status_words.seconds(moved['seconds'])}.")
    return exit_codes.OK


def _context(arguments: argparse.Namespace) -> int:
    model = connect(arguments).get(f"/v1/models/{quote(arguments.model, safe='/:@')}")
    if arguments.json:
        keys = ("id", "context_length", "context_length_max")
        print_json({key: model.get(key) for key in keys})
        return exit_codes.OK
    print(
        columns(
            [
                ("allocated", _tokens(model.get("context_length"))),
                ("trained for", _tokens(model.get("context_length_max"))),
            ]
        )
    )
    note(f'What Ollama allocates is set by `num_ctx` of [models."{model["id"]}"].')
    return exit_codes.OK


def _tokens(count: Any) -> str:
    return f"{count:,} tokens" if isinstance(count, int) else "-"


MODELS: Final = Command("models", "list, load and unload models", _arguments, _run)
