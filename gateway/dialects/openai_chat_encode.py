"""Events to the bytes of a chat completion, streamed or whole.

A stream is as OpenAI sends it: for each choice a chunk with the role, its deltas
and a chunk with the finish reason; after the last choice, if asked for, a chunk
with the usage and no choices; then `[DONE]`. A stream that broke ends with an
error record and without `[DONE]`, so that it never looks finished.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json, quote
from gateway.core.messages import (
    Completion,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from gateway.dialects import framing
from gateway.dialects.base import ReplyHead
from gateway.dialects.openai_common import logprob, opening, usage_counts
from gateway.dialects.openai_stream import ChunkEncoder

ID_PREFIX: Final = "chatcmpl-"


class ChatEncoder(ChunkEncoder):
    """Writes one answer, once. See `Encoder`.

    Args:
        choices: How many answers will come, one after the other, each closed
            by its own `Finished`.
        include_usage: Close the stream with the token counts.
    """

    def __init__(self, head: ReplyHead, *, choices: int, include_usage: bool) -> None:
        super().__init__(head, ID_PREFIX, "chat.completion.chunk", include_usage=include_usage)
        self._choices = choices
        self._include_usage = include_usage
        self._index = 0
        self._usage: Usage | None = None
        self._delta = b""
        self._delta_end = b',"logprobs":null,"finish_reason":null}' + self._closing
        self._text_end = b"}" + self._delta_end

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer, one completion for each choice; at least one."""
        usage = answers[0].finished.usage
        for answer in answers[1:]:
            usage += answer.finished.usage
        return (
            opening(self._head, ID_PREFIX, "chat.completion")
            + b',"choices":'
            + jsonio.dumps([_choice(index, answer) for index, answer in enumerate(answers)])
            + b',"usage":'
            + jsonio.dumps(usage_counts(usage))
            + b"}"
        )

    def _begin_choice(self) -> bytes:
        assert self._index < self._choices, "an event after the last answer was finished"
        self._delta = self._opening + b'{"index":%d,"delta":' % self._index
        self._text = self._delta + b'{"content":'
        return self._delta + b'{"role":"assistant","content":""}' + self._delta_end

    def _rare(self, event: Event) -> bytes:
        """Everything but plain text."""
        match event:
            case TextDelta(text=text, logprobs=logprobs):
                return (
                    self._text
                    + quote(text)
                    + b'},"logprobs":'
                    + jsonio.dumps(_logprobs(logprobs))
                    + b',"finish_reason":null}'
                    + self._closing
                )
            case ReasoningDelta(text=text):
                # Two names are in use: DeepSeek's and OpenRouter's.
                quoted = quote(text)
                delta = b'{"reasoning_content":' + quoted + b',"reasoning":' + quoted + b"}"
                return self._delta + delta + self._delta_end
            case ToolCallDelta():
                return self._tool_call(event)
            case Finished():
                return self._finish(event)

    def _tool_call(self, event: ToolCallDelta) -> bytes:
        """A call opens with its name and no arguments; they follow in chunks of their own."""
        opening = b""
        if event.id is not None or event.name is not None:
            call: Json = {
                "index": event.index,
                "id": event.id,
                "type": "function",
                "function": {"name": event.name, "arguments": ""},
            }
            opening = self._tool_call_chunk(call)
            if not event.arguments:
                return opening
        call = {"index": event.index, "function": {"arguments": event.arguments}}
        return opening + self._tool_call_chunk(call)

    def _tool_call_chunk(self, call: Json) -> bytes:
        return self._delta + b'{"tool_calls":[' + jsonio.dumps(call) + b"]}" + self._delta_end

    def _finish(self, event: Finished) -> bytes:
        finish = b'{},"logprobs":null,"finish_reason":"%s"}' % event.reason.value.encode()
        chunk = self._delta + finish + self._closing
        self._usage = event.usage if self._usage is None else self._usage + event.usage
        self._index += 1
        if self._index < self._choices:
            return chunk + self._begin_choice()
        self._text = b""
        if self._include_usage:
            usage = b'],"usage":' + jsonio.dumps(usage_counts(self._usage)) + b"}" + framing.END
            chunk += self._opening + usage
        return chunk + framing.DONE


def _choice(index: int, answer: Completion) -> Json:
    message: dict[str, Json] = {
        "role": "assistant",
        "content": answer.text if answer.text or not answer.tool_calls else None,
        "refusal": None,
    }
    if answer.reasoning:
        message["reasoning_content"] = message["reasoning"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": None if answer.logprobs is None else _logprobs(answer.logprobs),
        "finish_reason": answer.finished.reason.value,
    }


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> Json:
    content = [
        _logprob(token) | {"top_logprobs": [_logprob(other) for other in token.top]}
        for token in tokens or ()
    ]
    return {"content": content, "refusal": None}


def _logprob(token: TokenLogprob) -> dict[str, Json]:
    return {
        "token": token.token,
        "logprob": logprob(token.logprob),
        "bytes": None if token.raw is None else list(token.raw),
    }
