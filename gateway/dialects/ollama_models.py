"""Models as Ollama's clients read them, for engines that are no Ollama.

An Ollama tells of its models itself, and what it says is passed on. Of another
engine's this says what is known, in the same form; the rest is empty or left out.

Source: ollama v0.24.0, api/types.go, `ListModelResponse`, `ProcessModelResponse`
and `ShowResponse`; cmd/cmd.go, which reads them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.models import ModelInfo
from gateway.dialects.base import moment

API_VERSION: Final = "0.24.0"
"""The Ollama whose API this is, for clients that ask before they use a part of it."""

FOREVER: Final = "2200-01-01T00:00:00Z"
"""When a model leaves memory that never does: what is 20 years away, the CLI calls so."""

_NEVER: Final = "0001-01-01T00:00:00Z"
"""What Go has for no time at all."""

_UNITS: Final = ((1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 0))

_ARCHITECTURE: Final = "unknown"
"""The context's length is asked for by a name that begins with the architecture's."""


def listing(entries: Iterable[Mapping[str, Json]]) -> bytes:
    """The body of GET /api/tags and of GET /api/ps."""
    return jsonio.dumps({"models": list(entries)})


def version(engine: str = "") -> bytes:
    """The body of GET /api/version: an Ollama's own, where there is one."""
    return jsonio.dumps({"version": engine or API_VERSION})


def named(entry: Mapping[str, Json], name: str) -> dict[str, Json]:
    """An entry of either list, for a model that callers know by this name."""
    return {**entry, "name": name, "model": name}


def installed(model: ModelInfo) -> dict[str, Json]:
    """An entry of GET /api/tags."""
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": _modified_at(model),
        "size": model.size_bytes or 0,
        "digest": _digest(model),
        "details": _details(model),
    }


def running(model: ModelInfo) -> dict[str, Json]:
    """An entry of GET /api/ps. How much of it is in a GPU's memory nobody says."""
    return {
        "name": model.id,
        "model": model.id,
        "size": model.size_bytes or 0,
        "digest": _digest(model),
        "details": _details(model),
        "expires_at": FOREVER,
        "context_length": model.context_length or 0,
    }


def shown(model: ModelInfo) -> bytes:
    """The body of POST /api/show. Template and parameters are the engine's secret."""
    info: dict[str, Json] = {"general.architecture": _ARCHITECTURE}
    if model.parameter_count is not None:
        info["general.parameter_count"] = model.parameter_count
    if length := model.context_length_max or model.context_length:
        info[f"{_ARCHITECTURE}.context_length"] = length
    return jsonio.dumps(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _details(model),
            "model_info": info,
            "capabilities": _capabilities(model),
            "modified_at": _modified_at(model),
        }
    )


def _details(model: ModelInfo) -> dict[str, Json]:
    return {
        "parent_model": "",
        "format": model.format,
        "family": "",
        "families": [],
        "parameter_size": _human(model.parameter_count),
        "quantization_level": model.quantization,
    }


def _capabilities(model: ModelInfo) -> list[str]:
    """In the sense of Ollama, to which what can embed can't talk: its CLI would not try."""
    talks = "completion" in model.capabilities
    told = [word for word in model.capabilities if not talks or word != "embedding"]
    return told or ["completion"]


def _digest(model: ModelInfo) -> str:
    """SHA-256 of what tells it from others, since nobody says that of its content.

    It can't be empty: the CLI cuts twelve characters off it without looking.
    """
    return hashlib.sha256(f"{model.alias_of or model.id} {model.size_bytes}".encode()).hexdigest()


def _human(count: int | None) -> str:
    """Such as 134.52M, as Ollama has it."""
    for unit, letter, digits in _UNITS:
        if count is not None and count >= unit:
            return f"{count / unit:.{digits}f}{letter}"
    return "" if count is None else str(count)


def _modified_at(model: ModelInfo) -> str:
    return moment(model.created) if model.created else _NEVER
