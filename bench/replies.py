"""How a load asks and what it reads, in OpenAI's API and in Ollama's own. Pure."""

from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import orjson

from bench.prompts import Messages


@attrs.define
class Reply:
    """What has been read of one answer.

    Attributes:
        tokens: As the server counts them; while it has not said, one for each piece.
        finish_reason: None until the answer is whole.
        error: A code or a text; "" while nothing went wrong.
    """

    tokens: int = 0
    finish_reason: str | None = None
    error: str = ""


class Dialect(Protocol):
    """One of the APIs."""

    path: str

    def body(
        self, model: str, messages: Messages, *, stream: bool, max_tokens: int | None
    ) -> bytes: ...

    def read_line(self, line: bytes, reply: Reply) -> bool:
        """Take in a line of a stream; tells whether it has a piece of the answer's text.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: It is no such line.
        """
        ...

    def read_whole(self, body: bytes, reply: Reply) -> None:
        """Take in an answer that is no stream; raises as `read_line`."""
        ...


class OpenAI:
    """POST /v1/chat/completions."""

    path = "/v1/chat/completions"

    def body(
        self, model: str, messages: Messages, *, stream: bool, max_tokens: int | None
    ) -> bytes:
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if stream:
            # Pieces are not tokens: what comes together is passed on together.
            body["stream_options"] = {"include_usage": True}
        return orjson.dumps(body)

    def read_line(self, line: bytes, reply: Reply) -> bool:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            return False
        event = orjson.loads(line[len(b"data: ") :])
        if "error" in event:
            reply.error = _code(event["error"])
            return False
        has_text = False
        for choice in event["choices"]:
            reply.finish_reason = choice["finish_reason"] or reply.finish_reason
            if choice["delta"].get("content"):
                has_text = True
                reply.tokens += 1
        if event.get("usage"):
            reply.tokens = event["usage"]["completion_tokens"]
        return has_text

    def read_whole(self, body: bytes, reply: Reply) -> None:
        answer = orjson.loads(body)
        reply.finish_reason = answer["choices"][0]["finish_reason"]
        reply.tokens = answer["usage"]["completion_tokens"]


class Ollama:
    """POST /api/chat."""

    path = "/api/chat"

    def body(
        self, model: str, messages: Messages, *, stream: bool, max_tokens: int | None
    ) -> bytes:
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
        if max_tokens is not None:
            body["options"] = {"num_predict": max_tokens}
        return orjson.dumps(body)

    def read_line(self, line: bytes, reply: Reply) -> bool:
        if not line.strip():
            return False
        event = orjson.loads(line)
        if "error" in event:
            reply.error = _code(event["error"])
            return False
        has_text = bool(event["message"]["content"])
        reply.tokens += has_text
        if event["done"]:
            _finish(event, reply)
        return has_text

    def read_whole(self, body: bytes, reply: Reply) -> None:
        answer = orjson.loads(body)
        if answer["done"]:
            _finish(answer, reply)


def error_code(body: bytes) -> str:
    """Why a request was refused, in either API, as far as the body says."""
    try:
        return _code(orjson.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return ""


def _finish(last: Mapping[str, Any], reply: Reply) -> None:
    reply.tokens = last["eval_count"]
    reply.finish_reason = last["done_reason"]


def _code(error: object) -> str:
    """Of OpenAI's error object, or of Ollama's text."""
    if isinstance(error, Mapping):
        return str(error.get("code") or error.get("type") or "error")
    return str(error)
