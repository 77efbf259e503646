"""Parts of an answer that Ollama and OpenAI write alike."""

import secrets

import msgspec

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.messages import TokenLogprob


class Logprob(msgspec.Struct, gc=False):
    """One token as it is on the wire."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["Logprob"] | None = None


def logprobs(
    items: list[Logprob] | None, top_max: int | None = None
) -> tuple[TokenLogprob, ...] | None:
    """Raises ValueError when `bytes` holds what is no byte."""
    if items is None:
        return None
    return tuple(
        TokenLogprob(
            token=item.token,
            logprob=item.logprob,
            raw=None if item.bytes is None else bytes(item.bytes),
            top=(logprobs(item.top_logprobs) or ())[:top_max],
        )
        for item in items
    )


def arguments_text(arguments: Json) -> str:
    """A call's arguments as text, from an engine that writes text or one that writes an object.

    Raises:
        ValueError: A number in it is too large for JSON as we write it.
    """
    if isinstance(arguments, str):
        return arguments
    try:
        return jsonio.dumps_text(arguments)
    except TypeError as error:
        raise ValueError("arguments that JSON has no word for") from error


def new_call_id() -> str:
    """The id of a tool call, unique among all answers: 96 random bits."""
    return f"call_{secrets.token_hex(12)}"
