"""`gateway manual`: the manual page, made of the parser, so that it tells no other options.

    gateway manual | man -l -

roff as man(7) describes it; `make install` puts it where `man gateway` finds it.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from typing import Final

from gateway import __version__
from gateway.cli.client import KEY_VARIABLE
from gateway.cli.command import Command
from gateway.config.environment import SHORT_NAMES
from gateway.config.keys import dotted
from gateway.config.load import DEFAULT_PATHS, PATH_VARIABLE
from gateway.core import exit_codes

DESCRIPTION: Final = (
    "stands in front of Ollama and makes it behave like a dependable OpenAI-compatible service:"
    " the queue is bounded, and a request is either refused at once, with the true time to come"
    " back, or taken and answered in time."
)

FILES: Final[Mapping[str, str]] = {
    str(DEFAULT_PATHS[0]): "The configuration. Every key with its default is in the one that"
    " comes with the program.",
    "/etc/gateway/conf.d/*.toml": "Read after it, in the order of their names.",
    "/etc/gateway/keys.toml": "The digests of the keys that `gateway keys` has made.",
    "/etc/gateway/environment": "Variables that the service is started with.",
    "/var/lib/gateway": "Usage, and what was learned of the engines.",
}

EXAMPLES: Final[Mapping[str, str]] = {
    "gateway keys new alice --expires 30d --requests-per-minute 20": "A key for alice.",
    "gateway check --deep": "What is wrong on this machine, and how to mend it.",
    "gateway config show --changed --origin": "What is set, and where.",
    "systemctl reload gateway": "Have the service read its configuration and keys again.",
}


def page(parser: argparse.ArgumentParser) -> str:
    """The whole page, in roff."""
    return "\n".join(_lines(parser)) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH GATEWAY 1 "" "gateway {__version__}" "User Commands"'
    yield ".nh"  # A path that is hyphenated can't be copied.
    yield ".SH NAME"
    yield _text("gateway - a dependable OpenAI-compatible service on Ollama")
    yield ".SH SYNOPSIS"
    yield ".B gateway"
    yield _text("COMMAND [options]")
    yield ".SH DESCRIPTION"
    yield ".B gateway"
    yield _text(DESCRIPTION)
    yield ".SH COMMANDS"
    yield from _commands(parser)
    yield ".SH EXIT STATUS"
    yield from _list({str(code): words for code, words in exit_codes.MEANINGS.items()})
    yield ".SH ENVIRONMENT"
    variables = {
        PATH_VARIABLE: "The configuration file.",
        KEY_VARIABLE: "The key with which commands ask a running gateway.",
        **{name: f"{dotted(key)} of the configuration." for name, key in SHORT_NAMES.items()},
    }
    yield from _list(variables)
    yield ".PP"
    yield _text("Every key has a long variable too, such as GATEWAY__QUEUE__MAX_QUEUE_SIZE.")
    yield ".SH FILES"
    yield from _list(FILES)
    yield ".SH EXAMPLES"
    yield from _list(EXAMPLES)


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each command that does something, with what can be said to it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _commands(inner)
            return
    operands = [action.metavar or action.dest for action in parser._get_positional_actions()]
    yield f".SS {_escaped(' '.join([parser.prog, *map(str, operands)]))}"
    yield _text(parser.description or "")
    told = {}
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        told[_invocation(action)] = parser._get_formatter()._expand_help(action)
    yield from _list(told)


def _invocation(action: argparse.Action) -> str:
    """`--config FILE`, or the operand's name."""
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if not action.option_strings:
        return str(action.metavar or action.dest)
    return ", ".join(f"{option} {value}".rstrip() for option in action.option_strings)


def _list(entries: Mapping[str, str]) -> Iterator[str]:
    for term, words in entries.items():
        yield ".TP"
        yield f"\\fB{_escaped(term)}\\fR"
        yield _text(words)


def _text(words: str) -> str:
    escaped = _escaped(words)
    # A line that begins so is a request to roff.
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(words: str) -> str:
    return re.sub(r"-", r"\\-", words.replace("\\", r"\e"))


def _arguments(parser: argparse.ArgumentParser) -> None:
    """None: there is one page."""


def _run(arguments: argparse.Namespace) -> int:
    print(page(arguments.all_commands), end="")
    return exit_codes.OK


MANUAL: Final = Command("manual", "print the manual page, for man -l -", _arguments, _run)
