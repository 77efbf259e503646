"""Bodies of Ollama's native API, read as the gateway reads them."""

from typing import Any, Final

from gateway.config.schema import Generation, Limits
from gateway.core import jsonio
from gateway.dialects.base import Parsed
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_generate import OllamaGenerate

LIMITS: Final = Limits()
GENERATION: Final = Generation()

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQ"
    "DwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def chat(messages: Any = ({"role": "user", "content": "hi"},), **fields: Any) -> Parsed:
    body = {"model": "m", "messages": messages, **fields}
    return OllamaChat(LIMITS, GENERATION).parse(jsonio.dumps(body))


def generate(prompt: Any = "hi", **fields: Any) -> Parsed:
    body = {"model": "m", "prompt": prompt, **fields}
    return OllamaGenerate(LIMITS, GENERATION).parse(jsonio.dumps(body))
