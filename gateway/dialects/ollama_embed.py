"""Ollama's native embeddings, both generations of them.

Source: ollama v0.24.0, api/types.go, `EmbedRequest` and `EmbeddingRequest`, and
server/routes.go, their handlers.
"""

from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.messages import Embeddings
from gateway.dialects import embedding, fields, sampling
from gateway.dialects.base import EmbedParsed, ReplyHead
from gateway.dialects.draft import Draft, Fate, Parameter, Reading, Table, to_request
from gateway.dialects.ollama_parameters import OPTIONS, REQUIRED

INPUTS_MAX: Final = 2048

_NS: Final = 1e9


def _parsed(draft: Draft) -> EmbedParsed:
    if not draft.request.setdefault("inputs", ()):
        # No call is made that anything else could be said in.
        for name in sorted(draft.params - {"model", "input", "prompt"}):
            draft.ignore(name)
    return EmbedParsed(request=draft.finish_embed(), ignored=draft.ignored)


# --- Parameters with rules of their own ------------------------------------------

_NOTHING_ASKED: Final = "empty: the model is loaded, and no more"

_TEXT: Final = fields.text(1)
_PROMPT: Final = fields.text()


def _input(draft: Draft, value: Json, path: str) -> Fate:
    match value:
        case "" | []:
            draft.request["inputs"] = ()
        case str():
            draft.request["inputs"] = (value,)
        case list() if len(value) <= INPUTS_MAX:
            draft.request["inputs"] = tuple(
                [_TEXT(item, f"{path}[{index}]") for index, item in enumerate(value)]
            )
        case _:
            raise fields.invalid(path, f"a string or a list of up to {INPUTS_MAX} strings")
    return "asked"


def _prompt(draft: Draft, value: Json, path: str) -> Fate:
    prompt = _PROMPT(value, path)
    draft.request["inputs"] = (prompt,) if prompt else ()
    return "asked"


_DIMENSIONS: Final = fields.integer(0, embedding.DIMENSIONS_MAX)


def _dimensions(draft: Draft, value: Json, path: str) -> Fate:
    wanted = _DIMENSIONS(value, path)
    draft.request["dimensions"] = wanted or None
    return "asked" if wanted else "no-op"


_COMMON: Final[Table] = {
    "model": to_request("model", fields.model_name),
    "options": embedding.options(OPTIONS),
    "keep_alive": sampling.keep_alive,
}

EMBED: Final[Table] = {
    **_COMMON,
    "input": Parameter(
        _input,
        {
            "anyOf": [
                _PROMPT.schema,
                {"type": "array", "items": _TEXT.schema, "maxItems": INPUTS_MAX},
            ]
        },
        note=_NOTHING_ASKED,
    ),
    "truncate": to_request(
        "truncate",
        fields.boolean,
        no_op=True,
        note="true if it is left out: what is too long for the model is cut",
    ),
    "dimensions": Parameter(
        _dimensions, _DIMENSIONS.schema, note="0: as many as the model has, as without it"
    ),
}

EMBEDDINGS: Final[Table] = {
    **_COMMON,
    "prompt": Parameter(
        _prompt,
        _PROMPT.schema,
        note=f"{_NOTHING_ASKED}; the vector is of length 1, which Ollama's own here is not",
    ),
}


class OllamaEmbed(Reading):
    """POST /api/embed. See `EmbedDialect`."""

    parameters = EMBED
    required = REQUIRED
    json_only = False

    def parse(self, body: bytes | bytearray) -> EmbedParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        draft.request.setdefault("truncate", True)
        return _parsed(draft)

    def reply(self, parsed: EmbedParsed, head: ReplyHead, embeddings: Embeddings) -> bytes:
        more: dict[str, Json] = {}
        if embeddings.load_s is not None:
            more["load_duration"] = round(embeddings.load_s * _NS)
        if embeddings.prompt_tokens:
            more["prompt_eval_count"] = embeddings.prompt_tokens
        return b'{"model":%b,"embeddings":[%b]%b}' % (
            jsonio.quote(head.model),
            b",".join(map(embedding.numbers, embeddings.vectors)),
            b"".join(b",%b:%d" % (jsonio.quote(name), count) for name, count in more.items()),
        )


class OllamaEmbeddings(Reading):
    """POST /api/embeddings, one text at a time. See `EmbedDialect`."""

    parameters = EMBEDDINGS
    required = REQUIRED
    json_only = False

    def parse(self, body: bytes | bytearray) -> EmbedParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        return _parsed(draft)

    def reply(self, parsed: EmbedParsed, head: ReplyHead, embeddings: Embeddings) -> bytes:
        vector = embeddings.vectors[0] if embeddings.vectors else ()
        return b'{"embedding":%b}' % embedding.numbers(vector)
