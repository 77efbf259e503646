"""Events to the bytes of a completion, streamed or whole.

A chunk has the next piece of text; each choice ends with a chunk that has none,
but the finish reason. After the last choice come, if asked for, a chunk with the
usage and no choices, and `[DONE]`. A stream that broke ends with an error
record and without `[DONE]`, so that it never looks finished. What a model thinks
first, and calls of tools, have no place here; no engine makes any of a plain text.
"""

import codecs
import math
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.jsonio import Json, quote
from gateway.core.messages import (
    Completion,
    Event,
    Finished,
    FinishReason,
    TextDelta,
    TokenLogprob,
    totals,
)
from gateway.dialects import framing
from gateway.dialects.base import ReplyHead
from gateway.dialects.framing import one_line
from gateway.dialects.openai_common import logprob, opening, usage_counts
from gateway.dialects.openai_stream import ChunkEncoder

ID_PREFIX: Final = "cmpl-"
OBJECT: Final = "text_completion"


@attrs.frozen(kw_only=True)
class Shape:
    """What an answer must look like.

    Attributes:
        prompts: For each prompt the text that stands before its answers, maybe none.
        n: Choices for each prompt.
        drawn: Answers that will come to each prompt, of which the `n` best are the choices.
        logprobs: How many alternatives each token is told with; None: no logprobs.
        include_usage: Close a stream with the token counts.
    """

    prompts: tuple[str, ...]
    n: int = 1
    drawn: int = 1
    logprobs: int | None = None
    include_usage: bool = False


class CompletionsEncoder(ChunkEncoder):
    """Writes one answer, once. See `Encoder`."""

    def __init__(self, head: ReplyHead, shape: Shape) -> None:
        super().__init__(head, ID_PREFIX, OBJECT, include_usage=shape.include_usage)
        self._shape = shape
        self._ends: list[Finished] = []
        self._text_end = b',"logprobs":null,"finish_reason":null}' + self._closing
        self._tokens = TokenLists(shape.logprobs)

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer, from as many completions as were drawn."""
        shape = self._shape
        choices = [
            _choice(shape.prompts[index // shape.n], index, answer, shape.logprobs)
            for index, answer in enumerate(self._chosen(answers))
        ]
        usage, _ = totals([answer.finished for answer in answers], n=shape.drawn)
        return (
            opening(self._head, ID_PREFIX, OBJECT)
            + b',"choices":'
            + jsonio.dumps(choices)
            + b',"usage":'
            + jsonio.dumps(usage_counts(usage))
            + b"}"
        )

    def _chosen(self, answers: Sequence[Completion]) -> Iterator[Completion]:
        """The choices for all prompts, of each the best first."""
        n, drawn = self._shape.n, self._shape.drawn
        for first in range(0, len(answers), drawn):
            of_prompt = answers[first : first + drawn]
            # Sorting is stable: where the engine tells no logprobs the first drawn are taken.
            yield from of_prompt if drawn == n else sorted(of_prompt, key=_mean, reverse=True)[:n]

    def _begin_choice(self) -> bytes:
        index, n = len(self._ends), self._shape.n
        self._text = self._opening + b'{"index":%d,"text":' % index
        self._tokens = TokenLists(self._shape.logprobs)
        echoed = self._shape.prompts[index // n]
        return self._text + one_line(quote(echoed)) + self._text_end if echoed else b""

    def _rare(self, event: Event) -> bytes:
        """Everything but plain text."""
        match event:
            case TextDelta(text=text, logprobs=logprobs):
                lists = jsonio.dumps(self._tokens.of(logprobs))
                tail = b',"logprobs":' + lists + b',"finish_reason":null}' + self._closing
                return self._text + quote(text) + tail
            case Finished():
                return self._finish(event)
            case _:
                return b""

    def _finish(self, event: Finished) -> bytes:
        shape, ends = self._shape, self._ends
        finish = b'"","logprobs":null,"finish_reason":"%s"}' % _reason(event).encode()
        chunk = self._text + finish + self._closing
        ends.append(event)
        if len(ends) < shape.n * len(shape.prompts):
            return chunk + self._begin_choice()
        if shape.include_usage:
            usage, _ = totals(ends, n=shape.n)
            counts = jsonio.dumps(usage_counts(usage))
            chunk += self._opening + b'],"usage":' + counts + b"}" + framing.END
        return chunk + framing.DONE


def _choice(echoed: str, index: int, answer: Completion, logprobs: int | None) -> Json:
    return {
        "index": index,
        "text": echoed + answer.text,
        "logprobs": TokenLists(logprobs).of(answer.logprobs),
        "finish_reason": _reason(answer.finished),
    }


def _reason(end: Finished) -> str:
    if end.reason is FinishReason.TOOL_CALLS:
        return "stop"  # There are no tools here that could be called.
    reason: str = end.reason.value
    return reason


def _mean(answer: Completion) -> float:
    """The mean log-probability of its tokens; that of no token is beneath all others."""
    if not answer.logprobs:
        return -math.inf
    return sum(logprob(token.logprob) for token in answer.logprobs) / len(answer.logprobs)


class TokenLists:
    """Writes the tokens of one choice as this API has them: four lists side by side.

    Offsets count the characters of the text, each token's from where the one before it
    ended. A token that is only a part of a character begins where the character does.

    Args:
        alternatives: How many are wanted of each token; None: no lists at all.
    """

    def __init__(self, alternatives: int | None) -> None:
        self._alternatives = alternatives
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of(self, tokens: Sequence[TokenLogprob] | None) -> Json:
        """The lists of the next tokens; None where none are wanted or told."""
        if tokens is None or self._alternatives is None:
            return None
        return {
            "tokens": [_spelled(token) for token in tokens],
            "token_logprobs": [logprob(token.logprob) for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens] if self._alternatives else None,
            "text_offset": [self._offset_of(token) for token in tokens],
        }

    def _top(self, token: TokenLogprob) -> dict[str, float]:
        """The alternatives, best first; the token itself is always among them."""
        top: dict[str, float] = {}
        for each in (*token.top[: self._alternatives], token):
            top.setdefault(_spelled(each), logprob(each.logprob))
        return top

    def _offset_of(self, token: TokenLogprob) -> int:
        offset = self._offset
        text = token.token if token.raw is None else self._utf8.decode(token.raw)
        self._offset += len(text)
        return offset


def _spelled(token: TokenLogprob) -> str:
    """The token, or the bytes of one that is no text by itself, as OpenAI spells them."""
    if token.raw is None:
        return token.token
    try:
        return token.raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)
