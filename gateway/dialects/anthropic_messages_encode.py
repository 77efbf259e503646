"""Events to the bytes of a message, streamed or whole.

A stream is as Anthropic sends it: `message_start` and a `ping`; each block with its start,
its deltas and its stop, one after the other; `message_delta` with the reason and the counts;
`message_stop`. A stream that broke ends with an `error` event and without the last two, so
that it never looks finished.

Every token passes here. All that is the same in the deltas of one block is written once,
when the block begins; a token is its JSON string between two ready-made pieces.

Source: anthropic-python 2.12, types/raw_message_stream_event.py, types/message.py.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core import jsonio
from gateway.core.errors import GatewayError, UpstreamBadResponse
from gateway.core.jsonio import Json, quote
from gateway.core.messages import (
    Completion,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from gateway.dialects import anthropic_errors, framing
from gateway.dialects.base import ReplyHead
from gateway.dialects.framing import one_line

ID_PREFIX: Final = "msg_"

UNSIGNED: Final = "unsigned"
"""In place of a thought's signature, which Anthropic alone can check: clients send a thought
back only with one that is not empty (pydantic-ai)."""

_STOP_REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}

_Kind = type[TextDelta] | type[ReasoningDelta] | type[ToolCallDelta]
"""What the deltas of a block are made of."""


class MessagesEncoder:
    """Writes one answer, once. See `Encoder`.

    Args:
        prompt_tokens: A guess, for the start of a stream; its end has the engine's count.
        show_thinking: Whether what the model thinks is part of the answer.
    """

    def __init__(self, head: ReplyHead, *, prompt_tokens: int, show_thinking: bool) -> None:
        self._head = head
        self._prompt_tokens = prompt_tokens
        self._show_thinking = show_thinking
        self._begun = False
        self._ended = False
        # The open block: what its deltas are, whether they are plain text, and what
        # stands before each.
        self._kind: _Kind | None = None
        self._plain: type[TextDelta] | type[ReasoningDelta] | None = None
        self._prefix = b""
        self._index = -1
        self._call = -1

    def feed(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events, the closing ones included with the last `Finished`."""
        if not events:
            return b""
        assert not self._ended, "an event after the answer was finished"
        pieces: list[bytes] = []
        if not self._begun:
            pieces.append(self._begin())
        plain, prefix = self._plain, self._prefix
        for event in events:
            if type(event) is plain:
                text = event.text
                quoted = quote(text) if text.isascii() else one_line(quote(text))
                pieces.append(prefix + quoted + _DELTA_END)
            else:
                pieces.append(self._rare(event))
                plain, prefix = self._plain, self._prefix
        # Also while nothing can be shown the client sees that its answer goes on.
        return b"".join(pieces) or _PING

    def fail(self, error: GatewayError) -> bytes:
        """The in-band end of a stream that broke; every SDK raises on it."""
        return _record(b"error", anthropic_errors.body(error, self._head.request_id))

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer: of one completion, since there are no choices."""
        (answer,) = answers
        content: list[Json] = []
        if answer.reasoning and self._show_thinking:
            content.append(
                {"type": "thinking", "thinking": answer.reasoning, "signature": UNSIGNED}
            )
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        content += map(_tool_use, answer.tool_calls)
        reason = _stop_reason(answer.finished.reason, called=bool(answer.tool_calls))
        return jsonio.dumps(self._message(content, reason, _usage(answer.finished.usage)))

    def _message(self, content: Json, stop_reason: str | None, usage: Json) -> Json:
        return {
            "id": ID_PREFIX + self._head.id,
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    # --- Streams ---------------------------------------------------------------------

    def _begin(self) -> bytes:
        self._begun = True
        message = self._message([], None, _usage(Usage(prompt=self._prompt_tokens)))
        return _event({"type": "message_start", "message": message}) + _PING

    def _rare(self, event: Event) -> bytes:
        """Whatever is not the next piece of the open text or thought."""
        match event:
            case TextDelta(text=text) if text:
                opening = self._open(TextDelta, _TEXT, b"text")
                self._plain = TextDelta
                return opening + self._delta(text)
            case ReasoningDelta(text=text) if text and self._show_thinking:
                opening = self._open(ReasoningDelta, _THINKING, b"thinking")
                self._plain = ReasoningDelta
                return opening + self._delta(text)
            case ToolCallDelta():
                return self._tool_call(event)
            case Finished():
                return self._finish(event)
            case _:
                return b""  # nothing, or nothing that may be shown

    def _open(self, kind: _Kind, block: Json, member: bytes) -> bytes:
        """Ends the open block and begins the next.

        Args:
            member: What the text of its deltas is called.
        """
        end = self._close()
        self._kind = kind
        self._index += 1
        self._prefix = _DELTA % (self._index, _DELTA_TYPES[kind], member)
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return end + _event(start)

    def _delta(self, text: str) -> bytes:
        return self._prefix + one_line(quote(text)) + _DELTA_END

    def _close(self) -> bytes:
        kind, self._kind, self._plain = self._kind, None, None
        if kind is None:
            return b""
        signature = b""
        if kind is ReasoningDelta:
            delta = {"type": "signature_delta", "signature": UNSIGNED}
            signature = _event(
                {"type": "content_block_delta", "index": self._index, "delta": delta}
            )
        return signature + _event({"type": "content_block_stop", "index": self._index})

    def _tool_call(self, event: ToolCallDelta) -> bytes:
        opening = b""
        if self._kind is not ToolCallDelta or event.index != self._call:
            if event.index <= self._call:
                # Its block was ended, and blocks don't begin twice.
                raise UpstreamBadResponse("The model's engine mixed up its tool calls.")
            self._call = event.index
            call = ToolCall(id=event.id or "", name=event.name or "", arguments="")
            opening = self._open(ToolCallDelta, _tool_use(call), b"partial_json")
        return opening + (self._delta(event.arguments) if event.arguments else b"")

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        reason = _stop_reason(event.reason, called=self._call >= 0)
        delta = {"stop_reason": reason, "stop_sequence": None}
        return (
            self._close()
            + _event({"type": "message_delta", "delta": delta, "usage": _usage(event.usage)})
            + _event({"type": "message_stop"})
        )


def _record(name: bytes, payload: bytes) -> bytes:
    return b"event: " + name + b"\n" + framing.record(payload)


def _event(event: dict[str, Json]) -> bytes:
    """An event, which goes by the name of its type."""
    return _record(event["type"].encode(), jsonio.dumps(event))


_PING: Final = _event({"type": "ping"})

_TEXT: Final = {"type": "text", "text": ""}
_THINKING: Final = {"type": "thinking", "thinking": "", "signature": ""}

_DELTA: Final = (
    b"event: content_block_delta\n"
    + framing.DATA
    + b'{"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
)
_DELTA_END: Final = b"}}" + framing.END
_DELTA_TYPES: Final[dict[_Kind, bytes]] = {
    TextDelta: b"text_delta",
    ReasoningDelta: b"thinking_delta",
    ToolCallDelta: b"input_json_delta",
}


# --- Parts of an answer -----------------------------------------------------------------


def _stop_reason(reason: FinishReason, *, called: bool) -> str:
    """Engines that were made to call a tool may say that they just stopped."""
    if called and reason is FinishReason.STOP:
        reason = FinishReason.TOOL_CALLS
    return _STOP_REASONS[reason]


def _tool_use(call: ToolCall) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {**call.given}}


def _usage(usage: Usage) -> Json:
    """The counts. What was cached is no input to Anthropic, but counted by itself."""
    cached = min(usage.cached or 0, usage.prompt)
    counts: dict[str, Json] = {
        "input_tokens": usage.prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion,
    }
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts
