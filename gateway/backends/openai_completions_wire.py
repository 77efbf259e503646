"""OpenAI's completions as the client of it: our request to its body, its events to ours. Pure.

llama.cpp's server and vLLM agree on the text, and differ on logprobs: the former has
those of a chat here too, the latter OpenAI's own of that time, four lists side by side.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.backends import pieces
from gateway.backends.openai_events import Choice, Chunk, EventsReader
from gateway.backends.openai_wire import common_fields, response_format
from gateway.backends.pieces import Logprob
from gateway.core import jsonio
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import Event, GenerateRequest, JsonSchema, TextDelta, TokenLogprob

_ANY_OBJECT: Final = {"type": "object"}


def completion_body(request: GenerateRequest, extensions: frozenset[str]) -> bytes:
    """The body for /v1/completions, streamed. The request has one prompt."""
    (prompt,) = request.prompts
    body: dict[str, Json] = {
        "prompt": list(prompt.tokens) if prompt.tokens else prompt.text,
        **common_fields(request, extensions),
    }
    if (wanted := request.output_format) is not None:
        # vLLM's name and llama.cpp's; each skips the other's.
        body["response_format"] = response_format(wanted)
        body["json_schema"] = wanted.schema if isinstance(wanted, JsonSchema) else _ANY_OBJECT
    if request.logprobs is not None:
        # llama.cpp takes 0 for none at all; the reader takes the alternative out again.
        body["logprobs"] = max(1, request.logprobs)
    return jsonio.dumps(body)


# gc=False: nothing here can be part of a cycle, and one is made for each token.


class _Logprobs(msgspec.Struct, gc=False):
    content: list[Logprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _Choice(Choice, gc=False):
    text: str | None = None
    logprobs: _Logprobs | None = None


_chunk = LineDecoder(Chunk[_Choice]).__call__


class CompletionReader(EventsReader[_Choice]):
    """Reads the events of one completion.

    Args:
        top_logprobs: Alternatives that the caller wants of each token; None: all.
    """

    def __init__(self, *, event_bytes_max: int, top_logprobs: int | None = None) -> None:
        super().__init__(_chunk, event_bytes_max=event_bytes_max, prompt="prompt")
        self._top_logprobs = top_logprobs

    def _read(self, choice: _Choice, events: list[Event]) -> None:
        logprobs = None if choice.logprobs is None else self._logprobs(choice.logprobs)
        # A token that is only part of a character has no text yet.
        if choice.text or logprobs:
            events.append(TextDelta(choice.text or "", logprobs))

    def _logprobs(self, lists: _Logprobs) -> tuple[TokenLogprob, ...] | None:
        """Raises ValueError where the lists are not of one length."""
        if lists.tokens is None:
            return pieces.logprobs(lists.content, self._top_logprobs)
        count = len(lists.tokens)
        told: Sequence[float | None] = lists.token_logprobs or [None] * count
        tops: Sequence[dict[str, float | None] | None] = lists.top_logprobs or [None] * count
        return tuple(
            TokenLogprob(token, _known(logprob), top=_best(top or {})[: self._top_logprobs])
            for token, logprob, top in zip(lists.tokens, told, tops, strict=True)
        )


def _best(top: dict[str, float | None]) -> tuple[TokenLogprob, ...]:
    """The alternatives, best first."""
    found = [TokenLogprob(token, _known(logprob)) for token, logprob in top.items()]
    return tuple(sorted(found, key=lambda each: each.logprob, reverse=True))


def _known(logprob: float | None) -> float:
    """What an engine leaves out is not taken for likely."""
    return -math.inf if logprob is None else logprob
