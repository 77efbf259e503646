"""Anthropic's error envelope, as the reply to a request and as the last event of a stream.

    {"type": "error", "error": {"type", "message", "details"}, "request_id"}

`details` is where Anthropic's SDKs look for a code (`exception.error_code`); ours stands
there, with the parameter at fault and the refused one's turn.

Overload is `overloaded_error` with status 503 and not Anthropic's own 529: both are retried
by the SDKs, after `Retry-After`, but proxies and balancers know the 503 alone.

Source: anthropic-python 2.12, types/shared/error_response.py and _error_classes.py;
docs.anthropic.com, API reference, "Errors".
"""

import math
from typing import Final

from gateway.core import jsonio
from gateway.core.errors import ContextLengthExceeded, GatewayError, Overloaded
from gateway.core.jsonio import Json
from gateway.dialects.base import Envelope, misfit_is_400

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_TOO_LONG: Final = "prompt is too long: "
"""Coding agents shorten their conversation where a message has these words of Anthropic's,
and by how much they read off the two numbers after them."""


def body(error: GatewayError, request_id: str = "") -> bytes:
    """The envelope as bytes: of a reply, or of an event."""
    details: dict[str, Json] = {"error_code": error.code}
    if error.param is not None:
        details["param"] = error.param
    if isinstance(error, Overloaded) and error.promise is not None:
        details["estimated_wait_ms"] = math.ceil(error.promise.wait_s * 1000.0)
        details["queue_position"] = error.promise.position
    told: Json = {"type": _type(error.status), "message": _message(error), "details": details}
    return jsonio.dumps({"type": "error", "error": told, "request_id": request_id or None})


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _message(error: GatewayError) -> str:
    if not isinstance(error, ContextLengthExceeded):
        return error.message
    if error.context is None:
        return _TOO_LONG + error.message
    # One that fits by itself leaves no room for an answer.
    needed = max(error.prompt or 0, error.context + 1)
    return f"{_TOO_LONG}{needed} tokens > {error.context} maximum"


SCHEMA: Final[dict[str, Json]] = {
    "title": "AnthropicError",
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "details": {
                    "type": "object",
                    "properties": {
                        "error_code": {"type": "string"},
                        "param": {"type": "string"},
                        "estimated_wait_ms": {"type": "integer", "minimum": 0},
                        "queue_position": {"type": "integer", "minimum": 0},
                    },
                    "required": ["error_code"],
                },
            },
            "required": ["type", "message", "details"],
        },
        "request_id": {"type": ["string", "null"]},
    },
    "required": ["type", "error", "request_id"],
}

ENVELOPE: Final = Envelope(body, SCHEMA, status=misfit_is_400)
