"""Embeddings as every driver makes them: calls of a bounded size, and vectors that are checked.

An engine is silent until a call is computed whole. A request for thousands of
vectors is therefore several calls, one after the other: none is silent for too
long, and none has an answer too large to be read in one go.
"""

import binascii
import math
import sys
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import attrs

from gateway.core.errors import BackendRefusedRequest, InvalidRequest, UpstreamBadResponse
from gateway.core.messages import Embeddings, EmbedRequest, Vector

ITEMS_MAX: Final = 128
CHARS_MAX: Final = 32_768
"""Of one call: a minute of a slow processor's work."""

NUMBERS_MAX: Final = 4_000_000
"""Of all vectors of one request: 130 MB as Python keeps them. 2,048 of 1,536 are less."""

_TOKEN_CHARS: Final = 4

Input = str | tuple[int, ...]


def chars_of(item: Input) -> int:
    """What it takes to compute it, about."""
    return len(item) if isinstance(item, str) else len(item) * _TOKEN_CHARS


async def in_calls(
    request: EmbedRequest,
    call: Callable[[EmbedRequest], Awaitable[Embeddings]],
    *,
    size: Callable[[Input], int] = chars_of,
    size_max: int = CHARS_MAX,
) -> Embeddings:
    """The vectors of all inputs, by as many calls as it takes.

    Args:
        size: Of an input.
        size_max: Of all inputs of a call; a larger one is a call by itself.

    Raises:
        As `call`; InvalidRequest when there would be more than NUMBERS_MAX numbers.
    """
    vectors: list[Vector] = []
    prompt_tokens = 0
    load_s: float | None = None
    for part in calls(request, size, size_max):
        embeddings = await call(part)
        vectors += embeddings.vectors
        dimensions = max(map(len, embeddings.vectors), default=0)
        if dimensions * len(request.inputs) > NUMBERS_MAX:
            raise InvalidRequest(
                f"This model's vectors have {dimensions} dimensions: send at most"
                f" {NUMBERS_MAX // dimensions} inputs at once.",
                param="input",
            )
        prompt_tokens += embeddings.prompt_tokens
        if load_s is None:  # What a later one waits for is not the model.
            load_s = embeddings.load_s
    return Embeddings(vectors, prompt_tokens, load_s)


def calls(
    request: EmbedRequest, size: Callable[[Input], int] = chars_of, size_max: int = CHARS_MAX
) -> Iterator[EmbedRequest]:
    """The request in parts; none for no inputs. vLLM takes either texts or tokens, not both."""
    inputs: list[Input] = []
    left = size_max
    for item in request.inputs:
        full = len(inputs) == ITEMS_MAX or size(item) > left
        if inputs and (full or type(item) is not type(inputs[0])):
            yield attrs.evolve(request, inputs=tuple(inputs))
            inputs, left = [], size_max
        inputs.append(item)
        left -= size(item)
    if inputs:
        yield attrs.evolve(request, inputs=tuple(inputs))


def from_base64(text: str) -> Vector:
    """Of float32, little endian. Raises ValueError."""
    vector = array("f")
    vector.frombytes(binascii.a2b_base64(text, strict_mode=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def check(vectors: Sequence[Vector], *, inputs: int, dimensions: int | None) -> None:
    """Whether it is what was asked for: (inputs, dimensions) finite numbers.

    Args:
        dimensions: As the engine was asked for them; None: as many as it likes, but
            all alike.

    Raises:
        UpstreamBadResponse: It is not.
        BackendRefusedRequest: The model has not so many dimensions.
    """
    lengths = set(map(len, vectors))
    if len(vectors) != inputs or len(lengths) > 1 or 0 in lengths:
        raise UpstreamBadResponse("The model's engine gave too few vectors, or uneven ones.")
    # One that is not finite makes the sum so: a fifth of the time of asking each.
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise UpstreamBadResponse("The model's engine gave a vector with what is no number.")
    if dimensions is not None and lengths and dimensions not in lengths:
        # Ollama takes more than there are for all.
        raise BackendRefusedRequest(
            f"This model's vectors have {lengths.pop()} dimensions.", param="dimensions"
        )
