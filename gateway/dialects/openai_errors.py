"""OpenAI's error envelope, for its dialects and for the edge before a dialect is known."""

import math
from typing import Final

from gateway.core import jsonio
from gateway.core.errors import GatewayError, Overloaded
from gateway.core.jsonio import Json
from gateway.dialects.base import Envelope, misfit_is_400

_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error"}


def envelope(error: GatewayError) -> dict[str, Json]:
    """`{"error": {message, type, param, code}}` as a document.

    A refusal that knows when its turn would be says so in two further keys,
    which OpenAI's clients pass over.
    """
    told: dict[str, Json] = {
        "message": error.message,
        "type": _type(error.status),
        "param": error.param,
        "code": error.code,
    }
    if isinstance(error, Overloaded) and error.promise is not None:
        told["estimated_wait_ms"] = math.ceil(error.promise.wait_s * 1000.0)
        told["queue_position"] = error.promise.position
    return {"error": told}


def body(error: GatewayError, request_id: str = "") -> bytes:
    """The envelope as the bytes of a reply. It has no place for the request's id."""
    return jsonio.dumps(envelope(error))


SCHEMA: Final[dict[str, Json]] = {
    "title": "OpenAIError",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "estimated_wait_ms": {"type": "integer", "minimum": 0},
                "queue_position": {"type": "integer", "minimum": 0},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}

ENVELOPE: Final = Envelope(body, SCHEMA)


AS_OPENAI: Final = Envelope(body, SCHEMA, status=misfit_is_400)
"""With OpenAI's own status for a body that does not fit, and not the predecessor's: coding
agents send again whatever was refused with another."""


def _type(status: int) -> str:
    if status in _TYPES:
        return _TYPES[status]
    return "invalid_request_error" if status < 500 else "api_error"
