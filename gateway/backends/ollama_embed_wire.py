"""Ollama's native API for embeddings: our request to its body, its answer to ours. Pure.

Shapes from ollama v0.24.0, `api/types.go`. It takes texts alone, computes one after
the other, and refuses all of them for one that is too long.
"""

from typing import Any, Final

import msgspec

from gateway.backends.embedding import check
from gateway.backends.values import natural, seconds
from gateway.core import jsonio
from gateway.core.errors import BackendRefusedRequest, UpstreamBadResponse
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings, EmbedRequest

_NS: Final = 1e-9


def embed_body(request: EmbedRequest, model: str) -> bytes:
    """The body for /api/embed.

    Raises:
        BackendRefusedRequest: An input is tokens.
    """
    if not all(isinstance(item, str) for item in request.inputs):
        raise BackendRefusedRequest(
            "The engine of this model embeds texts, not tokens.", param="input"
        )
    body: dict[str, Json] = {
        "model": model,
        "input": request.inputs,
        # By default Ollama cuts what is too long, without a word.
        "truncate": request.truncate,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if (num_ctx := request.extensions.get("num_ctx")) is not None:
        body["options"] = {"num_ctx": num_ctx}
    if (keep_alive := request.extensions.get("keep_alive")) is not None:
        body["keep_alive"] = keep_alive
    return jsonio.dumps(body)


class _Answer(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: Any = None
    load_duration: Any = None


def read_embeddings(answer: bytes, request: EmbedRequest) -> Embeddings:
    """The answer to `embed_body`.

    Raises:
        UpstreamBadResponse: It is none.
        BackendRefusedRequest: The model has not so many dimensions.
    """
    try:
        said = msgspec.json.decode(answer, type=_Answer)
    except ValueError as error:  # msgspec's own are among them.
        raise UpstreamBadResponse("The answer of the model's engine can't be read.") from error
    check(said.embeddings, inputs=len(request.inputs), dimensions=request.dimensions)
    return Embeddings(
        said.embeddings,
        prompt_tokens=natural(said.prompt_eval_count) or 0,
        load_s=seconds(said.load_duration, _NS),
    )
