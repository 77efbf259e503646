"""Requests for a message, and what the dialect makes of them."""

import json
from typing import Any, Final

import pytest

from gateway.config.schema import Generation, Limits
from gateway.core.errors import InvalidRequest
from gateway.core.messages import GenerateRequest, Message
from gateway.dialects.anthropic_messages import AnthropicMessages, MessagesParsed
from gateway.dialects.base import Dialect

LIMITS: Final = Limits(messages_max=10, tools_max=4, tools_bytes_max=2000, image_bytes_max=100)
GENERATION: Final = Generation(max_tokens_default=50, max_tokens_max=200)
DIALECT: Final[Dialect[MessagesParsed]] = AnthropicMessages(LIMITS, GENERATION)

USER: Final = {"role": "user", "content": "hi"}
BASE: Final[dict[str, Any]] = {"model": "llama3.2", "max_tokens": 100, "messages": [USER]}


def parse(**more: Any) -> MessagesParsed:
    return DIALECT.parse(json.dumps(BASE | more).encode())


def asked(**more: Any) -> GenerateRequest:
    return parse(**more).request


def refusal(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**more)
    return caught.value


def conversation(*turns: Any, **more: Any) -> tuple[Message, ...]:
    return asked(messages=list(turns), **more).messages


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def tool_use(id: str, name: str = "weather", **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def tool_result(id: str, content: Any = "sunny", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}
