"""`gateway chat`: a conversation in the terminal, to try a model.

The answer goes to standard output, all else to standard error, so that
`gateway chat "…" > file` keeps the answer alone.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from gateway.cli.client import Client, add_client_options, connect
from gateway.cli.command import Command, CommandError
from gateway.cli.output import note
from gateway.cli.sse import records
from gateway.core import exit_codes, jsonio

SILENCE_S: Final = 660.0
"""A request may wait, and its model be loaded, before the first word."""

HELP: Final = """\
/model NAME   talk to another model
/system TEXT  say what it should be; without TEXT: nothing
/reset        forget what was said
/quit         end (or Ctrl-D); Ctrl-C stops an answer"""


@attrs.define
class Conversation:
    """What was said, and how it goes on."""

    model: str
    system: str = ""
    options: dict[str, Any] = attrs.field(factory=dict)
    turns: list[dict[str, str]] = attrs.field(factory=list)

    def body(self, said: str) -> dict[str, Any]:
        """The request that says this."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return {
            "model": self.model,
            "messages": [*first, *self.turns, {"role": "user", "content": said}],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.options,
        }

    def keep(self, said: str, answer: str) -> None:
        self.turns += [
            {"role": "user", "content": said},
            {"role": "assistant", "content": answer},
        ]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("said", nargs="*", metavar="TEXT", help="say this, print the answer, end")
    parser.add_argument("--model", default="default", help="whom to talk to")
    parser.add_argument("--system", default="", help="what it should be")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="tokens of an answer")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 for the likeliest words")
    add_client_options(parser)


def _run(arguments: argparse.Namespace) -> int:
    client = connect(arguments)
    options = {"max_tokens": arguments.max_tokens, "temperature": arguments.temperature}
    talk = Conversation(
        model=arguments.model,
        system=arguments.system,
        options={name: value for name, value in options.items() if value is not None},
    )
    said = _text(arguments.said)
    if said:
        say(client, talk, said)
        return exit_codes.OK
    if not sys.stdin.isatty():
        raise CommandError("there is nothing to say.", exit_code=exit_codes.USAGE)
    return _converse(client, talk)


def _text(words: list[str]) -> str:
    """What is to be said: as operands, else on standard input where that is no terminal.

    Raises:
        CommandError: It is no UTF-8.
    """
    try:
        said = " ".join(words)
        if not said and not sys.stdin.isatty():
            said = sys.stdin.read().strip()
        said.encode()
    except UnicodeError:
        raise CommandError("what is to be said is no UTF-8.", exit_code=exit_codes.USAGE) from None
    return said


def _converse(client: Client, talk: Conversation) -> int:
    """Until its user ends it. A refusal or a broken answer ends nothing."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - makes input() edit and remember lines
    note(f"{client.url}, model {talk.model}. /help tells more.")
    while True:
        try:
            said = input(">>> ").strip()
        except (EOFError, KeyboardInterrupt):
            note("")
            return exit_codes.OK
        if said.startswith("/"):
            if not command(talk, said):
                return exit_codes.OK
        elif said:
            try:
                say(client, talk, said)
            except CommandError as error:
                note(f"gateway: {error}")


def command(talk: Conversation, line: str) -> bool:
    """What a line that begins with `/` does to the conversation; False where it ends it."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    match word:
        case "/quit" | "/exit" | "/bye":
            return False
        case "/model" if rest:
            talk.model = rest
        case "/system":
            talk.system = rest
        case "/reset":
            talk.turns.clear()
        case _:
            note(HELP)
    return True


def say(
    client: Client, talk: Conversation, said: str, *, now: Callable[[], float] = time.monotonic
) -> None:
    """Say it, and print the answer as it comes. Ctrl-C keeps what there is of it.

    Raises:
        CommandError: It was refused, or the answer broke.
    """
    began_at, first_at = now(), None
    answer: list[str] = []
    usage: Any = None
    try:
        with client.open(
            "POST", "/v1/chat/completions", talk.body(said), timeout_s=SILENCE_S
        ) as reply:
            for record in records(reply.lines()):
                if record.comment:
                    _show_waiting(record.comment)
                    continue
                for text, counts in _pieces(record.data):
                    first_at = first_at or now()
                    usage = counts or usage
                    answer.append(text)
                    print(text, end="", flush=True)
    except KeyboardInterrupt:
        note(" (stopped)")
    if answer:
        print()
        talk.keep(said, "".join(answer))
    if usage and first_at:
        note(_measured(usage, first_at - began_at, now() - first_at))


def _pieces(data: str) -> Iterator[tuple[str, Any]]:
    """The text of a chunk, and the counts where it has any."""
    if data == "[DONE]":
        return
    chunk = jsonio.loads(data)
    if "error" in chunk:
        raise CommandError(f"{chunk['error']['message']}", exit_code=exit_codes.FAILED)
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if text := delta.get("content") or delta.get("reasoning"):
            yield text, None
    if chunk.get("usage"):
        yield "", chunk["usage"]


def _show_waiting(comment: str) -> None:
    """Where it stands, on a line that the answer takes the place of."""
    if comment.startswith(("queued", "loading", "reading")) and sys.stderr.isatty():
        print(f"\r\x1b[2K{comment}…\r", end="", file=sys.stderr, flush=True)


def _measured(usage: Any, first_s: float, rest_s: float) -> str:
    prompt, written = usage["prompt_tokens"], usage["completion_tokens"]
    told = f"{prompt} + {written} tokens, the first after {first_s:.1f} s"
    if written > 1 and rest_s > 0.0:
        told += f", {(written - 1) / rest_s:.1f} a second"
    return f"({told})"


CHAT: Final = Command("chat", "talk to a model in the terminal", _arguments, _run)
