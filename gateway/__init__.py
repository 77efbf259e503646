"""A single-process gateway that makes Ollama a dependable OpenAI-compatible service."""

from typing import Final

__version__: Final = "0.1.0"
