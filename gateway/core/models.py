"""A model as it is known."""

from typing import Final

import attrs

OWNER_DEFAULT: Final = "gateway"


@attrs.frozen(kw_only=True)
class ModelInfo:
    """One model of one engine.

    Attributes:
        id: As callers name it.
        created: Seconds since the epoch; 0 when the engine doesn't say.
        context_length: Tokens that are really allocated for one request, when
            the engine says so (the model is loaded).
        context_length_max: Tokens that the model was trained for.
        loaded: None when the engine doesn't say.
        capabilities: The engine's words: completion, tools, vision, thinking, embedding…
        alias_of: The engine's own name of it, where callers know it by another.
        format: Of its file, such as gguf; "" when the engine doesn't say, and so below.
        parameter_count: How many numbers it consists of.
        quantization: How these are stored, such as Q4_K_M.
    """

    id: str
    created: int = 0
    owned_by: str = OWNER_DEFAULT
    context_length: int | None = None
    context_length_max: int | None = None
    loaded: bool | None = None
    size_bytes: int | None = None
    capabilities: tuple[str, ...] = ()
    alias_of: str = ""
    format: str = ""
    parameter_count: int | None = None
    quantization: str = ""
