"""Events to the bytes of a response, streamed or whole.

A stream is as OpenAI sends it: `response.created`, `response.in_progress`, each
item of the output from its opening to its end, and one last event that holds the
whole response: `response.completed`, or `response.incomplete` where the answer was
cut. There is no `[DONE]`. A stream that broke ends with `error` and
`response.failed`, so that it never looks finished.

A whole reply is the response of that last event: the same machine writes it, and
nobody reads its records.

Every token passes here. A token is its JSON string and its number between ready-made
pieces.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.core import jsonio
from gateway.core.errors import ContextLengthExceeded, GatewayError, UpstreamBadResponse
from gateway.core.jsonio import Json, Written, quote
from gateway.core.messages import (
    Completion,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.dialects import openai_errors
from gateway.dialects.base import ReplyHead
from gateway.dialects.framing import one_line
from gateway.dialects.openai_responses_calls import CALLS, Call
from gateway.dialects.openai_responses_items import Message, Reasoning, Records, Status
from gateway.dialects.openai_responses_tools import Callee

ID_PREFIX: Final = "resp_"

_CUT: Final = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
"""Why an answer is incomplete; others are whole."""


class ResponsesEncoder:
    """Writes one answer, once. See `Encoder`.

    Args:
        shown: What the response repeats of the request.
        callees: Who is meant by the names that the model calls.
        summary: What the model thinks is shown as a summary.
        sealed: It is given sealed, besides.
    """

    def __init__(
        self,
        head: ReplyHead,
        *,
        shown: Mapping[str, Json],
        callees: Mapping[str, Callee],
        summary: bool,
        sealed: bool,
    ) -> None:
        self._head = head
        # The tools and the instructions of an agent are long, and stand in three events.
        self._shown = {name: Written(jsonio.dumps(value)) for name, value in shown.items()}
        self._callees = callees
        self._summary = summary
        self._sealed = sealed
        self._records = Records()
        self._live = False
        self._ended = False
        self._item: Message | Reasoning | Call | None = None
        # Of the message that is open: what a piece of text comes after, and who keeps it.
        self._opening = b""
        self._told: Callable[[str], None] = _nobody
        self._calls: list[int] = []
        self._said = False
        self._output: list[Written] = []

    def feed(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events, the closing ones included with the last `Finished`.

        Raises:
            UpstreamBadResponse: The engine went back to a call that it had ended.
        """
        if not events:
            return b""
        if not self._live:
            self._begin()
        pieces, number = self._records.pieces, self._records.number
        opening, told = self._opening, self._told
        for event in events:
            if opening and type(event) is TextDelta and event.logprobs is None:
                text = event.text
                quoted = quote(text) if text.isascii() else one_line(quote(text))
                pieces.append(opening + quoted + number())
                told(text)
            else:
                self._take(event)
                opening, told = self._opening, self._told
        data = b"".join(pieces)
        pieces.clear()
        return data

    def fail(self, error: GatewayError) -> bytes:
        """The in-band end of a stream that broke.

        OpenAI's SDKs raise at `error`; others wait for a response that failed.
        """
        if not (self._live or self._ended):
            self._begin()
        document = openai_errors.envelope(error)["error"]
        flat = {name: document[name] for name in ("code", "message", "param")}
        self._records.write("error", {**flat, "error": document})
        told = {"code": _code(error), "message": error.message}
        self._records.write("response.failed", {"response": self._response("failed", error=told)})
        return self._records.take()

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer; there is one."""
        (answer,) = answers
        if answer.reasoning:
            self._take(ReasoningDelta(answer.reasoning))
        if answer.text or answer.logprobs:
            self._take(TextDelta(answer.text, answer.logprobs))
        for index, call in enumerate(answer.tool_calls):
            self._take(ToolCallDelta(index, call.id, call.name, call.arguments))
        return jsonio.dumps(self._end(answer.finished))

    def _begin(self) -> None:
        assert not self._ended, "an event after the answer was finished"
        self._live = True
        for kind in ("response.created", "response.in_progress"):
            self._records.write(kind, {"response": self._response("in_progress")})

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta():
                # An empty piece opens nothing.
                if event.text or event.logprobs or type(self._item) is Message:
                    self._message().feed(event)
            case ReasoningDelta(text=text):
                self._reasoning().feed(text)
            case ToolCallDelta(arguments=arguments):
                self._call(event).feed(arguments)
            case Finished():
                response = self._end(event)
                self._records.write(f"response.{response['status']}", {"response": response})

    def _message(self) -> Message:
        if type(self._item) is not Message:
            self._close("completed")
            self._said = True
            self._item = message = Message(self._records, len(self._output), self._head.id)
            self._opening, self._told = message.opening, message.texts.append
            return message
        return self._item

    def _reasoning(self) -> Reasoning:
        if type(self._item) is not Reasoning:
            self._close("completed")
            self._item = reasoning = Reasoning(
                self._records,
                len(self._output),
                self._head.id,
                summary=self._summary,
                sealed=self._sealed,
            )
            return reasoning
        return self._item

    def _call(self, event: ToolCallDelta) -> Call:
        item = self._item
        if event.index not in self._calls:
            self._close("completed")
            self._said = True
            self._calls.append(event.index)
            name = event.name or ""
            callee = self._callees.get(name) or Callee("function", name)
            self._item = call = CALLS[callee.kind](
                self._records,
                len(self._output),
                self._head.id,
                call_id=event.id or "",
                callee=callee,
            )
            return call
        if event.index != self._calls[-1] or item is None or isinstance(item, Message | Reasoning):
            raise UpstreamBadResponse("The model's engine mixed its tool calls up.")
        return item

    def _close(self, status: Status) -> None:
        if self._item is not None:
            self._output.append(self._item.close(status))
            self._item = None
            self._opening = b""

    def _end(self, finished: Finished) -> dict[str, Json]:
        """The whole response."""
        self._live, self._ended = False, True
        cut = _CUT.get(finished.reason)
        status: Status = "completed" if cut is None else "incomplete"
        if cut is None and not self._said:
            self._message()
        self._close(status)
        return self._response(
            status,
            details=None if cut is None else {"reason": cut},
            usage=_usage(finished.usage),
        )

    def _response(
        self, status: str, *, error: Json = None, details: Json = None, usage: Json = None
    ) -> dict[str, Json]:
        return {
            "id": ID_PREFIX + self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "status": status,
            "error": error,
            "incomplete_details": details,
            "model": self._head.model,
            "output": self._output,
            "usage": usage,
            **self._shown,
        }


def _nobody(text: str) -> None:
    """Is told while no message is open, and that is never."""
    raise AssertionError(text)


def _usage(usage: Usage) -> Json:
    """OpenAI's types want every count, so what an engine doesn't tell is 0."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.prompt + usage.completion,
    }


def _code(error: GatewayError) -> str:
    """One of those that OpenAI's types list, so that a client knows whether to come back.

    All but one: its servers say `context_length_exceeded` too, and agents shorten
    their history for it.
    """
    if isinstance(error, ContextLengthExceeded):
        return error.code
    if error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.status < 500 else "server_error"
