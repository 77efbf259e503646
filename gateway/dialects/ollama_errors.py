"""Ollama's error envelope: a sentence, and nothing else."""

from typing import Final

from gateway.core import jsonio
from gateway.core.errors import GatewayError, ModelNotFound
from gateway.core.jsonio import Json
from gateway.dialects.base import Envelope, misfit_is_400

SCHEMA: Final[dict[str, Json]] = {
    "title": "OllamaError",
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


def body(error: GatewayError, request_id: str = "") -> bytes:
    """The envelope as the bytes of a reply. It has no place for the request's id."""
    text = error.message
    if isinstance(error, ModelNotFound):
        # By these words, and not by the status, Ollama's CLI knows what is wrong.
        text = f"model not found: {text}"
    return jsonio.dumps({"error": text})


ENVELOPE: Final = Envelope(body, SCHEMA, status=misfit_is_400)
