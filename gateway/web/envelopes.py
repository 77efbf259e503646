"""In whose words an error is told: those of the API that the URL belongs to."""

from typing import Final

from gateway.dialects import anthropic_errors, ollama_errors, openai_errors
from gateway.dialects.base import Envelope

_BY_PREFIX: Final[tuple[tuple[str, Envelope], ...]] = (
    ("/v1/messages", anthropic_errors.ENVELOPE),
    ("/v1/responses", openai_errors.AS_OPENAI),
    ("/api/", ollama_errors.ENVELOPE),
)
"""The first prefix of a path that fits; OpenAI's where none does."""


def envelope_of(path: str) -> Envelope:
    """Also for URLs that there are none of, so that each client can read what went wrong."""
    for prefix, envelope in _BY_PREFIX:
        if path.startswith(prefix):
            return envelope
    return openai_errors.ENVELOPE
