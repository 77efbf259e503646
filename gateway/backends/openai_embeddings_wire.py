"""OpenAI's embeddings as the client of them: our request to its body, its answer to ours. Pure.

For vLLM, llama.cpp's server, and whatever else speaks it. Vectors are asked for in
base64, which is a third of the size and a fraction of the time of numbers as text;
an engine that does not know it sends numbers.
"""

from typing import Any, Final

import msgspec

from gateway.backends.embedding import check, from_base64
from gateway.backends.values import natural
from gateway.core import jsonio
from gateway.core.errors import UpstreamBadResponse
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings, EmbedRequest

_OLLAMAS: Final = frozenset({"num_ctx", "keep_alive"})
_VLLMS: Final = frozenset({"dimensions"})
"""llama.cpp's server can't shorten a vector, and nobody else knows which ones bear it."""


def unsupported(request: EmbedRequest, *, vllm: bool) -> tuple[str, ...]:
    """Names of parameters that the engine doesn't know."""
    return tuple(sorted(request.params & (_OLLAMAS if vllm else _OLLAMAS | _VLLMS)))


def embeddings_body(request: EmbedRequest, *, vllm: bool) -> bytes:
    """The body for /v1/embeddings."""
    body: dict[str, Json] = {
        "model": request.model,
        "input": request.inputs,
        "encoding_format": "base64",
    }
    if vllm:
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.truncate:
            body["truncate_prompt_tokens"] = -1  # To the length of the context.
    return jsonio.dumps(body)


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: Any = None


def read_embeddings(answer: bytes, request: EmbedRequest, *, vllm: bool) -> Embeddings:
    """The answer to `embeddings_body`.

    Raises:
        UpstreamBadResponse: It is none.
        BackendRefusedRequest: The model has not so many dimensions.
    """
    try:
        said = msgspec.json.decode(answer, type=_Answer)
        items = _in_order(said.data)
        vectors = [
            from_base64(item.embedding) if isinstance(item.embedding, str) else item.embedding
            for item in items
        ]
    except ValueError as error:  # msgspec's own are among them.
        raise UpstreamBadResponse("The answer of the model's engine can't be read.") from error
    check(
        vectors,
        inputs=len(request.inputs),
        dimensions=request.dimensions if vllm else None,
    )
    usage = said.usage if isinstance(said.usage, dict) else {}
    return Embeddings(vectors, prompt_tokens=natural(usage.get("prompt_tokens")) or 0)


def _in_order(items: list[_Item]) -> list[_Item]:
    """By their own numbers, where they have any. Raises ValueError: a number is missing."""
    if all(item.index is None for item in items):
        return items
    numbers = [item.index for item in items]
    if sorted(number for number in numbers if number is not None) != list(range(len(items))):
        raise ValueError("vectors that are not numbered one after the other")
    return sorted(items, key=lambda item: item.index or 0)
