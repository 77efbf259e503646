"""Requests that have ended, for those who are told of them."""

from typing import Any

from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Priority, RequestRecord
from gateway.telemetry.exchange import Exchange


def record(**changes: Any) -> RequestRecord:
    """A streamed answer of 20 tokens in 2 s, half a second of it before the first."""
    told: dict[str, Any] = {
        "request_id": "req-1",
        "caller": "anonymous",
        "model": "llama3.2",
        "stream": True,
        "outcome": "completed",
        "status": 200,
        "upstream": "ollama",
        "queue_s": 0.1,
        "first_token_s": 0.5,
        "total_s": 2.0,
        "backend_s": 1.9,
        "usage": Usage(prompt=10, completion=20),
        "timings": Timings(decode_s=2.0),
        "attempts": 1,
        "priority": Priority.NORMAL,
        "expected_s": 3.8,
        "service_s": 1.9,
    }
    return RequestRecord(**{**told, **changes})


def exchange(**changes: Any) -> Exchange:
    """The HTTP request that `record()` came in."""
    told: dict[str, Any] = {
        "request_id": "req-1",
        "route": "/v1/chat/completions",
        "method": "POST",
        "status": 200,
        "caller": "anonymous",
        "total_s": 2.0,
        "record": record(),
    }
    return Exchange(**{**told, **changes})
