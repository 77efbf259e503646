"""OpenAI's embeddings: what a request may hold, and how its vectors are written.

`PARAMETERS` is the whole of it: each parameter that OpenAI documents, and the
extensions we take from Ollama.

Source: openai-python 3.54, types/embedding_create_params.py and
types/create_embedding_response.py; its client decodes base64 as float32, little endian.
"""

from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings
from gateway.dialects import embedding, fields, sampling
from gateway.dialects.base import EmbedParsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    to_request,
    without_effect,
)

INPUTS_MAX: Final = 2048


@attrs.frozen(kw_only=True)
class EmbeddingsParsed(EmbedParsed):
    """Embeddings as they were asked for.

    Attributes:
        base64: The caller wants each vector as base64, not as numbers.
    """

    base64: bool = False


# --- Parameters with rules of their own ------------------------------------------

_TEXT: Final = fields.text(1)


def _input(draft: Draft, value: Json, path: str) -> Fate:
    draft.request["inputs"] = _inputs(value, path)
    return "asked"


def _inputs(value: Json, path: str) -> tuple[str | tuple[int, ...], ...]:
    match value:
        case str() | [int(), *_]:
            return (_one(value, path),)
        case [_, *_] if len(value) <= INPUTS_MAX:
            inputs = tuple([_one(item, f"{path}[{index}]") for index, item in enumerate(value)])
            if len(set(map(type, inputs))) == 1:
                return inputs
    raise fields.invalid(
        path,
        f"a string, a list of tokens, or a list of 1 to {INPUTS_MAX} of the one or of the other",
    )


def _one(value: Json, path: str) -> str | tuple[int, ...]:
    """One text or one list of tokens. Of an empty one there is no vector."""
    match value:
        case str():
            return _TEXT(value, path)
        case [_, *_] if fields.is_tokens(value):
            return tuple(value)
    raise fields.invalid(path, "a non-empty string or a non-empty list of tokens")


def _encoding_format(draft: Draft, value: Json, path: str) -> Fate:
    draft.notes["encoding_format"] = _ENCODING(value, path)
    return "no-op"


_ENCODING: Final = fields.one_of({"float": "float", "base64": "base64"})

_REQUIRED: Final = {
    "model": "the name of a model, or 'default'",
    "input": "a text, a list of tokens, or a list of these",
}

PARAMETERS: Final[Table] = {
    "model": to_request("model", fields.model_name),
    "input": Parameter(
        _input,
        {
            "anyOf": [
                _TEXT.schema,
                fields.TOKENS,
                {
                    "type": "array",
                    "items": {"anyOf": [_TEXT.schema, fields.TOKENS]},
                    "minItems": 1,
                    "maxItems": INPUTS_MAX,
                },
            ]
        },
        note="tokens are of the model's own vocabulary; not every engine takes them",
    ),
    "dimensions": to_request(
        "dimensions",
        fields.integer(1, embedding.DIMENSIONS_MAX),
        note="for models that were trained for it",
    ),
    "encoding_format": Parameter(
        _encoding_format, _ENCODING.schema, note="float if it is left out"
    ),
    # Ollama's.
    "truncate": to_request(
        "truncate",
        fields.boolean,
        no_op=False,
        note="cut what is too long for the model, instead of refusing it",
    ),
    "options": embedding.options(sampling.SAMPLING),
    "keep_alive": sampling.keep_alive,
    # No engine of ours honours it.
    "user": without_effect(fields.text(0, 4096)),
}


class OpenAIEmbeddings(Reading):
    """POST /v1/embeddings. See `EmbedDialect`."""

    parameters = PARAMETERS
    required = _REQUIRED

    def parse(self, body: bytes | bytearray) -> EmbeddingsParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        return EmbeddingsParsed(
            request=draft.finish_embed(),
            ignored=draft.ignored,
            base64=draft.notes.get("encoding_format") == "base64",
        )

    def reply(self, parsed: EmbeddingsParsed, head: ReplyHead, embeddings: Embeddings) -> bytes:
        written = embedding.base64 if parsed.base64 else embedding.numbers
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%b}' % (index, written(vector))
            for index, vector in enumerate(embeddings.vectors)
        )
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
            data,
            jsonio.quote(head.model),
            jsonio.dumps(
                {
                    "prompt_tokens": embeddings.prompt_tokens,
                    "total_tokens": embeddings.prompt_tokens,
                }
            ),
        )
